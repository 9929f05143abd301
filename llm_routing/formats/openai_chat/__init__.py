"""OpenAI Chat Completions, toward callers and toward vendors."""
