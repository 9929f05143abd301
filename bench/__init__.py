"""The benchmark: this gateway beside others, one machine, one upstream. `make bench` runs it."""
