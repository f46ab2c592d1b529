"""Requests to an emulator in the same process without sockets, as long as nothing is to go wrong on the way.

A third of what a simulated world costs is HTTP. A request that may meet a fault of the network takes the way over the
network, so that what breaks there is real. A fault that is just another answer needs no network.
"""

import json
from email.utils import formatdate
from typing import Any

import httpx

from vercel_certificate_operator.vercel import VercelClient
from vercel_emulator import Emulator, replies
from vercel_emulator.api import Answer, ApiRequest
from vercel_emulator.faults import ActiveFault
from vercel_emulator.models import Call, Entry

ANSWERS = frozenset({"answer", "error", "other-certificate", "wrong-types"})
"""The actions of faults that send a whole answer of the API."""


class Shortcut(httpx.AsyncBaseTransport):
    """A transport that answers from the emulator's state."""

    def __init__(self, emulator: Emulator, network: httpx.AsyncBaseTransport, *, faults: bool) -> None:
        """
        Args:
            network: the way over the network.
            faults: whether a fault that is just another answer is answered here.
        """
        parts: Any = emulator
        self._emulator = emulator
        self._server = parts._server
        self._network = network
        self._faults = faults

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = ApiRequest(
            method=request.method,
            path=request.url.raw_path.partition(b"?")[0].decode(),
            query=dict(request.url.params),
            authorization=request.headers.get("authorization"),
            body=await request.aread(),
        )
        if not self._server.running or self._may_break(asked.call):
            return await self._network.handle_async_request(request)
        journal, clock = self._emulator.journal, self._emulator.clock
        entry = journal.add(
            asked.call,
            time=clock.now_ms(),
            method=asked.method,
            path=asked.path,
            query=dict(asked.query),
            token=asked.token,
        )
        entry.cns = asked.asked_cns
        fault: ActiveFault | None = self._server._fault(asked, entry)
        answer = await self._answer(asked, entry, fault)
        entry.code = answer.code
        journal.finish(entry, answer.status)
        headers = httpx.Headers({"Content-Type": replies.JSON, **answer.headers})
        behaviour = self._emulator.state.behaviour
        if behaviour.date_header:
            headers["Date"] = formatdate(clock.now_ms() / 1000 + behaviour.date_offset, usegmt=True)
        for name, value in (fault.fault.headers if fault is not None else {}).items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = value
        return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(json.dumps(answer.body).encode()))

    def _may_break(self, call: Call) -> bool:
        """Returns whether a request of this kind may meet a fault of the network."""
        for active in self._emulator.faults:
            calls = active.fault.call if self._faults else "any"
            if (
                (not self._faults or active.fault.action not in ANSWERS or active.fault.delay)
                and (calls in {"any", call} if isinstance(calls, str) else call in calls)
                and not active.used_up
            ):
                return True
        return False

    async def _answer(self, asked: ApiRequest, entry: Entry, active: ActiveFault | None) -> Answer:
        async def work() -> Answer:
            answer: Answer = self._server._api.answer(asked, entry)
            return answer

        if active is None:
            return await work()
        fault = active.fault
        entry.fault, entry.action = active.id, fault.action
        true = await work() if fault.when == "after" else None
        active.fire()
        shown = await replies.shown(fault, true, work, entry, self._emulator.state.find)
        assert shown is not None, fault
        return shown

    async def aclose(self) -> None:
        await self._network.aclose()


def shorten(client: VercelClient, emulator: Emulator, *, faults: bool = True) -> VercelClient:
    """Makes a client use the shortcut; see ``Shortcut``."""
    http: Any = client._http
    http._transport = Shortcut(emulator, http._transport, faults=faults)
    return client
