"""The Django project that ships with `llm_routing`: settings from the environment, nothing more."""
