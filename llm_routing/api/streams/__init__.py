"""Streamed responses to HTTP callers."""
