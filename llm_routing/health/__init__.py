"""Health of targets, from checks and live traffic, and the sweep that checks them.

The planner reads it from memory; the circuit breaker (`core.breaker`) reacts to failed calls.
"""
