"""The pure heart of the gateway: types, planning and the attempt loop.

Standard library and pydantic only. Nothing here knows Django, the network or the clock.
"""
