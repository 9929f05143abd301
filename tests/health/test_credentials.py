"""A credential that its provider refuses is out of use, everywhere, until it may be good again."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import httpx
import pytest
from asgiref.sync import sync_to_async

from llm_routing import BaseLLMRouter, close_routers, get_llm_router
from llm_routing.configuration.credentials import HeaderCredential, ProviderCredentials
from llm_routing.configuration.snapshot import CurrentCredentials
from llm_routing.configuration.source import snapshot_source
from llm_routing.core.breaker import BreakerRules, BreakerState, Rejected
from llm_routing.core.errors import (
    AllTargetsFailed,
    CredentialRejected,
    NoTargetAvailable,
    QuotaExhausted,
)
from llm_routing.factory import get_exposition
from llm_routing.health import credential_breakers as module
from llm_routing.health.credential_breakers import (
    CredentialBreakers,
    CredentialChange,
    CredentialPermit,
)
from llm_routing.health.monitor import HealthMonitor, health_monitor, reset_breakers
from llm_routing.models import ApiKey, BreakerReport, BreakerReset, Provider, UsageRecord
from tests.servers import Server, gateway_server
from tests.waiting import until

from .conftest import (
    KEY,
    MODELS,
    Answer,
    Upstream,
    add_provider,
    add_route,
    completion,
    eventually,
)

FIRST, SECOND = "/first/chat/completions", "/second/chat/completions"
REFUSED = Answer(401, {"error": {"message": "Incorrect API key provided."}})
EMPTY = Answer(
    429, {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}
)
GOOD = Answer(body=completion())


@pytest.fixture
def two(clean_process: None, upstream: Upstream) -> Upstream:
    """The route `debugging` over `first` and then `second`; `documentation` begins with another
    model of `first`."""
    upstream.needs_key = False
    for name in ("first", "second"):
        add_provider(name, f"{upstream.url}/{name}")
        upstream.answers[f"/{name}/models"] = Answer(body=MODELS)
        upstream.answers[f"/{name}/chat/completions"] = GOOD
    add_route("first/alpha", "second/alpha")
    add_route("first/beta", "second/beta", use_case="documentation")
    return upstream


@pytest.fixture
async def router(two: Upstream) -> AsyncIterator[BaseLLMRouter]:
    yield await get_llm_router()
    await close_routers()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes after a second."""
    rules = BreakerRules(
        window_calls=1, minimum_calls=1, failure_rate=1.0, open_time=1.0, max_open_time=2.0
    )
    monkeypatch.setattr(module, "RULES", rules)


async def ask(router: BaseLLMRouter, use_case: str = "debugging") -> str:
    """Returns the provider that answered."""
    return (await router.complete("Hi", use_case=use_case)).provider


def may_be_probed() -> bool:
    """Whether the credential of `first` may be tried again."""
    statuses = health_monitor.credential_breakers.statuses()
    return statuses["first"].state is BreakerState.HALF_OPEN


@pytest.mark.parametrize("answer", [REFUSED, Answer(403, REFUSED.body), EMPTY])
async def test_a_rejected_key_is_not_sent_again_for_any_model(
    router: BaseLLMRouter, two: Upstream, answer: Answer
) -> None:
    two.answers[FIRST] = answer
    for _ in range(5):
        assert await ask(router) == "second"
        assert await ask(router, "documentation") == "second"
    assert two.count(FIRST) == 1
    answered = await router.complete("Hi", use_case="debugging")
    assert [tried.error_code for tried in answered.routing.attempts] == ["breaker_open", ""]
    await close_routers()
    assert await UsageRecord.objects.filter(provider="first").acount() == 1


async def test_callers_never_learn_that_a_provider_key_was_rejected(
    router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers[FIRST] = REFUSED
    with pytest.raises(AllTargetsFailed) as first:
        await router.complete("Hi", model_override="first/alpha")
    assert (first.value.http_status, two.count(FIRST)) == (502, 1)
    with pytest.raises(NoTargetAvailable) as then:
        await router.complete("Hi", model_override="first/beta")
    assert (then.value.http_status, two.count(FIRST)) == (503, 1)
    assert then.value.retry_after is not None
    assert 40 < then.value.retry_after < 80
    assert KEY not in f"{first.value}{then.value}"


async def test_another_key_is_used_with_the_next_request(
    router: BaseLLMRouter, two: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    two.answers[FIRST] = Answer(401, REFUSED.body, delay=0.2)
    # Refusals that come at once are one event, and no fault of the models'.
    assert set(await asyncio.gather(*(ask(router) for _ in range(20)))) == {"second"}
    two.answers[FIRST] = GOOD
    assert await ask(router) == "second"
    row = await Provider.objects.aget(name="first")
    row.set_api_key("sk-another-0123456789abcdef")
    await row.asave()
    assert await ask(router) == "first"
    await eventually(lambda: "has a new credential" in caplog.text)
    assert not health_monitor.credential_breakers.statuses()


async def test_one_probe_succeeds_and_the_other_processes_learn_of_it(
    brief: None, router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers[FIRST] = EMPTY
    assert await ask(router) == "second"
    probed = threading.Event()
    two.answers[FIRST] = Answer(body=completion(), hold=probed)
    await eventually(may_be_probed)
    crowd = [asyncio.create_task(ask(router)) for _ in range(20)]
    await eventually(lambda: sum(task.done() for task in crowd) == 19)
    probed.set()
    assert sorted(await asyncio.gather(*crowd)) == ["first"] + ["second"] * 19
    assert two.count(FIRST) == 2
    assert await ask(router) == "first"
    await eventually(BreakerReset.objects.filter(provider="first", model="").exists)


async def test_a_probe_that_fails_for_another_reason_allows_the_next_one(
    brief: None, router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers[FIRST] = EMPTY
    await ask(router)
    two.answers[FIRST] = Answer(500, {"error": {"message": "Broken."}})
    await eventually(may_be_probed)
    assert await ask(router) == "second"
    two.answers[FIRST] = GOOD
    assert await ask(router) == "first"


async def test_it_is_logged_once_and_shown_without_the_key(
    router: BaseLLMRouter,
    two: Upstream,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIRST_KEY", "sk-named-0123456789abcdef")
    await Provider.objects.filter(name="first").aupdate(api_key_env="FIRST_KEY")
    two.answers[FIRST] = REFUSED
    for _ in range(3):
        await ask(router)
    await eventually(BreakerReport.objects.filter(provider="first", model="").exists)
    alerts = [record for record in caplog.records if record.levelno == logging.ERROR]
    (alert,) = (record.getMessage() for record in alerts)
    assert alert.startswith("The credential of provider first is disabled: credential_rejected.")
    assert "FIRST_KEY" in alert
    status = await router.get_health_status()
    first = status["providers"]["first"]
    assert (status["status"], first["status"]) == ("degraded", "unhealthy")
    assert first["credential"]["state"] == "open"
    assert first["credential"]["cause"] == "credential_rejected"
    text = (await get_exposition()).text("")[0].decode()
    assert 'llm_routing_credential_out{provider="first"} 1.0' in text
    report = await BreakerReport.objects.aget(provider="first")
    for shown in (caplog.text, str(status), text, str(vars(report))):
        assert "0123456789abcdef" not in shown

    # An operator knows better.
    two.answers[FIRST] = GOOD
    await sync_to_async(reset_breakers)([("first", "")], "ada")
    assert await ask(router) == "first"
    await eventually(lambda: "was reset" in caplog.text)
    text = (await get_exposition()).text("")[0].decode()
    assert 'llm_routing_credential_out{provider="first"} 0.0' in text


async def test_a_process_believes_the_others_until_one_of_them_finds_it_good_again(
    brief: None, router: BaseLLMRouter, two: Upstream
) -> None:
    two.answers[FIRST] = REFUSED
    await ask(router)
    await eventually(BreakerReport.objects.filter(provider="first", model="").exists)
    other = HealthMonitor()
    same_key = CurrentCredentials(snapshot_source)
    other.credential_breakers.add_store(same_key)
    await sync_to_async(other.sync)()
    found = other.credential_breakers.statuses()["first"]
    assert (found.state, found.cause) == (BreakerState.OPEN, "credential_rejected")
    another_key = HealthMonitor()
    store = ProviderCredentials({"first": HeaderCredential({"authorization": "Bearer sk-mine"})})
    another_key.credential_breakers.add_store(store)
    await sync_to_async(another_key.sync)()
    assert not another_key.credential_breakers.statuses()

    two.answers[FIRST] = GOOD
    await eventually(may_be_probed)
    assert await ask(router) == "first"
    await eventually(BreakerReset.objects.filter(provider="first", model="").exists)
    await sync_to_async(other.sync)()
    assert not other.credential_breakers.statuses()


async def test_an_ending_process_deletes_its_report(router: BaseLLMRouter, two: Upstream) -> None:
    two.answers[FIRST] = REFUSED
    await ask(router)
    await eventually(BreakerReport.objects.exists)
    await close_routers()
    assert await BreakerReport.objects.acount() == 0


class Process:
    """The credential breakers of a process that has one key, at a time of the test's."""

    def __init__(self, key: str = "sk-one") -> None:
        self.now = 1000.0
        self.breakers = CredentialBreakers(lambda: self.now, Random(1))
        self.use(key)

    def use(self, key: str) -> None:
        self.credential = HeaderCredential({"authorization": f"Bearer {key}"}, "SOME_KEY")
        self.store = ProviderCredentials({"p": self.credential})
        self.breakers.add_store(self.store)

    def admit(self) -> CredentialPermit | Rejected:
        return self.breakers.admit("p", self.credential)

    def permit(self) -> CredentialPermit:
        admitted = self.admit()
        assert isinstance(admitted, CredentialPermit)
        return admitted

    def wait(self) -> float:
        return self.breakers.statuses()["p"].retry_after


def test_the_time_until_a_probe_doubles_up_to_an_hour() -> None:
    process = Process()
    waits = []
    for _ in range(9):
        process.permit().refuse(CredentialRejected("No."))
        waits.append(process.wait())
        assert isinstance(process.admit(), Rejected)
        process.now += waits[-1]
    for doublings, wait in enumerate(waits[:6]):
        assert 0.8 <= wait / (60 * 2**doublings) <= 1.2
    assert waits[-1] == 3600
    assert [event.change for event in process.breakers.drain_events()] == [
        CredentialChange.DISABLED
    ]


def test_the_provider_s_retry_after_is_respected() -> None:
    process = Process()
    process.permit().refuse(QuotaExhausted("No.", retry_after=600))
    assert process.wait() == 600


def test_a_late_answer_to_a_replaced_key_does_not_affect_the_new_one() -> None:
    process = Process()
    late = process.permit()
    process.use("sk-two")
    late.refuse(CredentialRejected("No."))
    process.permit().succeed()
    assert process.breakers.drain_events() == ()


def test_without_a_credential_there_is_nothing_to_take_out() -> None:
    process = Process()
    admitted = process.breakers.admit("p", None)
    assert isinstance(admitted, CredentialPermit)
    admitted.refuse(CredentialRejected("No."))
    assert not process.breakers.statuses()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DISABLED", 2)
    process = Process()
    names = ("a", "b", "c")
    store = ProviderCredentials(dict.fromkeys(names, process.credential))
    process.breakers.add_store(store)
    for name in names:
        admitted = process.breakers.admit(name, process.credential)
        assert isinstance(admitted, CredentialPermit)
        admitted.refuse(CredentialRejected("No."))
    assert set(process.breakers.statuses()) == {"b", "c"}


def test_servers_with_one_database_share_disabled_keys(
    two: Upstream, command_env: dict[str, str], tmp_path: Path
) -> None:
    two.answers[FIRST] = REFUSED
    headers = {"Authorization": f"Bearer {ApiKey.objects.issue('tests')[1]}"}
    body = {"model": "debugging", "messages": [{"role": "user", "content": "Hi"}]}

    def ask(server: Server) -> None:
        answer = httpx.post(
            f"{server.url}/v1/chat/completions", headers=headers, json=body, trust_env=False
        )
        assert answer.status_code == 200

    def state(server: Server) -> str:
        health = httpx.get(f"{server.url}/api/llm/health", headers=headers, trust_env=False)
        return str(health.json()["providers"]["first"]["credential"]["state"])

    with (
        gateway_server(command_env, tmp_path / "one") as one,
        gateway_server(command_env, tmp_path / "other") as other,
    ):
        for _ in range(3):
            ask(one)
        until(lambda: state(other) == "open")
        for _ in range(3):
            ask(other)
        assert (two.count(FIRST), two.count(SECOND)) == (1, 6)
        assert one.output().count("The credential of provider first is disabled") == 1
        assert "is disabled" not in other.output()

        two.answers[FIRST] = GOOD
        reset_breakers([("first", "")], "ada")
        until(lambda: (state(one), state(other)) == ("closed", "closed"))
        for server in (one, other):
            ask(server)
            assert KEY not in server.output()
        assert two.count(FIRST) == 3
