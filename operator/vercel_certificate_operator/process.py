"""The process: its tasks, the watch, signals, and a clean stop."""

import asyncio
import logging
import signal
from collections.abc import Collection, Coroutine
from typing import Any, Self

import kopf

from vercel_certificate_operator.leadership import Election
from vercel_certificate_operator.wiring import Operator

logger = logging.getLogger(__name__)

EVENTS_LIMIT = 5.0
"""Seconds that the end of the process waits for Events that are still to be written."""


class WatchFailed(Exception):
    """The watch has failed. The message is one line."""


class Process:
    """Runs the tasks of one operator. The end of the context cancels them."""

    def __init__(self, operator: Operator, election: Election) -> None:
        self._operator = operator
        self._election = election
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalled = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._handle_signals()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine as a task beside the watch. If the task ends or fails, the process ends."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        return task

    async def watch(
        self, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, namespaces: Collection[str]
    ) -> None:
        """Watches until a signal arrives or something fails. Then records the answers to requests in flight.

        Args:
            registry: kopf's handlers.
            settings: kopf's settings.
            namespaces: to watch; none: the whole cluster.

        Raises:
            WatchFailed: the watch has failed.
            LeadershipLost: another replica leads.
        """
        stop_watch = asyncio.Event()
        # For kopf's peering, which is off. Without one, kopf asks for the user: in a pod, a number without a name.
        identity: Any = "vercel-certificate-operator"
        kopf_tasks = await kopf.spawn_tasks(
            identity=identity,
            registry=registry,
            settings=settings,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=stop_watch,
        )
        self._handle_signals()  # again: kopf has installed its own handlers
        watch = asyncio.create_task(_until_one_ends(kopf_tasks), name="watch")
        signalled = asyncio.create_task(self._signalled.wait(), name="wait for a signal")
        election = self.spawn(self._election.run())
        await asyncio.wait({watch, signalled, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        ended = {task for task in (watch, *self._tasks) if task.done()}
        signalled.cancel()
        # The watch continues meanwhile, so that what is still written is decided from the newest state.
        await self._finish(election)
        stop_watch.set()
        await asyncio.wait({watch})
        for task in ended | ({election} if not election.cancelled() else set()):
            task.result()  # raises what ended it

    async def _finish(self, election: asyncio.Task[None]) -> None:
        """Writes what is not written yet while this replica leads. Then releases the Lease."""
        finishing = asyncio.create_task(self._write_down())
        await asyncio.wait({finishing, election}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        if election.done():
            logger.error("%s: stopping at once, to start again as a standby", election.exception())
            await self._operator.reconciler.abort()
            return
        election.cancel()
        await asyncio.wait({election})
        await self._election.release()

    async def _write_down(self) -> None:
        await self._operator.reconciler.drain()
        await self._operator.events.aclose(EVENTS_LIMIT)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        """Stops cleanly at the first signal, and at once at the second."""
        if self._signalled.is_set():
            logger.warning("%s again: stopping at once", number.name)
            self.spawn(self._operator.reconciler.abort())
        else:
            logger.info("%s: stopping", number.name)
            self._signalled.set()


async def _until_one_ends(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Runs kopf's tasks until one of them ends, and cancels the others.

    It replaces ``kopf.run_tasks``, which would also cancel everything else in the event loop: the election, and
    attempts whose answers are not recorded yet.

    Raises:
        WatchFailed: one of them has failed.
    """
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise WatchFailed(" ".join(str(error.args[0] if error.args else error).split())) from error
