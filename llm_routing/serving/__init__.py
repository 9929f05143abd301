"""How the application meets its server: sending, start-up, shutdown and limits."""
