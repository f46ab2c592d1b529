"""The emulator's parts and its state, without the server."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from vercel_emulator import statefile
from vercel_emulator.accounts import Accounts
from vercel_emulator.clock import Clock
from vercel_emulator.domains import Domains
from vercel_emulator.faults import Faults
from vercel_emulator.journal import Journal
from vercel_emulator.limits import Limiter
from vercel_emulator.models import Behaviour, Snapshot
from vercel_emulator.store import Store


class Backend:
    """Everything that the emulator knows. It resets and persists it; the server and the control API use it.

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
        teams: Mapping[str, str],
        behaviour: Behaviour,
        clock: Callable[[], float] = time.time,
        file: Path | None = None,
        seed: str | None = None,
        journal_size: int = 200_000,
    ) -> None:
        """Make all parts, with an empty state.

        Args:
            tokens: Valid bearer tokens.
            teams: Slugs by team id.
            behaviour: The initial switches.
            clock: Returns the time in epoch seconds.
            file: The state file, if the state is kept.
            seed: Makes the ids of certificates the same in each run.
            journal_size: How many requests the journal keeps.

        Raises:
            ValueError: A token or a team is malformed.
        """
        self._initial_behaviour = behaviour
        self.clock = Clock(clock)
        self.accounts = Accounts(tokens, teams, self.clock)
        self.state = Store(self.clock, behaviour, seed=seed)
        self.journal = Journal(journal_size)
        self.faults = Faults()
        self.limits = Limiter(self.clock)
        self.domains = Domains()
        self._file = file
        self._saved: tuple[int, int] | None = None
        self._saving = asyncio.Lock()

    def reset(self) -> None:
        """Restore the initial state: no certificates, faults or limits, domains configured, real time, no journal.

        Hanging requests are dropped. Certificates that came from the state file are removed too.
        """
        self.faults.clear("drop")
        self.limits.rule = None
        self.domains.clear()
        self.clock.set_offset(0)
        self.state.clear()
        self.state.behaviour = self._initial_behaviour
        self.accounts.reset()
        self.journal.clear()

    def load(self) -> None:
        """Read the state file, if there is one.

        Raises:
            StateFileError: The file can't be read, or is not a state file.
        """
        snapshot = None if self._file is None else statefile.read(self._file)
        if snapshot is not None:
            self.clock.set_offset(snapshot.clock_offset)
            self.state.load(snapshot.certificates)

    async def persist(self) -> None:
        """Write the state file if the state has changed. Concurrent callers share one write.

        The server calls this before it answers, so that a crash loses nothing that a client was told.

        Raises:
            StateFileError: The file can't be written.
        """
        if self._file is None:
            return
        async with self._saving:
            current = (self.state.version, self.clock.version)
            if current != self._saved:
                snapshot = Snapshot(clock_offset=self.clock.offset, certificates=self.state.all())
                text = snapshot.model_dump_json(by_alias=True)  # here, because certificates change in this thread
                await asyncio.to_thread(statefile.write, self._file, text)
                self._saved = current
