"""The emulator as a whole: a backend and its server."""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from vercel_emulator.backend import Backend
from vercel_emulator.models import Behaviour
from vercel_emulator.server import Server


class Emulator:
    """An emulated Vercel that runs in the event loop in which it is started.

    Its parts can be used directly while it runs.

    Attributes:
        accounts: Tokens, users and teams.
        clock: The emulator's clock.
        state: The certificates, and the switches (``state.behaviour``).
        journal: The requests.
        faults: The faults.
        limits: The rate limits.
        domains: What Vercel sees of the domains.
    """

    def __init__(
        self,
        *,
        tokens: Iterable[str],
        teams: Mapping[str, str] | None = None,
        lifetime: timedelta = timedelta(days=90),
        clock: Callable[[], float] = time.time,
        state: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        behaviour: Behaviour | None = None,
        seed: str | None = None,
        journal_size: int = 200_000,
    ) -> None:
        """Make an emulator; ``start`` makes it listen.

        Args:
            tokens: Valid bearer tokens. They belong to one user, and can use every team.
            teams: Slugs by team id: ``{"team_a": "alpha"}``.
            lifetime: How long issued certificates live.
            clock: Returns the time in epoch seconds. ``emulator.clock`` adds its offset to it.
            state: A file that keeps the certificates and the clock's offset over restarts, also after ``kill -9``.
                Without it, everything is lost when the process ends.
            host: The address to listen on, IPv4 or IPv6. Empty: all addresses.
            port: The port to listen on; 0 for any free port (see ``url``).
            behaviour: All initial switches, instead of ``lifetime``.
            seed: Makes the ids of certificates the same in each run.
            journal_size: How many requests the journal keeps.

        Raises:
            ValueError: A token or a team is malformed.
        """
        self._backend = Backend(
            tokens=tokens,
            teams=teams or {},
            behaviour=behaviour or Behaviour(lifetime=lifetime),
            clock=clock,
            file=state,
            seed=seed,
            journal_size=journal_size,
        )
        self._server = Server(self._backend, host, port)
        self.accounts = self._backend.accounts
        self.clock = self._backend.clock
        self.state = self._backend.state
        self.journal = self._backend.journal
        self.faults = self._backend.faults
        self.limits = self._backend.limits
        self.domains = self._backend.domains

    @property
    def url(self) -> str:
        """The base URL without a trailing slash: ``http://127.0.0.1:45123``. It is the same after a stop and a start.

        Raises:
            RuntimeError: The emulator was never started.
        """
        if self._server.url is None:
            raise RuntimeError("the emulator has not been started")
        return self._server.url

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()
        self._server.release()

    async def start(self) -> None:
        """Read the state file, and listen. After ``stop``, continue with the same URL and the same state.

        Raises:
            OSError: The address can't be used.
            StateFileError: The state file can't be used.
        """
        if self._server.url is None:
            self._backend.load()
        await self._backend.persist()
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once: end all faults, close all connections, refuse new ones. A second call does nothing.

        Raises:
            StateFileError: The state file can't be written.
        """
        if self._server.running:
            self.faults.clear("drop")
            await self._server.stop()
            await self._backend.persist()

    def reset(self) -> None:
        """Restore the initial state: no certificates, faults or limits, domains configured, real time, no journal.

        Hanging requests are dropped. Certificates that came from the state file are removed too.
        """
        self._backend.reset()
