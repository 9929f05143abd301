"""All code that relies on internals of uvicorn. Outside the tested releases it is disabled, and
uvicorn serves unmodified."""
