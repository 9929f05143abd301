"""API keys: which are good, and which were refused."""
