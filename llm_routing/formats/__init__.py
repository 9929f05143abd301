"""Wire formats, sans-IO: each has a face toward callers and a face toward vendors.

A new format is one file and a row in `registry`. Nothing here opens a socket.
"""
