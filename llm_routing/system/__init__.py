"""The operating system: files, event loops and forks."""
