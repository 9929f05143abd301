"""All code that relies on internals of uvicorn. Outside the tested releases it switches itself off,
and uvicorn serves as it does without us."""
