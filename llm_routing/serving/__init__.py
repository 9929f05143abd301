"""Between the application and its server: sending, start-up, shutdown and limits."""
