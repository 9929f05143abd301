"""Integrations with other Django apps. Nothing here is imported unless the project asks for it."""
