"""When two states of a small world are the same: they differ only in the names of ids and by a shift in time."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

from small_worlds.steps import STALE
from small_worlds.world import Cert, Pending, Process, World, tick_of, wall
from vercel_certificate_operator.core.memory import Memory, Round
from vercel_certificate_operator.core.times import LIST_AGE

_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NUMBERED = re.compile(r'(attempt-|cert_|uid-|"resourceVersion": "|#)(\d+)')


def canonical(world: World) -> str:
    """Returns a text that two states have in common if nothing but names and the time differs."""
    text = _dump(world)
    now = world.tick
    text = _TIME.sub(lambda match: f"@{_tick(match[0]) - now}", text)
    numbers = sorted({int(match[2]) for match in _NUMBERED.finditer(text)})
    ranks = {number: rank for rank, number in enumerate(numbers)}
    return _NUMBERED.sub(lambda match: f"{match[1]}{ranks[int(match[2])]}", text)


@lru_cache(maxsize=100_000)
def _tick(text: str) -> int:
    return tick_of(datetime.fromisoformat(text))


def _dump(world: World) -> str:
    now = world.tick
    parts: list[Any] = [sorted(world.objects.items()), world.ahead]
    if world.budget.faults:
        parts.append(sorted(world.past.items()))  # a process may start with it
    parts.append([_cert(cert, now) for cert in world.certs])
    live = {cert.id for cert in world.certs}
    parts.append([_process(process, now) for process in world.processes])
    parts.append([(post.attempt.id, post.sent - now, post.process, post.made) for post in world.posts])
    parts.append([_pending(ghost, now) for ghost in world.ghosts])
    parts.append((sorted(world.said & live), sorted(world.adopted & live), sorted(world.tampered)))
    parts.append(sorted(world.warned))
    budget = world.budget
    parts.append((budget.faults, budget.others, budget.clocks, budget.jumps))
    return repr(parts)


def _cert(cert: Cert, now: int) -> Any:
    return cert.id, sorted(cert.cns), cert.created - now, cert.expires - now, cert.auto_renew, cert.maker, cert.late


def _process(process: Process, now: int) -> Any:
    return (
        sorted(process.views.items()),
        [(key, _memory(memory, now)) for key, memory in sorted(process.memories.items())],
        [(key, _round(round_, now)) for key, round_ in sorted(process.rounds.items())],
        sorted((key, max(tick - now, 0)) for key, tick in process.due.items()),
        [_pending(pending, now) for _, pending in sorted(process.pending.items())],
        sorted((key, since - now) for key, since in process.reserved.items()),
        sorted((key, attempt.id, attempt.seen - now) for key, attempt in process.attempts.items()),
        [(str(scope), _listing(listing, now)) for scope, listing in process.lists.items()],
        process.heard,
        process.drift_at - now,
        sorted(process.reported),
        sorted(process.removing),
        sorted(process.left),
        sorted((one, min(now - at, LIST_AGE)) for one, at in process.removed.items()),
        sorted((key, ids) for key, ids in process.doubtful.items() if ids),
        [(now - at, one.id) for at, one in process.issued if now - at <= LIST_AGE],
        [(str(scope), sorted(ids)) for scope, ids in process.deferred.items() if ids],
    )


def _listing(listing: Any, now: int) -> Any:
    if listing is None:
        return None
    age = now - listing.begun
    return (age if age <= LIST_AGE else "old"), [
        (one.id, one.expires_at and tick_of(one.expires_at) - now, sorted(one.cns)) for one in listing.certificates
    ]


def _memory(memory: Memory, now: int) -> Any:
    reply = memory.reply
    return (
        memory.seen[0],
        memory.seen[1] - now,
        reply
        and (reply.attempt.id, reply.at - now, reply.took, reply.certificate and reply.certificate.id, reply.failure),
        memory.in_flight,
        memory.void,
        sorted((call, one.times, one.since - now, one.retry_at - now) for call, one in memory.failed.items()),
        hash(memory.wish) if memory.wish is not None else None,
        _listing(memory.noticed, now),
        memory.unpublished and str(memory.unpublished[0]),
        memory.farewell is not None,
        sorted(memory.removed.items()),
    )


def _round(round_: Round, now: int) -> Any:
    return (
        sorted((one, got.at - now, got.certificate is not None) for one, got in round_.got.items()),
        sorted(round_.removed.items()),
        _listing(round_.listing, now),
        round_.token_read,
        round_.token_hash,
        round_.just_failed,
    )


def _pending(pending: Pending, now: int) -> Any:
    return (
        pending.kind,
        pending.base,
        pending.status,
        pending.closes,
        pending.decision and pending.decision.note and pending.decision.note.reason,
        pending.decision
        and str(getattr(pending.decision.action, "until", None)).replace("+00:00", "Z").replace(" ", "T"),
        pending.free and (pending.free - wall(now)).total_seconds(),
        now - pending.at > STALE - 1,
        pending.call and (type(pending.call).__name__, getattr(pending.call, "certificate_id", None)),
        [one.id for one in pending.listed],
    )
