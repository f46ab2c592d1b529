"""The journal: every request to Vercel's API and its outcome."""

from collections import deque
from typing import get_args

from vercel_emulator.models import Call, Entry, JournalView
from vercel_emulator.signals import Signal


class Journal:
    """The requests to Vercel's API, the oldest first. Requests to the control API are not recorded.

    An entry exists as soon as its request has been read. Its other fields are set as the request is processed.

    Attributes:
        entries: The newest entries.
        counts: The number of requests since the last reset, by call. It includes entries that were dropped.
        last: The sequence number of the newest entry; 0 if there is none.
    """

    def __init__(self, size: int = 200_000) -> None:
        """Start empty.

        Args:
            size: How many entries to keep.
        """
        self.entries: deque[Entry] = deque(maxlen=size)
        self.counts: dict[Call, int] = {}
        self.last = 0
        self._pending: list[Entry] = []
        self._signal = Signal()
        self.clear()

    def clear(self) -> None:
        """Forget every request. The next sequence number is 1."""
        self.entries.clear()
        self.counts = dict.fromkeys(get_args(Call), 0)
        self.last = 0
        self._pending.clear()

    def add(self, call: Call, *, time: int, method: str, path: str, query: dict[str, str], token: str | None) -> Entry:
        """Start an entry.

        Args:
            call: The kind of call.
            time: When the request arrived, in epoch milliseconds.
            method: The HTTP method.
            path: The path, without the query.
            query: The query's parameters.
            token: The name of the request's token.

        Returns:
            The entry, for the caller to complete.
        """
        self.last += 1
        self.counts[call] += 1
        entry = Entry(seq=self.last, time=time, call=call, method=method, path=path, query=query, token=token)
        self.entries.append(entry)
        self._pending.append(entry)
        self._signal.notify()
        return entry

    def since(self, seq: int = 0, call: Call | None = None) -> list[Entry]:
        """Return the entries after a sequence number, of one kind of call or of all."""
        return [entry for entry in self.entries if entry.seq > seq and call in {None, entry.call}]

    def finish(self, entry: Entry, status: int | None) -> None:
        """Record the outcome of an entry.

        Args:
            entry: The entry.
            status: The status of the answer; None if the connection was dropped.
        """
        entry.outcome, entry.status = "dropped" if status is None else "answered", status
        # Compare by identity: after a clear, another entry can be equal to this one.
        self._pending = [pending for pending in self._pending if pending is not entry]
        self._signal.notify()

    async def wait(self, call: Call, count: int = 1, *, finished: bool = False, within: float = 10) -> None:
        """Wait until there were enough requests of a kind.

        Args:
            call: The kind of call.
            count: How many requests to wait for, counted since the last reset.
            finished: Count only requests that were answered or dropped.
            within: How long to wait, in seconds of real time.

        Raises:
            TimeoutError: There were fewer requests after ``within`` seconds.
        """

        def holds() -> bool:
            unfinished = sum(entry.call == call for entry in self._pending) if finished else 0
            return self.counts[call] - unfinished >= count

        await self._signal.until(holds, within)

    def view(self, since: int = 0, call: Call | None = None) -> JournalView:
        """Return what the control API shows: the entries that ``since`` returns, and the counts."""
        return JournalView(counts=self.counts, last=self.last, entries=self.since(since, call))
