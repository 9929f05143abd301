"""API keys: which are accepted, and how refused ones are counted and throttled."""
