"""Requests whose first target always fails in one way, for each kind of failure."""

import asyncio
import gzip
import json
from dataclasses import dataclass
from typing import Any

import pytest

from .callers import CALLERS, Anthropic, Caller, Reply
from .conftest import Bench
from .upstream import (
    Act,
    body,
    bytes_then_close,
    cut_after,
    endless,
    head,
    reset,
)

VENDORS = {
    "openai": ("alpha", "beta", "debugging"),
    "anthropic": ("opus", "sonnet", "debugging:premium"),
}
ERROR_PAGE = b"<!doctype html><title>502 Bad Gateway</title>"
ENDLESS_CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Failure:
    """What the first target does, as a directive for the sandbox or as bytes. `asked` is how often
    it may be asked before the next target answers; `code` is how each attempt is accounted.
    `whole_only`: a streamed answer is broken by it where the caller has read from it."""

    does: str | Act
    code: str
    asked: tuple[int, ...] = (1,)
    billed: bool = False
    whole_only: bool = False
    vendors: tuple[str, ...] = ("openai", "anthropic")

    def codes(self, caller: Caller) -> set[str]:
        """Broken JSON that is streamed may be seen as it, or as a stream without an end."""
        is_either = caller.stream and self.code in ("malformed_answer", "answer_too_large")
        return {self.code, "truncated_stream"} if is_either else {self.code}


RETRIED = (2, 3)
MAYBE = (1, 2, 3)

FAILURES = {
    "500": Failure("status=500", "server_failed", RETRIED),
    "502": Failure("status=502", "server_failed", RETRIED),
    "503": Failure("status=503", "upstream_overloaded", RETRIED),
    "529": Failure("status=529", "upstream_overloaded", RETRIED),
    "a page in place of an error": Failure("status=502 html", "server_failed", RETRIED),
    "no answer": Failure("disconnect", "connection_lost", RETRIED, billed=True),
    "RST": Failure(reset, "connection_lost", RETRIED, billed=True),
    "half a head": Failure(
        bytes_then_close(b"HTTP/1.1 200 OK\r\nContent-"), "connection_lost", RETRIED, billed=True
    ),
    "401": Failure("status=401", "credential_rejected"),
    "403": Failure("status=403", "credential_rejected"),
    "402": Failure("status=402", "quota_exhausted"),
    "404": Failure("status=404", "request_rejected"),
    "408": Failure("status=408", "upstream_timeout", MAYBE, billed=True),
    "429, come back in a minute": Failure("status=429 retry_after=60", "rate_limited"),
    "429, come back tomorrow": Failure("status=429 retry_after=86400", "rate_limited"),
    "redirect": Failure("redirect=/elsewhere", "server_failed", MAYBE),
    "a page in place of an answer": Failure("html", "malformed_answer", MAYBE, billed=True),
    "no choices": Failure(
        # Anthropic does answer without a word at times.
        "empty_choices",
        "malformed_answer",
        MAYBE,
        billed=True,
        vendors=("openai",),
    ),
    "JSON cut off": Failure(
        "truncate_json", "malformed_answer", MAYBE, billed=True, whole_only=True
    ),
    "an error inside a 200": Failure("error_in_200 code=api_error", "server_failed", MAYBE),
    "cut before the first word": Failure("cut_after=0", "connection_lost", RETRIED, billed=True),
    "no body": Failure(body(b""), "malformed_answer", MAYBE, billed=True),
    "JSON that is no answer": Failure(
        body(b'{"a": [1, null]}'), "malformed_answer", MAYBE, billed=True
    ),
    "deep JSON": Failure(body(b"[" * 100_000), "answer_too_large", MAYBE, billed=True),
    "no UTF-8": Failure(body(b"\xff\xfe\x00{}"), "malformed_answer", MAYBE, billed=True),
    "not HTTP": Failure(
        bytes_then_close(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "malformed_answer", MAYBE, billed=True
    ),
    "a header without end": Failure(
        endless(b"HTTP/1.1 200 OK\r\nX: ", b"a" * 1000), "malformed_answer", MAYBE, billed=True
    ),
    "headers without end": Failure(
        endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n" * 100),
        "malformed_answer",
        MAYBE,
        billed=True,
    ),
    "interim answers without end": Failure(
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4000),
        "malformed_answer",
        MAYBE,
        billed=True,
    ),
    "two lengths": Failure(
        bytes_then_close(head("Content-Length: 2", "Content-Length: 5") + b"{}"),
        "malformed_answer",
        MAYBE,
        billed=True,
    ),
    "a body without end": Failure(
        endless(head("Transfer-Encoding: chunked"), ENDLESS_CHUNK), "answer_too_large", billed=True
    ),
    "an event without end": Failure(
        endless(
            head("Transfer-Encoding: chunked", stream=True) + b"6\r\ndata: \r\n", ENDLESS_CHUNK
        ),
        "answer_too_large",
        billed=True,
    ),
    "a compression bomb": Failure(
        body(gzip.compress(b"\0" * 50_000_000, mtime=0), "Content-Encoding: gzip"),
        "answer_too_large",
        billed=True,
    ),
    "a compression that is none": Failure(
        body(b"{}", "Content-Encoding: gzip"), "malformed_answer", MAYBE, billed=True
    ),
}
QUICK = ("500", "RST", "401", "404", "JSON cut off", "headers without end", "a compression bomb")


def cases() -> list[Any]:
    found = []
    for name, failure in FAILURES.items():
        for vendor in failure.vendors:
            is_quick = name in QUICK and vendor == "openai"
            marks = () if is_quick else pytest.mark.faults
            found.append(pytest.param(failure, vendor, marks=marks, id=f"{name}-{vendor}"))
    return found


@pytest.mark.parametrize(("failure", "vendor"), cases())
async def test_the_next_target_answers(bench: Bench, failure: Failure, vendor: str) -> None:
    first, second, model = VENDORS[vendor]
    faults = ""
    if isinstance(failure.does, str):
        faults = f"[[{failure.does} model={first}]]"
    else:
        await bench.break_with(failure.does, first)
    callers = [caller for caller in CALLERS if not (failure.whole_only and caller.stream)]
    replies = await asyncio.gather(
        *(bench.ask(caller, model, faults=faults, deadline=10) for caller in callers)
    )
    for caller, reply in zip(callers, replies, strict=True):
        assert reply.status == 200, (caller, reply.body)
        assert reply.is_whole, (caller, reply.body)
        assert not reply.error
        assert reply.headers["x-llm-model"] == second
        *failed, good = await bench.records(reply)
        codes = {record.error_code for record in failed}
        assert codes <= failure.codes(caller), (caller, codes)
        assert len(failed) in failure.asked, (caller, len(failed))
        assert {record.model for record in failed} == {first}
        assert (good.model, good.outcome) == (second, "success")
        assert int(reply.headers["x-llm-attempts"]) == len(failed) + 1
        assert all((record.input_tokens > 0) == failure.billed for record in failed), caller


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first target rejects the request itself, and the caller gets an error."""

    does: str
    code: str
    names: tuple[str, ...]


REFUSALS = {
    "400": Refusal(
        'status=400 message="the flux is wrong"', "request_rejected", ("request_rejected",)
    ),
    "422": Refusal(
        'status=422 message="the flux is wrong"', "request_rejected", ("request_rejected",)
    ),
    "content filter": Refusal(
        'status=400 code=content_filter message="blocked by content filtering policy, the flux"',
        "content_filtered",
        ("content_filtered", "content_filter", "content_policy_violation"),
    ),
}


@pytest.mark.parametrize(
    ("refusal", "vendor"),
    [
        pytest.param(
            refusal,
            vendor,
            id=f"{name}-{vendor}",
            marks=() if (name, vendor) == ("400", "openai") else pytest.mark.faults,
        )
        for name, refusal in REFUSALS.items()
        for vendor in VENDORS
    ],
)
async def test_a_rejected_request_is_reported_to_the_caller_with_the_reason(
    bench: Bench, refusal: Refusal, vendor: str
) -> None:
    first, _, model = VENDORS[vendor]
    faults = f"[[{refusal.does} model={first}]]"
    for caller in CALLERS:
        reply = await bench.ask(caller, model, faults=faults, deadline=10)
        if refusal.code == "request_rejected" and isinstance(caller, Anthropic) == (
            vendor == "openai"
        ):
            # The gateway wrote what this vendor refuses.
            assert reply.status == 200, (caller, reply.body)
            refused, good = await bench.records(reply)
            assert (refused.error_code, good.outcome) == (refusal.code, "success")
            continue
        assert reply.status == 400, (caller, reply.body)
        assert reply.error in refusal.names
        assert "the flux" in reply.body.decode()
        (record,) = await bench.records(reply)
        assert (record.model, record.error_code) == (first, refusal.code)
        assert record.cost is None


@pytest.mark.parametrize("status", [401, 403, 402])
@pytest.mark.faults
async def test_a_rejected_provider_key_is_not_reported_as_the_callers_fault(
    bench: Bench, status: int
) -> None:
    for caller in CALLERS:
        faults = f"[[status={status}]]"
        reply = await bench.ask(caller, "debugging:economy", faults=faults, deadline=10)
        assert reply.status in (502, 503), (caller, reply.body)
        # The first to meet it may be the only one: the credential is out then.
        assert bench.sandbox.journal.received <= len(CALLERS)
    assert bench.sandbox.journal.received >= 1


@pytest.mark.faults
async def test_the_error_lists_the_attempts_if_all_targets_fail(bench: Bench) -> None:
    for caller in CALLERS:
        reply = await bench.ask(caller, faults="[[status=500]]", deadline=10)
        assert (reply.status, reply.error) == (502, "all_targets_failed"), reply.body
        tried = await bench.asked(reply)
        assert set(tried) == {"alpha", "beta"}
        assert len(tried) <= 4
        assert "server_failed" in reply.body.decode()


async def test_at_most_four_attempts_are_made_with_any_number_of_targets(bench: Bench) -> None:
    for caller in CALLERS:
        reply = await bench.ask(caller, "chat_conversation", faults="[[status=500]]", deadline=20)
        assert reply.status == 502
        assert len(await bench.asked(reply)) == 4


@pytest.mark.faults
async def test_a_redirect_is_not_followed(bench: Bench) -> None:
    await bench.break_with(
        body(b"", f"Location: {bench.sandbox.url}/v1/chat/completions", status="307 Moved"), "alpha"
    )
    for caller in CALLERS:
        reply = await bench.ask(caller, deadline=10)
        assert reply.status == 200
        assert reply.headers["x-llm-model"] == "beta"
    assert {each.path for each in bench.raw.log} == {"/v1/chat/completions"}
    assert {entry.model for entry in bench.sandbox.journal.entries} == {"beta"}


async def test_a_prompt_that_is_too_long_goes_to_larger_context_windows_only(bench: Bench) -> None:
    from llm_routing.models import ModelConfig

    windows = {"alpha": 8_000, "beta": 4_000, "gamma": 8_000, "delta": 100_000}
    for name, window in windows.items():
        await ModelConfig.objects.filter(model_id=name).aupdate(context_window=window)
    faults = "[[status=400 code=context_length_exceeded model=alpha]]"
    for caller in CALLERS:
        reply = await bench.ask(caller, "chat_conversation", faults=faults, deadline=10)
        assert reply.status == 200, (caller, reply.body)
        assert await bench.asked(reply) == ["alpha", "delta"], caller


@pytest.mark.faults
async def test_a_prompt_that_is_too_long_goes_to_unknown_context_windows(bench: Bench) -> None:
    from llm_routing.models import ModelConfig

    await ModelConfig.objects.filter(model_id="alpha").aupdate(context_window=8_000)
    faults = "[[status=400 code=context_length_exceeded model=alpha]]"
    for caller in CALLERS:
        reply = await bench.ask(caller, faults=faults, deadline=10)
        assert await bench.asked(reply) == ["alpha", "beta"], caller
        assert reply.headers["x-llm-model"] == "beta"


@pytest.mark.faults
async def test_a_prompt_too_long_for_every_context_window_is_reported_as_such(bench: Bench) -> None:
    from llm_routing.models import ModelConfig

    await ModelConfig.objects.filter(model_id="alpha").aupdate(context_window=8_000)
    await ModelConfig.objects.filter(model_id="beta").aupdate(context_window=4_000)
    faults = "[[status=400 code=context_length_exceeded model=alpha]]"
    for caller in CALLERS:
        reply = await bench.ask(caller, faults=faults, deadline=10)
        assert reply.status == 400, (caller, reply.body)
        assert reply.error in ("context_too_long", "context_length_exceeded")
        assert await bench.asked(reply) == ["alpha"], caller


@pytest.mark.faults
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("with_reset", [False, True], ids=["FIN", "RST"])
async def test_an_answer_cut_at_any_byte_is_a_failure(
    bench: Bench, share: float, with_reset: bool
) -> None:
    for model in ("debugging", "debugging:premium"):
        first, second = ("alpha", "beta") if model == "debugging" else ("opus", "sonnet")
        await bench.break_with(cut_after(share, with_reset=with_reset), first)
        replies = await asyncio.gather(
            *(bench.ask(caller, model, deadline=10) for caller in CALLERS if not caller.stream)
        )
        assert {reply.headers["x-llm-model"] for reply in replies} == {second}


async def test_numbers_that_json_does_not_allow_reach_no_caller(
    bench: Bench,
) -> None:
    usage = {"prompt_tokens": 10**30, "completion_tokens": -5, "total_tokens": 1e308}
    choice = {"index": 0, "message": {"content": "\ud800 Hi"}, "finish_reason": "stop"}
    odd = json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()
    for data in (odd, odd.replace(b"1e+308", b"NaN"), odd.replace(b"1e+308", b"1" * 5000)):
        await bench.break_with(body(data), "alpha")
        for caller in CALLERS:
            if not caller.stream:
                reply: Reply = await bench.ask(caller, deadline=10)
                assert reply.status == 200, (data[-90:], reply.body)
