"""What was asked, in order, and what was answered."""

from collections import deque
from typing import get_args

from vercel_emulator.models import Call, Entry, JournalView
from vercel_emulator.signals import Signal


class Journal:
    """The requests to Vercel's API (not those to the control API), the oldest first.

    An entry is there from the moment its request has been read, and is filled in as things happen. At most ``size``
    entries are kept; ``counts`` has all requests since the last reset, by call.
    """

    def __init__(self, size: int = 200_000) -> None:
        self.entries: deque[Entry] = deque(maxlen=size)
        self.counts: dict[Call, int] = {}
        self.last = 0
        self._pending: list[Entry] = []
        self._signal = Signal()
        self.clear()

    def clear(self) -> None:
        """Start anew, with sequence number 1."""
        self.entries.clear()
        self.counts = dict.fromkeys(get_args(Call), 0)
        self.last = 0
        self._pending.clear()

    def add(self, call: Call, *, time: int, method: str, path: str, query: dict[str, str], token: str | None) -> Entry:
        """Begin an entry; ``time`` in epoch milliseconds."""
        self.last += 1
        self.counts[call] += 1
        entry = Entry(seq=self.last, time=time, call=call, method=method, path=path, query=query, token=token)
        self.entries.append(entry)
        self._pending.append(entry)
        self._signal.notify()
        return entry

    def since(self, seq: int = 0, call: Call | None = None) -> list[Entry]:
        """The entries after this sequence number."""
        return [entry for entry in self.entries if entry.seq > seq and call in {None, entry.call}]

    def finish(self, entry: Entry, status: int | None) -> None:
        """An entry has got its outcome: answered with this status, or (None) dropped."""
        entry.outcome, entry.status = "dropped" if status is None else "answered", status
        # by identity: it may have been cleared away, and an equal one stand there
        self._pending = [pending for pending in self._pending if pending is not entry]
        self._signal.notify()

    async def wait(self, call: Call, count: int = 1, *, finished: bool = False, within: float = 10) -> None:
        """Until there were ``count`` requests of this call, or (``finished``) they are answered or dropped.

        Raises TimeoutError after ``within`` seconds of real time.
        """

        def holds() -> bool:
            unfinished = sum(entry.call == call for entry in self._pending) if finished else 0
            return self.counts[call] - unfinished >= count

        await self._signal.until(holds, within)

    def view(self, since: int = 0, call: Call | None = None) -> JournalView:
        """As the control API shows it."""
        return JournalView(counts=self.counts, last=self.last, entries=self.since(since, call))
