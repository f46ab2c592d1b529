"""The page ``/metrics``, apart from what stands there."""

import asyncio
import threading
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from support.exported import snapshot
from vercel_certificate_operator import metrics
from vercel_certificate_operator.metrics import Counted, Snapshot


async def test_many_scrapes_at_once_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Snapshot, "take", lambda sources: snapshot())
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    at_work = threading.Semaphore(1)
    alone: list[bool] = []

    def encode(scrape: Any) -> bytes:
        alone.append(at_work.acquire(blocking=False))
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        at_work.release()
        return b"text"

    monkeypatch.setattr(metrics, "choose_encoder", lambda accept: (encode, "text/plain"))
    page = metrics.page(Counted(), None)  # type: ignore[arg-type]  # the snapshot does not come from there

    async def scrape() -> web.Response:
        return await page(make_mocked_request("GET", "/metrics"))

    scrapes = [asyncio.create_task(scrape()) for _ in range(5)]
    await begun.wait()
    go_on.set()
    answers = await asyncio.gather(*scrapes)
    assert alone == [True] * 5
    assert {answer.body for answer in answers} == {b"text"}
