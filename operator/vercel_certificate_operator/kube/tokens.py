"""Vercel tokens: from Secrets, or the operator's own default.

A token is held as a secret type, is read when it is needed, and is remembered for a minute at most. Secrets are read
with ``get`` alone: no list, no watch.
"""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.record import token_hash
from vercel_certificate_operator.core.resource import Key, TokenSecretRef
from vercel_certificate_operator.core.sightings import Place
from vercel_certificate_operator.kube.errors import Denied, Gone, KubeError
from vercel_certificate_operator.kube.secrets import Secrets

REMEMBERED = 50.0
"""Seconds; with the time of a reconcile this stays below the promised minute."""
MISSING_REMEMBERED = 4.0
"""Seconds; less than the first wait of a resource without a token. Many resources may name one missing Secret."""
READ_SHARED = MISSING_REMEMBERED
"""Seconds for which one read of a Secret serves all of its keys: many resources may name one key each."""
MOST_READ = 16
"""Secrets of which something is kept for that."""
MOST_OF_SECRET = 64 * 1024
"""Characters that are kept of one. Of a larger one, only the keys that somebody waited for: it can have a megabyte."""
KEPT_FOR_REMOVAL = 3600.0
"""Seconds that the last good token is kept after its Secret has gone, for the removal of certificates alone."""

MARK = "vercel-operator.io/token"
"""The type of a Secret that holds tokens; or its label, with the value "true". It is optional."""
OF_OTHERS = ("kubernetes.io/", "bootstrap.kubernetes.io/", "helm.sh/")
"""How the types of Secrets begin that hold something else."""
LONGEST = 512
"""Characters of a token, also of a marked one: a Secret can hold a megabyte, and tokens are kept in memory."""
NAMED_KEYS = 5
"""Keys of a Secret that a message names. There can be thousands, and each resource keeps its message."""
LONGEST_KEY = 63
"""Characters of each of them."""
LONGEST_VALUE = 4096
"""Characters of a value in base64: it may have white space around the token."""
TOO_LONG = base64.b64encode(b"x" * (LONGEST + 1)).decode()
"""What is kept of a longer value."""
PLAUSIBLE = re.compile(rf"[A-Za-z0-9_-]{{12,{LONGEST}}}")
"""Vercel's tokens have 24 or more letters and digits, and the newer ones an underscore.

Source: https://vercel.com/changelog/new-token-formats-and-secret-scanning.
"""


class TokenMissing(Exception):
    """There is no usable token. The message is one line for users and never contains a token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and a name for it that is safe to show."""

    value: SecretStr
    fingerprint: str
    place: Place | None = None
    """Where it is from; None: the operator's own."""

    def __str__(self) -> str:
        return words.token(self.place)

    def hash_for(self, key: Key) -> str:
        """Returns which token it is, for the record of a resource."""
        return token_hash(self.value.get_secret_value(), f"{key.namespace}/{key.name}", self.place)

    @classmethod
    def of(cls, text: str, where: str, place: Place | None = None) -> "Token":
        """Returns a token from its text, without the white space around it.

        Raises:
            TokenMissing: it is empty, too long, or can't be a token.
        """
        text = text.strip()
        if not text:
            raise TokenMissing(f"{where} is empty")
        if len(text) > LONGEST:
            raise TokenMissing(f"{where} does not hold a token: it has more than {LONGEST} characters")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise TokenMissing(f"{where} does not hold a token: it has characters that no token has")
        return cls(SecretStr(text), hashlib.sha256(text.encode()).hexdigest()[:12], place)


@dataclass(frozen=True, slots=True)
class _Secret:
    """What is needed of a Secret."""

    type: str
    marked: bool
    """Whether its label says that it holds tokens."""
    named: str
    """What a message says about its keys."""
    data: Mapping[str, str]
    whole: bool
    """Whether these are all of its values."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A read of a Secret."""

    at: float
    keys: set[str]
    """The keys that somebody waits for."""
    task: asyncio.Task[_Secret]

    def serves(self, key: str, now: float) -> bool:
        """Returns whether it says what the Secret has under a key now."""
        if not self.task.done():
            return True
        failed = self.task.cancelled() or self.task.exception() is not None
        return now - self.at < READ_SHARED and (failed or key in self.keys or self.task.result().whole)


class DefaultToken:
    """The operator's own token: from a file, which is read each time because it may be rotated, or from a value."""

    def __init__(
        self, *, file: Path | None = None, value: SecretStr | None = None, namespaces: Collection[str] = ()
    ) -> None:
        """
        Args:
            file: where the token is; takes precedence over the value.
            value: the token itself.
            namespaces: those that may use it. ``*`` stands for all of them; none: nobody may.
        """
        self._file = file
        self._value = value
        self.namespaces = frozenset(namespaces)

    def serves(self, namespace: str) -> bool:
        """Returns whether resources in this namespace may use it."""
        return not self.namespaces.isdisjoint({namespace, "*"})

    def read_for(self, namespace: str) -> Token:
        """Returns the token for a resource in this namespace. Raises TokenMissing."""
        exists = self._file is not None or self._value is not None
        if exists and not self.serves(namespace):
            raise TokenMissing(
                f"namespace {namespace} may not use the operator's default token: set spec.tokenSecretRef"
            )
        return self.read()

    def read(self) -> Token:
        """Returns the token. Raises TokenMissing."""
        if self._file is not None:
            try:
                text = self._file.read_text()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not text"
                raise TokenMissing(f"the token file {self._file} can't be read: {why}") from error
            return Token.of(text, f"the token file {self._file}")
        if self._value is not None:
            return Token.of(self._value.get_secret_value(), "VERCEL_TOKEN")
        raise TokenMissing("spec.tokenSecretRef is not set, and the operator has no default token")


class Tokens:
    """The tokens that resources use."""

    def __init__(self, secrets: Secrets, default: DefaultToken, clock: Clock) -> None:
        self._secrets = secrets
        self._default = default
        self._clock = clock
        self._remembered: dict[Place, tuple[float, Token | TokenMissing]] = {}
        self._reading: dict[tuple[str, str], _Read] = {}
        """The reads of Secrets that are in progress."""
        self._reads: dict[tuple[str, str], _Read] = {}
        """The newest of those that have ended; the oldest first."""
        self._forgetting: asyncio.Task[None] | None = None
        self._last_good: dict[str, Token] = {}
        self._missing_since: dict[str, float] = {}

    def may_adopt(self, namespace: str, ref: TokenSecretRef | None) -> bool:
        """Returns whether resources there may adopt certificates: with a token of their own, or if named for ours."""
        return ref is not None or namespace in self._default.namespaces

    def may_use(self, namespace: str, ref: TokenSecretRef | None) -> bool:
        """Returns whether resources there may use the token that they name, or the default token if they name none."""
        return ref is not None or self._default.serves(namespace)

    async def get_for_removal(self, namespace: str, ref: TokenSecretRef | None, uid: str) -> Token:
        """Like ``get``; if the Secret is gone, the last good token of this resource, for an hour.

        When a namespace is deleted, its Secrets may go before its resources.

        Args:
            uid: the resource's. No other resource gets its token.
        """
        try:
            return await self.get(namespace, ref, uid)
        except TokenMissing:
            now = self._clock.monotonic()
            since = self._missing_since.setdefault(uid, now)
            last = self._last_good.get(uid)
            if last is None or now - since > KEPT_FOR_REMOVAL:
                self._last_good.pop(uid, None)
                raise
            return last

    async def get(self, namespace: str, ref: TokenSecretRef | None, uid: str | None = None) -> Token:
        """Returns the token for a resource in this namespace.

        Args:
            uid: of a resource that holds a certificate: the token is kept for its removal.

        Raises:
            TokenMissing: there is none.
            KubeError: the Secret could not be read for now.
        """
        if ref is None:
            return self._default.read_for(namespace)
        place = (namespace, ref.name, ref.key)
        now = self._clock.monotonic()
        at, found = self._remembered.get(place, (0.0, None))
        if found is None or now - at >= _remembered_for(found):
            at, found = await self._find(place)
            self._remember(place, at, found)
        if isinstance(found, TokenMissing):
            raise TokenMissing(str(found))
        token = found
        if uid is not None:
            self._missing_since.pop(uid, None)
            self._last_good[uid] = token
        return token

    async def _find(self, place: Place) -> tuple[float, Token | TokenMissing]:
        """Returns the token of a place, or why there is none; and when the Secret was read."""
        namespace, name, _ = place
        where = f"Secret {namespace}/{name}"
        read = self._read_of(place)
        try:
            secret = await asyncio.shield(read.task)  # others wait for it too
            return read.at, _token_in(secret, where, place)
        except Gone:
            why = f"{where} does not exist: create it, or correct spec.tokenSecretRef"
        except Denied as error:
            why = f"the operator has no right to read {where}: {error.message}"
        except TokenMissing as missing:
            why = str(missing)
        except KubeError:
            if self._reads.get((namespace, name)) is read:
                del self._reads[namespace, name]
            raise
        return read.at, TokenMissing(why)

    def _read_of(self, place: Place) -> _Read:
        """Returns a read of a Secret: the one in progress, or one of a moment ago, or a new one."""
        *secret, key = place
        which, now = (secret[0], secret[1]), self._clock.monotonic()
        known = self._reading.get(which) or self._reads.get(which)
        if known is None or not known.serves(key, now):
            keys: set[str] = set()
            task = asyncio.create_task(self._read(*which, keys), name=f"read Secret {which[0]}/{which[1]}")
            known = self._reading[which] = _Read(now, keys, task)
            task.add_done_callback(lambda _: self._was_read(which, known))
        if not known.task.done():
            known.keys.add(key)
        return known

    async def _read(self, namespace: str, name: str, keys: Collection[str]) -> _Secret:
        return _needed_of(await self._secrets.get(namespace, name), keys)

    def _was_read(self, which: tuple[str, str], read: _Read) -> None:
        if self._reading.get(which) is read:
            del self._reading[which]
        if read.task.cancelled():
            return  # the process ends
        self._reads.pop(which, None)
        self._reads[which] = read
        while len(self._reads) > MOST_READ:
            del self._reads[next(iter(self._reads))]
        self._forget_in_time()

    async def aclose(self) -> None:
        """Ends the reads in progress: those who wait for them may have gone, and each has a connection."""
        tasks: list[asyncio.Task[Any]] = [read.task for read in self._reading.values()]
        if self._forgetting is not None:
            tasks.append(self._forgetting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remember(self, place: Place, at: float, found: Token | TokenMissing) -> None:
        self._remembered.pop(place, None)
        self._remembered[place] = at, found
        self._forget_old()  # also if the read itself took so long
        self._forget_in_time()

    def _forget_old(self) -> None:
        """Forgets what is too old. The oldest are first."""
        now = self._clock.monotonic()
        while self._remembered and next(iter(self._remembered.values()))[0] + REMEMBERED <= now:
            del self._remembered[next(iter(self._remembered))]
        while self._reads and next(iter(self._reads.values())).at + READ_SHARED <= now:
            del self._reads[next(iter(self._reads))]

    def _forget_in_time(self) -> None:
        """Sees to it that what is remembered is forgotten, also if nothing is read any longer."""
        if self._forgetting is None or self._forgetting.done():
            self._forgetting = asyncio.create_task(self._forget_all(), name="forget tokens")

    async def _forget_all(self) -> None:
        while self._remembered or self._reads:
            remembered = [at + REMEMBERED for at, _ in islice(self._remembered.values(), 1)]
            reads = [read.at + READ_SHARED for read in islice(self._reads.values(), 1)]
            await self._clock.wait(asyncio.Event(), min(remembered + reads) - self._clock.monotonic())
            self._forget_old()

    async def at(self, place: Place | None) -> Token:
        """Returns the token of a place; None: the default token. Raises as ``get`` does."""
        if place is None:
            return self._default.read()
        namespace, name, key = place
        return await self.get(namespace, TokenSecretRef(name=name, key=key))

    def forget(self, uid: str) -> None:
        """Drops the token that was kept for a resource, which is gone."""
        self._last_good.pop(uid, None)
        self._missing_since.pop(uid, None)


def _needed_of(secret: Mapping[str, Any], keys: Collection[str]) -> _Secret:
    """Returns what is needed of a Secret.

    Args:
        keys: those that somebody waits for.
    """
    data: Mapping[str, str] = secret.get("data") or {}
    whole = sum(len(key) + len(value) for key, value in data.items()) <= MOST_OF_SECRET
    return _Secret(
        type=secret.get("type") or "",
        marked=(secret["metadata"].get("labels") or {}).get(MARK) == "true",
        named=_named(data),
        data={key: _shortened(value) for key, value in data.items() if whole or key in keys},
        whole=whole,
    )


def _shortened(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else TOO_LONG


def _token_in(secret: _Secret, where: str, place: Place) -> Token:
    """Returns the token in a Secret. Raises TokenMissing."""
    key, data = place[2], secret.data
    if key not in data:
        raise TokenMissing(f"{where} has no key {key} (it has: {secret.named}): add it, or correct spec.tokenSecretRef")
    try:
        text = base64.b64decode(data[key]).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise TokenMissing(f"key {key} of {where} is not text") from error
    token = Token.of(text, f"key {key} of {where}", place)
    if not _may_hold_tokens(secret, token):
        raise TokenMissing(
            f"key {key} of {where} does not look like a Vercel token, so the operator does not send it to Vercel. "
            f'Correct spec.tokenSecretRef; or, if it is a token, set the label {MARK}: "true" on the Secret'
        )
    return token


def _remembered_for(found: Token | TokenMissing) -> float:
    return MISSING_REMEMBERED if isinstance(found, TokenMissing) else REMEMBERED


def _named(keys: Collection[str]) -> str:
    """Returns the first of these keys for a message, and how many more there are."""
    named = [key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 1]}…" for key in sorted(keys)[:NAMED_KEYS]]
    more = [f"and {len(keys) - NAMED_KEYS:,} more"] if len(keys) > NAMED_KEYS else []
    return ", ".join([*named, *more]) or "none"


def _may_hold_tokens(secret: _Secret, token: Token) -> bool:
    """Returns whether a Secret's value may be sent to Vercel as a token.

    Anyone who may create resources can name any Secret of the namespace: a database's password must not leave it.
    """
    if secret.type == MARK or secret.marked:
        return True
    return not secret.type.startswith(OF_OTHERS) and PLAUSIBLE.fullmatch(token.value.get_secret_value()) is not None
