"""Recent latencies of targets."""

from llm_routing.core.attempts.latency import MAX_CALLS, MAX_KEYS, MIN_CALLS, WINDOW, Latencies


def test_a_quantile_needs_enough_calls() -> None:
    latencies = Latencies()
    for number in range(1, MIN_CALLS):
        latencies.note("a", 0.0, float(number))
    assert latencies.quantile("a", 0.5, 0.0) is None
    latencies.note("a", 0.0, float(MIN_CALLS))
    assert latencies.quantile("a", 0.5, 0.0) == MIN_CALLS / 2 + 1
    assert latencies.quantile("a", 0.95, 0.0) == MIN_CALLS
    assert latencies.quantile("a", 1.0, 0.0) == MIN_CALLS
    assert latencies.quantile("b", 0.5, 0.0) is None


def test_old_calls_are_forgotten() -> None:
    latencies = Latencies()
    for _ in range(MIN_CALLS):
        latencies.note("a", 0.0, 1.0)
    assert latencies.quantile("a", 0.5, WINDOW - 1) == 1.0
    assert latencies.quantile("a", 0.5, WINDOW) is None
    for _ in range(MAX_CALLS):
        latencies.note("a", 1.0, 9.0)
    assert latencies.quantile("a", 0.0, 1.0) == 9.0


def test_the_least_recently_used_targets_are_evicted() -> None:
    latencies = Latencies()
    for _ in range(MIN_CALLS):
        latencies.note("a", 0.0, 1.0)
    for number in range(MAX_KEYS):
        latencies.note(str(number), 0.0, 1.0)
    assert latencies.quantile("a", 0.5, 0.0) is None
