"""The core of the gateway: types, planning and the attempt loop.

Depends only on the standard library, msgspec and pydantic; it knows no Django, network or clock.
"""
