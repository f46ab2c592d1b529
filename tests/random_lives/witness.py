"""What has really happened: who made which certificate, which attempt sent which POST, and who destroyed which record.

Judged by the emulator's own state and journal, and by the writes that the stand-in of the API server sees. Nothing here
reads what the operator concluded, except to compare it with the truth.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise, takewhile
from typing import Any

from support import invariants
from support.memory_api import SimulatedWorld
from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.ownership import ATTEMPT_LIMIT
from vercel_certificate_operator.core.reasons import Reason
from vercel_emulator.models import PERSONAL, Certificate, Entry, token_name

Body = Mapping[str, Any]

MILLISECOND = timedelta(milliseconds=1)
DEFAULT = ""
"""The name of the default token among the Secrets."""
WEEK = timedelta(days=7)
LIST_AGE = timedelta(minutes=11)
"""How old the list may be that an attempt is made from, and a little more."""
SENT_WITHIN = timedelta(seconds=11)
"""The longest time between the record of an attempt and its POST, unless the process is paused in between."""


@dataclass
class Made:
    """An attempt, as it was recorded."""

    id: str
    uid: str
    name: str
    names: frozenset[str]
    team: str | None
    at: int
    """True time, in milliseconds."""
    seq: int
    """The journal's last entry at that time."""
    life: int
    """Which process of the operator ran."""
    requested: bool
    call: str = "issue"
    """Issue or upload."""
    rival: str = ""
    """Why another resource owned the names at that time, if one did."""
    outcome: str | None = None
    posts: list[Entry] = field(default_factory=list)


@dataclass
class Sent:
    """A POST of a resource, in order."""

    entry: Entry
    made: Made


class Witness:
    """Watches one world."""

    def __init__(self, world: SimulatedWorld, secrets: Mapping[str, str | None]) -> None:
        """
        Args:
            secrets: the tokens in the Secrets, by name, and the default token; kept up to date by the test.
        """
        self._world = world
        self._secrets = secrets
        self.made: dict[str, Made] = {}
        self.sent: defaultdict[str, list[Sent]] = defaultdict(list)
        """POSTs by uid, since the record was last lost."""
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        """The certificates that were current, by uid."""
        self.adopted: set[str] = set()
        self.lookalikes: set[str] = set()
        """Certificates of others that nobody could tell from the operator's own."""
        self.destroyed: set[str] = set()
        """Certificates that were in a status which somebody else wiped, replaced or removed."""
        self._destroyed_attempts: set[str] = set()
        self._requested: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
        """The attempts that count as a user's request, by uid and the value of the renew annotation."""
        self.paused_until = 0
        """When a process was paused last, in milliseconds."""
        self._judged = 0
        self._problems: list[str] = []
        world.memory.observers.append(self._changed)

    @property
    def now(self) -> int:
        return self._world.emulator.clock.now_ms()

    # --- what is written ------------------------------------------------------------------------------------------

    def _changed(self, before: Body | None, after: Body | None) -> None:
        self._match_posts()
        by_operator = self._world.memory.by_operator
        if before is not None and not by_operator:
            self._destruction(before, after)
        if after is None:
            return
        status = after.get("status") or {}
        old = (before or {}).get("status") or {}
        known = {named["id"]: named.get("origin") for named in _named(old)}
        if status.get("id"):
            self._held[after["metadata"]["uid"]].add(status["id"])
        for named in _named(status):
            if known.get(named["id"], ...) != named.get("origin") and by_operator:
                self._judge_origin(after, named["id"], named.get("origin"))
        attempt = status.get("attempt")
        if attempt and attempt["id"] not in self.made and by_operator:
            self._record(after, attempt)
        if attempt and (made := self.made.get(attempt["id"])) and attempt.get("outcome"):
            made.outcome = attempt["outcome"]

    def _destruction(self, before: Body, after: Body | None) -> None:
        """Somebody else changed an object. What its status no longer says is lost, unless a certificate list has it."""
        held = {named["id"] for named in _named(before.get("status") or {})}
        still = {named["id"] for named in _named((after or {}).get("status") or {})}
        self.destroyed |= held - still
        attempt = (before.get("status") or {}).get("attempt")
        left = ((after or {}).get("status") or {}).get("attempt")
        if attempt and (left is None or left["id"] != attempt["id"]):
            if not attempt.get("outcome"):
                self._destroyed_attempts.add(attempt["id"])
            uid = before["metadata"]["uid"]
            self.sent.pop(uid, None)
            self._requested = defaultdict(
                list, {request: made for request, made in self._requested.items() if request[0] != uid}
            )

    def _judge_origin(self, body: Body, certificate_id: str, origin: str | None) -> None:
        """Only a certificate that the operator may remove may have an origin that says so."""
        spec, metadata = body["spec"], body["metadata"]
        truth = self.truth(certificate_id)
        if origin == "Adopted":
            asked = (metadata.get("annotations") or {}).get("vercel-operator.io/adopt-id") == certificate_id
            if asked or spec.get("existingCertificate") == "Adopt":
                self.adopted.add(certificate_id)
            elif truth == "foreign":
                self._problems.append(f"{certificate_id} counts as adopted by {metadata['name']}, and nobody asked")
        elif origin == "Issued" and truth == "foreign":
            if self._is_lookalike(metadata["uid"], certificate_id) or self._is_successor(body, certificate_id):
                self.lookalikes.add(certificate_id)
            else:
                self._problems.append(
                    f"{certificate_id} counts as issued for {metadata['name']}, and is someone else's"
                )

    def truth(self, certificate_id: str) -> str:
        """Returns whose a certificate is: ``issued`` by the operator, ``adopted`` on request, or ``foreign``.

        A renewal by Vercel is whose that is which it renewed.
        """
        state = self._world.emulator.state
        renewed = {one.replaced_by: one for one in state.all() if one.replaced_by is not None}
        certificate = state.find(certificate_id)
        while certificate is not None:
            if certificate.id in self.adopted:
                return "adopted"
            if certificate.id in self.lookalikes:
                return "lookalike"
            if certificate.origin in invariants.OURS:
                return "issued"
            certificate = renewed.get(certificate.id)
        return "foreign"

    def _is_successor(self, body: Body, certificate_id: str) -> bool:
        """Whether somebody made it when Vercel would have renewed the resource's own certificate, and just so.

        Vercel's list doesn't say who made a certificate. So this counts as Vercel's renewal: that is decided, and these
        are the only cases.
        """
        state = self._world.emulator.state
        successor = state.find(certificate_id)
        if successor is None or not successor.auto_renew:
            return False
        for predecessor_id in sorted(self._held[body["metadata"]["uid"]]):
            one = state.find(predecessor_id)
            if one is None or normalized(one.cns) != normalized(successor.cns) or self.truth(one.id) == "foreign":
                continue
            second_half = successor.created_at >= (one.created_at + one.expires_at) / 2
            if second_half or (one.removed_at is not None and successor.created_at > one.created_at):
                return True
        return False

    def _is_lookalike(self, uid: str, certificate_id: str) -> bool:
        """Whether somebody made the very same thing when the operator requested it, and that came back.

        Either the answer was lost, and this is the only candidate; or Vercel answered with it. Vercel doesn't say who
        made a certificate, so it counts as the operator's own: that is decided, and these are the only cases.
        """
        certificate = self._world.emulator.state.find(certificate_id)
        if certificate is None:
            return False
        names = normalized(certificate.cns)
        lag = self._world.emulator.state.behaviour.list_lag
        since = (LIST_AGE + lag) // MILLISECOND
        return any(
            made.uid == uid
            and made.names <= names
            and certificate.made_at >= made.at - since
            and all(not _is_clean(entry) or entry.certificate == certificate_id for entry in made.posts)
            for made in self.made.values()
        )

    def _record(self, body: Body, attempt: Body) -> None:
        uid = body["metadata"]["uid"]
        request = attempt.get("renewRequest")
        requested = bool(attempt.get("requested"))
        if requested:
            done = [self.made[made].outcome not in ("Refused", "Void") for made in self._requested[uid, request]]
            if request is None or any(done):
                self._problems.append(f"attempt {attempt['id']} says that {request!r} is a new request, and it is not")
            self._requested[uid, request].append(attempt["id"])
        self.made[attempt["id"]] = Made(
            id=attempt["id"],
            uid=uid,
            name=body["metadata"]["name"],
            names=normalized(attempt["cns"]),
            team=attempt.get("team"),
            at=self.now,
            seq=self._world.emulator.journal.last,
            life=self._world.lives,
            requested=requested,
            call="upload" if attempt.get("fingerprint") else "issue",
            rival=self._rival(body),
        )

    # --- owners ---------------------------------------------------------------------------------------------------

    def scope(self, body: Body) -> str | None:
        """Returns where a resource's certificate is made, in truth; None: its token is not valid or missing."""
        accounts, spec = self._world.emulator.accounts, body["spec"]
        if team := spec.get("team"):
            slugs = {slug: team_id for team_id, slug in accounts.teams.items()}
            return team.get("id") or slugs.get(team.get("slug"))
        ref = spec.get("tokenSecretRef")
        secret = self._secrets.get(ref["name"] if ref else DEFAULT)
        token = accounts.tokens.get(token_name(secret)) if secret is not None else None
        return PERSONAL + token.user if token is not None else None

    def _rival(self, body: Body) -> str:
        """Returns why another resource is the owner of a resource's names at this moment; empty: none is."""
        scope = self.scope(body)
        if scope is None:
            return ""
        names = normalized(body["spec"]["cns"])
        mine = self._certificate(body, names, scope)
        for other in self._world.memory.resources():
            if other["metadata"]["uid"] == body["metadata"]["uid"] or _is_released(other):
                continue
            if normalized(other["spec"]["cns"]) != names or self.scope(other) != scope:
                continue
            if _attempts(other) and self._attempts_lately(other, names):
                return f"{other['metadata']['name']} was requesting a certificate for the same names"
            theirs = self._certificate(other, names, scope)
            if theirs is not None and (mine is None or _seniority(other) < _seniority(body)):
                return f"{other['metadata']['name']} had certificate {theirs.id} for the same names"
        return ""

    def _attempts_lately(self, body: Body, names: frozenset[str]) -> bool:
        """Whether the open attempt of a resource is for these names, and not so old that others need not wait."""
        made = self.made.get(body["status"]["attempt"]["id"])
        return made is not None and made.names == names and self.now - made.at < ATTEMPT_LIMIT // MILLISECOND

    def _certificate(self, body: Body, names: frozenset[str], scope: str) -> Certificate | None:
        """Returns the certificate that a resource holds, if it is good for these names in this scope."""
        certificate = self._world.emulator.state.find((body.get("status") or {}).get("id") or "")
        if certificate is None or certificate.removed_at is not None or certificate.scope != scope:
            return None
        # A moment before its expiry, nobody can say.
        fresh = certificate.expires_at > self.now + 10_000
        return certificate if fresh and names <= normalized(certificate.cns) else None

    # --- POSTs ----------------------------------------------------------------------------------------------------

    def _match_posts(self) -> None:
        journal = self._world.emulator.journal
        if journal.last == self._judged:
            return
        new = list(takewhile(lambda entry: entry.seq > self._judged, reversed(journal.entries)))
        for entry in reversed(new):
            if entry.call not in ("issue", "upload"):
                self._judged = entry.seq
                continue
            if entry.cns is None:
                return  # it is being read
            names, team = normalized(entry.cns), entry.query.get("teamId") or entry.query.get("slug")
            fits = [
                made
                for made in self.made.values()
                if made.names == names
                and made.team == team
                and made.call == entry.call
                and made.seq < entry.seq
                and not made.posts
            ]
            if not fits:
                self._problems.append(f"POST {entry.seq} for {sorted(names)} belongs to no recorded attempt")
            else:
                made = fits[-1]  # the newest
                made.posts.append(entry)
                self.sent[made.uid].append(Sent(entry, made))
                self._judge_post(made, entry)
            self._judged = entry.seq

    def _judge_post(self, made: Made, entry: Entry) -> None:
        if made.rival:
            self._problems.append(f"{made.name} sent POST {entry.seq} although {made.rival}")
        if entry.time - made.at > SENT_WITHIN / MILLISECOND and made.at > self.paused_until:
            self._problems.append(f"{made.name} sent POST {entry.seq} long after attempt {made.id} was recorded")
        before = [one for one in self.sent[made.uid][:-1] if not one.made.requested and self._counts(one.entry)]
        limit = self._world.settings.issuance_limit
        if made.requested or made.names not in [one.made.names for one in before[-limit:]]:
            return
        window = min(WEEK, self._world.emulator.state.behaviour.lifetime)
        since = entry.time - window / MILLISECOND + 60_000
        lately = [one.entry.seq for one in before if one.entry.time > since]
        if len(lately) >= limit:
            self._problems.append(f"{made.name} sent POST {entry.seq} beyond the issuance limit, after {lately}")

    def _counts(self, entry: Entry) -> bool:
        """Whether a POST may have made a certificate, as far as its answer said."""
        if entry.outcome == "pending":
            return False
        if entry.outcome == "answered" and entry.action is None and entry.certificate is not None:
            certificate = self._world.emulator.state.find(entry.certificate)
            return certificate is not None and certificate.made_at >= entry.time - 1000  # or it is an older one
        return not invariants.is_refused(entry)

    def too_early(self) -> list[str]:
        """After a POST that failed, the next one of the same resource comes no earlier than the back-off allows.

        A change by a user, or by Vercel's side of the token, ends the wait.
        """
        problems = []
        for sent in self.sent.values():
            for before, after in pairwise(sent):
                if before.made.names != after.made.names or after.made.requested:
                    continue
                if any(before.entry.seq <= seq < after.entry.seq for seq in self._world.acts):
                    continue
                wait = invariants.least_wait(self._world, before.entry)
                between = timedelta(milliseconds=after.entry.time - before.entry.time)
                if between + invariants.SLACK < wait:
                    problems.append(
                        f"POST {after.entry.seq} for {sorted(after.made.names)} came {between.total_seconds():.0f} s "
                        f"after {before.entry.seq} ({invariants.outcome(before.entry)}), which asks for "
                        f"{wait.total_seconds():.0f} s"
                    )
        return problems

    # --- what must hold -------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Returns what was wrong so far."""
        self._match_posts()
        return [*self._problems, *self._removals(), *self._voids(), *self.too_early()]

    def _removals(self) -> list[str]:
        """No certificate is removed that was neither issued nor adopted, nor is a renewal of one that was."""
        removed = [one for one in self._world.emulator.state.all() if one.removed_by == "request"]
        return [
            f"{certificate.id} for {certificate.cns} was removed, and is someone else's"
            for certificate in removed
            if self.truth(certificate.id) == "foreign"
        ]

    def _voids(self) -> list[str]:
        return [
            f"attempt {made.id} of {made.name} counts as never sent, and POST {made.posts[0].seq} belongs to it"
            for made in self.made.values()
            if made.outcome == "Void" and made.posts
        ]

    def left_behind(self, bodies: Iterable[Body], said: Iterable[Body]) -> list[str]:
        """Every certificate that the operator issued is in a status, or an Event leaves it to the user.

        Where somebody has destroyed the record, it is reported if a resource with its names was there before it.
        """
        bodies, said = list(bodies), list(said)
        held = {named["id"] for body in bodies for named in _named(body.get("status") or {})}
        lost = {
            entry.certificate
            for attempt_id in self._destroyed_attempts
            if self.made[attempt_id].life != self._world.lives
            for entry in self.made[attempt_id].posts
        }
        problems = []
        for certificate in self._world.emulator.state.live():
            if certificate.id in held or self.truth(certificate.id) != "issued":
                continue
            if invariants.is_reported(certificate, said) or self._is_out_of_reach(certificate, bodies, said):
                continue
            if any(self._watches(body, certificate) for body in bodies):
                problems.append(f"certificate {certificate.id} for {certificate.cns} is an orphan, and nothing says so")
            elif certificate.origin in invariants.OURS and certificate.id not in self.destroyed | lost:
                problems.append(f"certificate {certificate.id} for {certificate.cns} is live, and nothing says so")
        return problems

    def _is_out_of_reach(self, certificate: Certificate, bodies: Iterable[Body], said: Iterable[Body]) -> bool:
        """Whether it is in an account that no resource uses now, and an Event says that an attempt was lost."""
        if any(self.scope(body) == certificate.scope for body in bodies):
            return False
        lost = [event["note"] for event in said if event["reason"] == Reason.ATTEMPT_LOST]
        return any(all(name in note for name in certificate.cns) for note in lost)

    def _watches(self, body: Body, certificate: Certificate) -> bool:
        """Whether a resource has the names of a certificate, was there before it, and has its scope listed."""
        status = body.get("status") or {}
        if (
            body["metadata"].get("deletionTimestamp")
            or _attempts(body)
            or not (status.get("id") or "attempt" in status)
        ):
            return False
        created = invariants.parsed(body["metadata"]["creationTimestamp"]).timestamp() * 1000
        same = normalized(body["spec"]["cns"]) == normalized(certificate.cns)
        return same and self.scope(body) == certificate.scope and created <= certificate.made_at


def _named(status: Body) -> list[Body]:
    """The certificates in a status, with their origins."""
    current = [{"id": status["id"], "origin": status.get("origin")}] if status.get("id") else []
    return [*current, *status.get("superseded", ())]


def _attempts(body: Body) -> bool:
    attempt = (body.get("status") or {}).get("attempt") or {"outcome": "none"}
    return not attempt.get("outcome")


def _is_released(body: Body) -> bool:
    metadata = body["metadata"]
    return bool(metadata.get("deletionTimestamp")) and "vercel-operator.io/certificate" not in metadata.get(
        "finalizers", ()
    )


def _seniority(body: Body) -> tuple[str, str]:
    return body["metadata"]["creationTimestamp"], body["metadata"]["uid"]


def _is_clean(entry: Entry) -> bool:
    """Whether the answer to a POST said what came of it."""
    return entry.outcome == "answered" and entry.action is None
