"""Health: what checks and live traffic say about each target, and the sweep that checks them.

The planner reads the outcome from memory; what follows from a failing call itself is the circuit
breaker's (`core.breaker`).
"""
