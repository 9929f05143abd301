"""Calling the router from asynchronous, synchronous and forked code, and without `await`."""

import asyncio
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from llm_routing import close_routers, get_llm_router, get_llm_router_sync
from llm_routing.models import UsageRecord

from .conftest import Configuration

pytestmark = pytest.mark.usefixtures("clean_process")


@pytest.fixture
def closed():
    yield
    asyncio.run(close_routers())
    connections.close_all()


def test_using_the_router_without_await_explains_the_correct_code(
    configuration: Configuration,
) -> None:
    router = get_llm_router()
    with pytest.raises(TypeError, match=r"router = await get_llm_router\(\)"):
        router.complete("Hi")
    with pytest.raises(AttributeError):
        _ = router.no_such_thing


def test_synchronous_calls_share_one_background_event_loop(
    configuration: Configuration, closed: None
) -> None:
    router = get_llm_router_sync()
    assert router is get_llm_router_sync()
    assert "Hi" in router.complete_sync("Hi", use_case="debugging").content
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda n: router.complete_sync(f"no {n}.", use_case="debugging"), range(24))
        )
    assert all(f"no {n}." in answer.content for n, answer in enumerate(answers))
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("llm_routing_loop") == 1
    asyncio.run(close_routers())
    names = [thread.name for thread in threading.enumerate()]
    assert not {"llm_routing", "llm_routing_loop"} & set(names)
    assert UsageRecord.objects.count() == 25


def test_one_router_serves_one_event_loop_after_another(
    configuration: Configuration, closed: None
) -> None:
    async def once() -> str:
        router = await get_llm_router()
        content = (await router.complete("Hi", use_case="debugging")).content
        await close_routers()
        return content

    assert asyncio.run(once()) == asyncio.run(once())
    assert asyncio.run(get_llm_router()) is asyncio.run(get_llm_router())


async def test_a_synchronous_call_in_an_event_loop_is_refused(
    configuration: Configuration, connections_given_back: None
) -> None:
    with pytest.raises(RuntimeError, match="await"):
        get_llm_router_sync()
    router = await get_llm_router()
    with pytest.raises(RuntimeError, match="await"):
        router.complete_sync("Hi", use_case="debugging")
    await close_routers()


def test_a_forked_worker_has_its_own_router(configuration: Configuration, closed: None) -> None:
    get_llm_router_sync().complete_sync("parent", use_case="debugging")
    connections.close_all()
    with warnings.catch_warnings():
        # Python 3.12 and later warn about threads at a fork; ours are idle then.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            answer = get_llm_router_sync().complete_sync("child", use_case="debugging")
            asyncio.run(close_routers())
            connections.close_all()
            os._exit(0 if "child" in answer.content else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    get_llm_router_sync().complete_sync("parent again", use_case="debugging")
    asyncio.run(close_routers())
    assert UsageRecord.objects.count() == 3
