"""All code that relies on internals of aiohttp. Outside the tested releases it is not imported, and
aiohttp's own client sends the requests: slower, otherwise the same."""
