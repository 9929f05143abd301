"""Objects of which a process has one: the background thread and the limits on its requests."""
