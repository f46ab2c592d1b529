"""Requests to an emulator in the same process without sockets, as long as nothing is to go wrong with them.

A quarter of what a random life costs is HTTP. A request that may meet a fault takes the way over the network, so that
what breaks there is real.
"""

import json
from email.utils import formatdate
from typing import Any

import httpx

from vercel_certificate_operator.vercel import VercelClient
from vercel_emulator import Emulator
from vercel_emulator.api import ApiRequest


class Shortcut(httpx.AsyncBaseTransport):
    """A transport that answers from the emulator's state."""

    def __init__(self, emulator: Emulator, network: httpx.AsyncBaseTransport) -> None:
        """
        Args:
            network: the way over the network.
        """
        parts: Any = emulator
        self._emulator = emulator
        self._server = parts._server
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._server.running or any(not fault.used_up for fault in self._emulator.faults):
            return await self._network.handle_async_request(request)
        asked = ApiRequest(
            method=request.method,
            path=request.url.raw_path.partition(b"?")[0].decode(),
            query=dict(request.url.params),
            authorization=request.headers.get("authorization"),
            body=await request.aread(),
        )
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
        answer = self._server._api.answer(asked, entry)
        entry.code = answer.code
        journal.finish(entry, answer.status)
        headers = {"Content-Type": "application/json; charset=utf-8", **answer.headers}
        behaviour = self._emulator.state.behaviour
        if behaviour.date_header:
            headers["Date"] = formatdate(clock.now_ms() / 1000 + behaviour.date_offset, usegmt=True)
        return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(json.dumps(answer.body).encode()))

    async def aclose(self) -> None:
        await self._network.aclose()


def shorten(client: VercelClient, emulator: Emulator) -> VercelClient:
    """Makes a client use the shortcut."""
    http: Any = client._http
    http._transport = Shortcut(emulator, http._transport)
    return client
