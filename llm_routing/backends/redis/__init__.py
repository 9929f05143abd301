"""Redis: connections, cached responses and shared circuit breakers."""
