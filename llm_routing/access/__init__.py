"""Who may call: API keys, and what happens to those that are refused."""
