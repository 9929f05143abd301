"""Imports configurations of other routers: readers make a plan, and the writer applies it.

`mappings` reads a hard-coded router, `litellm` the configuration of LiteLLM's proxy.
"""
