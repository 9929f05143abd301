"""What the benchmark writes of what it measured."""

from xml.etree import ElementTree

import pytest

from bench.bars import bars
from bench.growth import (
    BARE_TITLE,
    BASE,
    FRAME_TITLE,
    PLAIN_TITLE,
    ROWS_AND_KEYS,
    SERVERS,
    Grown,
)
from bench.measure import Latency
from bench.plain import Closed, Open
from bench.report import Run, draw, markdown, show
from bench.scenarios import Measured
from bench.streams import Frames
from bench.table import as_markdown, as_text, number

TITLES = {
    "direct": "direct call",
    "bare": "bare",
    "ours": "ours",
    "portkey": "Portkey <1>",
    "litellm": "LiteLLM",
}


def closed(cpu_us, p99=10.0):
    return Closed(8_000, 4.0, 0, Latency(1.0, 2.0, p99), cpu_us)


def frames(cpu_us):
    return Frames(64, 1_000, cpu_us, 100, 100, 1.0, 1.0)


def measured(cpu_us, p99, frame_us=50.0, **more):
    plain = {1: closed(cpu_us), 8: closed(cpu_us, p99), 64: closed(cpu_us)}
    return Measured(plain=plain, frames=frames(frame_us), **more)


def a_run():
    found = {
        "direct": measured(None, 1.0, None),
        "bare": measured(300.0, 4.0, 40.0),
        "ours": measured(450.0, 6.0, 50.0, memory={"idle": 90.0}, start_seconds=1.5),
        "portkey": measured(2_250.0, 21.0, 100.0),
    }
    growth = [
        Grown(ROWS_AND_KEYS, BASE, closed(525.0), closed(500.0), 120.0, 2.0),
        Grown(SERVERS, BASE, closed(600.0), closed(500.0), 100.0, 2.0),
    ]
    return Run(TITLES, found, growth, {"litellm": "no\nnetwork"})


def test_each_bar_is_a_ratio_of_this_run():
    run = a_run()

    told = {bar.what: (bar.measured, bar.word) for bar in bars(run.found, run.growth)}

    assert told["CPU per plain request, to the bare Python pass-through"] == (
        1.5,
        "holds, the later one too",
    )
    assert told["CPU per plain request, to Portkey"] == (0.2, "holds, the later one too")
    assert told["CPU per plain request, to LiteLLM"] == (None, "not measured")
    assert told["added p99 at 8 connections, to Portkey"] == (0.25, "holds, the later one too")
    assert told["CPU per relayed stream frame, to the bare pass-through"] == (1.25, "holds")
    assert told["idle memory per worker"] == (90.0, "holds")
    growth = f"cost with {ROWS_AND_KEYS}, to that with 10"
    assert told[growth][0] == pytest.approx(1.05)
    assert told[f"cost with {SERVERS}, to in-memory"] == (1.2, "does not hold")


def test_what_ran_in_turns_counts_before_what_ran_minutes_apart():
    run = a_run()
    pairs = [
        Grown(PLAIN_TITLE, BARE_TITLE, closed(420.0), closed(300.0), 100.0, 2.0),
        Grown(FRAME_TITLE, BARE_TITLE, closed(44.0), closed(40.0), 100.0, 2.0),
    ]

    told = {bar.what: bar.measured for bar in bars(run.found, pairs)}

    assert told["CPU per plain request, to the bare Python pass-through"] == pytest.approx(1.4)
    assert told["CPU per relayed stream frame, to the bare pass-through"] == pytest.approx(1.1)


def test_a_bar_without_its_measurements_says_so():
    assert {bar.word for bar in bars({}, [])} == {"not measured"}


def test_the_table_has_a_column_for_each_system_and_adds_to_the_direct_call():
    text = show(a_run())

    head, *lines = text.splitlines()
    assert head.split("  ")[-1].strip() == "Portkey <1>"
    at_eight = next(line for line in lines if line.startswith("added ms, 8 connections"))
    assert "1 / 2 / 1" in at_eight  # the direct call, whole
    assert "0.00 / 0.00 / 5" in at_eight  # ours, over it
    assert "LiteLLM: absent: no\nnetwork" in text


def test_a_rate_that_was_not_held_is_said_instead_of_its_latency():
    run = a_run()
    run.found["bare"].rate = Open(200, 1_600, 400, Latency(1, 2, 3))

    assert "not held: 400 of 1600" in show(run)


@pytest.mark.parametrize(
    ("arrived", "text"), [((100, 100), "100+"), ((100, 99), "50"), ((99,), "<50")]
)
def test_the_most_streams_say_where_the_steps_began_or_ended(arrived, text):
    run = a_run()
    run.found["ours"].concurrency = [
        Frames(50 * 2**step, 0, None, delivered, 100, 1.0, 1.0)
        for step, delivered in enumerate(arrived)
    ]

    line = next(line for line in show(run).splitlines() if line.startswith("most streams"))

    assert text in line.split()


def test_the_page_has_machine_bars_growth_and_what_is_absent():
    run = a_run()

    page = markdown(run, [("machine", "a small one")])

    assert "- machine: a small one" in page
    assert "![" in page
    assert "LiteLLM is absent: `no network`" in page
    assert f"| {ROWS_AND_KEYS} | {BASE} | 525 | 500 | 1.05 |" in page
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_picture_is_a_drawing_of_every_bar_for_light_and_dark():
    drawing = draw(a_run())

    root = ElementTree.fromstring(drawing)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    widths = [float(bar.get("width", 0)) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert texts.count("Portkey <1>") == 3
    assert widths[2] / widths[0] == pytest.approx(2_250 / 300, rel=0.01)
    assert "prefers-color-scheme: dark" in drawing


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (12_345.6, "12 346"), (1.234, "1.23"), (0.001, "0.00")],
)
def test_numbers_have_three_digits_that_count(value, text):
    assert number(value) == text


def test_a_table_is_the_same_in_text_and_in_markdown():
    lines = [["what", "one"], ["long name", "12"]]

    assert as_text(lines) == "what       one\nlong name   12"
    assert as_markdown(lines) == "| what | one |\n| --- | ---: |\n| long name | 12 |"
