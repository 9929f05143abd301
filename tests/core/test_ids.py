"""Ids are told apart, across threads and across a fork."""

import os
import re
import threading

from llm_routing.core.ids import new_id


def test_ids_are_32_hex_digits_and_all_different() -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(new_id() for _ in range(1_000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4_000
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in found)


def test_a_forked_child_has_ids_of_its_own() -> None:
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, " ".join(new_id() for _ in range(200)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = set(pipe.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 200
    assert not theirs & {new_id() for _ in range(200)}
