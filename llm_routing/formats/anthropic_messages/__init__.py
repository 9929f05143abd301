"""Anthropic Messages, toward callers and toward vendors."""
