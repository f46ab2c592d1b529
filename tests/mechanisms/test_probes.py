"""The probes: each turns when what it looks at stalls, and back when that goes on."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from support.clock import TestClock
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.kube.connection import WatchSigns
from vercel_certificate_operator.probes import (
    WATCH_SILENT,
    WATCH_STALLED,
    WORK_MARGIN,
    Check,
    probe,
    watch_goes_on,
    watch_is_fresh,
    work_goes_on,
)
from vercel_certificate_operator.settings import Address
from vercel_certificate_operator.web import Page, serving
from vercel_certificate_operator.workqueue import WorkQueue

HERE = "127.0.0.1"
WATCH = "/apis/vercel-operator.io/v1/namespaces/{}/vercelcertificates"


@asynccontextmanager
async def served(**pages: Page) -> AsyncIterator[str]:
    async with serving(Address(HERE, 0), {f"/{name}": page for name, page in pages.items()}) as port:
        yield f"http://{HERE}:{port}"


async def asked(check: Check) -> tuple[int, str]:
    """Status and body of a probe with this one check, over HTTP."""
    async with (
        served(livez=probe("livez", {"it": check})) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/livez") as answer,
    ):
        return answer.status, await answer.text()


async def test_a_key_that_hangs_fails_the_probe_until_it_goes_on(clock: TestClock) -> None:
    queue: WorkQueue[Key | ScopeKey] = WorkQueue(clock)
    go_on = asyncio.Event()

    async def hang(_: object) -> None:
        await go_on.wait()

    task = asyncio.create_task(queue.run(hang))
    check = work_goes_on(queue, post_timeout=120)
    queue.add(Key("web", "site", "uid"))
    queue.add(Key("web", "later", "uid-2"))
    await clock.advance(120 + WORK_MARGIN)
    assert await asked(check) == (200, "[+]it ok\nlivez check passed\n")
    await clock.advance(1)
    assert await asked(check) == (
        503,
        "[-]it failed: web/site has been reconciling for 721 s\nlivez check failed\n",
    )
    go_on.set()
    await clock.advance(0)
    assert (await asked(check))[0] == 200
    queue.stop()
    await task


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@asynccontextmanager
async def api_server(signs: WatchSigns) -> AsyncIterator[tuple[aiohttp.ClientSession, list[int], str]]:
    """A session as the watches use it, the statuses that a server answers with, and the server's address."""
    statuses = [200]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=statuses[-1])

    async with (
        serving(Address(HERE, 0), {WATCH.format("{name}"): answer, "/apis": answer}) as port,
        aiohttp.ClientSession(trace_configs=[signs.trace()]) as session,
    ):
        yield session, statuses, f"http://{HERE}:{port}"


async def test_a_watch_that_does_not_even_try_fails_the_probe_until_it_tries(clock: TestClock) -> None:
    signs = WatchSigns(clock)
    check = watch_goes_on(signs)
    async with api_server(signs) as (session, statuses, url):
        await session.get(url + WATCH.format("web"))
        await clock.advance(WATCH_STALLED)
        assert check() is None
        await clock.advance(1)
        assert check() == "the watch has sent no request for 601 s"
        await session.get(f"{url}/apis")
        assert check() is not None, "that was not the watch"
        statuses.append(503)
        await session.get(url + WATCH.format("web"))
        assert check() is None, "an API server that is out of order is no reason to be restarted"
        await clock.advance(WATCH_STALLED + 1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("http://127.0.0.1:1" + WATCH.format("web"))
        assert check() is None, "nor is one that can't be reached"


async def test_what_is_known_is_not_fresh_without_an_answer(clock: TestClock) -> None:
    signs = WatchSigns(clock)
    check = watch_is_fresh(signs)
    async with api_server(signs) as (session, statuses, url):
        await session.get(url + WATCH.format("web"))
        statuses.append(503)
        await clock.advance(WATCH_SILENT + 1)
        await session.get(url + WATCH.format("web"))
        assert check() == "the API server has not answered a watch for 301 s"
        statuses.append(200)
        await session.get(url + WATCH.format("web"))
        assert check() is None


async def test_one_watch_of_two_that_stalls_is_noticed(clock: TestClock) -> None:
    signs = WatchSigns(clock, watches=2)
    async with api_server(signs) as (session, _, url):
        await session.get(url + WATCH.format("one"))
        await clock.advance(10)
        assert signs.tried() == 10, "the other one has never been heard of"
        await session.get(url + WATCH.format("two"))
        assert signs.tried() == 10
        await session.get(url + WATCH.format("one"))
        assert signs.tried() == signs.answered() == 0


async def test_an_event_loop_that_is_blocked_gives_no_answer() -> None:
    started, blocked, unblock = threading.Event(), threading.Event(), threading.Event()
    url, done = "", threading.Event()

    def block() -> None:
        blocked.set()
        unblock.wait()

    async def process() -> None:
        nonlocal url
        async with served(livez=probe("livez", {})) as url:
            loop = asyncio.get_running_loop()
            started.set()
            await loop.run_in_executor(None, started.wait)
            loop.call_soon(block)
            await loop.run_in_executor(None, done.wait)

    thread = threading.Thread(target=asyncio.run, args=(process(),))
    thread.start()
    try:
        await asyncio.to_thread(blocked.wait)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as session:
            with pytest.raises(TimeoutError):
                await session.get(f"{url}/livez")
        unblock.set()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/livez") as answer:
            assert answer.status == 200
    finally:
        unblock.set()
        done.set()
        await asyncio.to_thread(thread.join)


async def test_a_probe_that_turns_is_logged_once_each_way(caplog: pytest.LogCaptureFixture) -> None:
    wrong: list[str] = []
    page = probe("livez", {"it": lambda: wrong[-1] if wrong else None})
    caplog.set_level("INFO")
    async with served(livez=page) as url, aiohttp.ClientSession() as session:
        for problem in (None, "bad", "worse", None, None):
            wrong[:] = [problem] if problem else []
            await session.get(f"{url}/livez")
    assert caplog.messages == ["livez: it failed: bad", "livez: it passes again"]


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with serving(Address(HERE, 0), {}) as port:
        with pytest.raises(OSError, match="address already in use"):
            async with serving(Address(HERE, port), {}):
                pass


async def test_without_a_host_it_listens_on_ipv4_and_ipv6() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="well")

    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as free:
        port = free.getsockname()[1]
    async with serving(Address(None, port), {"/livez": page}), aiohttp.ClientSession() as session:
        for address in ("127.0.0.1", "[::1]"):
            async with session.get(f"http://{address}:{port}/livez") as answer:
                assert await answer.text() == "well"
