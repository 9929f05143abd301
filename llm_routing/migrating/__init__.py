"""Configurations of other routers, moved here: readers make a plan, the writer writes it.

`mappings` reads an old hard-coded router's, `litellm` that of LiteLLM's proxy.
"""
