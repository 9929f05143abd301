"""The benchmark's arithmetic: what it reads from /proc, from wrk and from a stream."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.client import Connection
from bench.measure import (
    Latency,
    cpu_seconds,
    latency,
    memory_mb,
    parse_stat,
    percentile,
    processes,
    resident_bytes,
)
from bench.paced import Paced
from bench.plain import Open, closed_outcome
from bench.scenarios import median_window
from bench.streams import Frames
from bench.targets import ID, Target, plain_body, stream_body


def test_a_percentile_is_a_value_of_the_sample():
    ordered = [float(n) for n in range(1, 101)]

    assert [percentile(ordered, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_latencies_come_in_any_order_and_are_told_over_the_floor():
    found = latency([9.0, 1.0, 5.0])

    assert found == Latency(5.0, 9.0, 9.0)
    assert found.over(Latency(1.0, 2.0, 3.0)) == Latency(4.0, 7.0, 6.0)


def test_the_name_of_a_process_may_hold_anything():
    line = "42 (a) b (c d) S 1 2 7 0 -1 4194560 10 20 30 40 100 20 3 4 20 0 1 0 99 1000 5"

    stat = parse_stat(line)

    assert (stat.pid, stat.session) == (42, 7)
    assert stat.ticks == 100 + 20 + 3 + 4  # its own, and its children's that have ended


def test_resident_memory_is_read_in_bytes():
    assert resident_bytes("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n") == 1234 * 1024
    assert resident_bytes("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_cpu_and_memory_are_those_of_all_processes_of_a_session():
    script = (
        "import subprocess, sys, time\n"
        "burn = 'import time\\nwhile time.process_time() < 0.3: pass'\n"
        "subprocess.run([sys.executable, '-c', burn], check=True)\n"
        "sleep = 'import time; print(1, flush=True); time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', sleep]).wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    try:
        parent.stdout.readline()
        both = list(processes(parent.pid))
        alone = resident_bytes(Path(f"/proc/{parent.pid}/status").read_text()) / 1e6

        assert len(both) == 2
        # The child that burnt it has ended. Each count is rounded down to a tick.
        assert cpu_seconds(parent.pid) >= 0.25
        assert memory_mb(parent.pid) > alone
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()
        parent.stdout.close()


def wrk(requests, errors=0):
    line = {"requests": requests, "seconds": 2.0, "errors": errors, "p50": 1, "p95": 2, "p99": 3}
    return f"Running 2s test @ http://127.0.0.1\n  1 threads\n\n{json.dumps(line)}\n"


def test_cpu_of_a_request_is_what_was_used_over_the_answers():
    closed = closed_outcome(wrk(4_000, errors=3), cpu=1.2)

    assert closed.cpu_us == pytest.approx(300)
    assert closed.rate == 2_000
    assert closed.errors == 3
    assert closed.latency == Latency(1, 2, 3)
    assert closed_outcome(wrk(0), cpu=1.2).cpu_us is None


def test_of_several_windows_the_one_in_the_middle_counts():
    windows = [closed_outcome(wrk(1_000), cpu=cpu) for cpu in (0.9, 0.3, 0.5)]

    assert median_window(windows) is windows[2]
    without = [closed_outcome(wrk(count), cpu=None) for count in (10, 1_000, 500)]
    assert median_window(without) is without[2]


def test_a_rate_is_held_where_all_but_a_hundredth_is_answered():
    nothing = Latency(0, 0, 0)

    assert Open(200, 1_000, 990, nothing).is_held
    assert not Open(200, 1_000, 989, nothing).is_held


@pytest.mark.parametrize(
    ("delivered", "seconds", "is_whole"), [(100, 5.9, True), (99, 5.0, False), (100, 6.1, False)]
)
def test_streams_count_where_every_frame_came_in_time(delivered, seconds, is_whole):
    step = Frames(
        streams=10,
        frames=60,
        cpu_us=None,
        delivered=delivered,
        expected=100,
        seconds=seconds,
        planned_seconds=4.0,
    )

    assert step.is_whole is is_whole


def test_no_two_prompts_are_equal_and_all_bodies_have_one_length():
    target = Target("http://127.0.0.1:1/v1/chat/completions", ["a"], ["sk-1", "sk-2"])

    requests = [target.raw_request(plain_body(), f"{n:09}", n) for n in range(2)]

    assert requests[0] != requests[1]
    assert len(requests[0]) == len(requests[1])
    assert b"Bearer sk-1" in requests[0]
    assert b"Bearer sk-2" in requests[1]
    assert ID not in plain_body(is_same=True)
    assert len(plain_body(100_000)) == pytest.approx(100_000, abs=200)


async def test_every_frame_of_a_paced_stream_is_counted_wherever_the_network_cuts():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Paced, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    target = Target(f"http://{host}:{port}/v1/chat/completions", ["bench"])
    connection = await Connection.open(*target.address)
    try:
        started = time.perf_counter()
        status = await connection.ask(target.raw_request(stream_body(5, 10), "1"))

        assert (status, connection.words) == (200, 5)
        assert connection.first_word_at is not None
        assert started < connection.first_word_at < time.perf_counter()

        connection.words = 0
        for piece in (b'"zq', b'z"', b"z", b"q", b"z", b"zqz zqz"):
            connection.on_body(piece)
        assert connection.words == 4
    finally:
        connection.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)
