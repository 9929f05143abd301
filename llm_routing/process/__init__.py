"""What a process has one of: the background thread and the limits on its requests."""
