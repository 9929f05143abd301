"""Ids are unique across threads."""

import re
import threading

from llm_routing.core.ids import forget, new_id


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


def test_discarded_ids_are_not_returned() -> None:
    first = new_id()
    forget()
    assert new_id()[:22] != first[:22]
