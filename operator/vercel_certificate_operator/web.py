"""The HTTP server of the process: a few pages for kubelets and Prometheus.

It is the only module that listens. Only ``kube`` and ``vercel`` use the network too.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.web import Request, Response

from vercel_certificate_operator.settings import Address

__all__ = ["Page", "Request", "Response", "serving"]

Page = Callable[[Request], Awaitable[Response]]

SHUTDOWN = 0.2
"""Seconds that an answer under way may take when the process ends."""


@asynccontextmanager
async def serving(address: Address, pages: Mapping[str, Page]) -> AsyncIterator[int]:
    """Serves these pages, by path, inside the block. Yields the port.

    Raises:
        OSError: it can't listen there.
    """
    application = web.Application()
    for path, page in pages.items():
        application.router.add_get(path, page)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
