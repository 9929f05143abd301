"""The outside world without Django: HTTP clients and the clock behind the ports of the core."""
