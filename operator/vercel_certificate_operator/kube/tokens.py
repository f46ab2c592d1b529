"""Vercel tokens: from Secrets, or the operator's own default.

A token is held as a secret type, is read when it is needed, and is remembered for a minute at most. Secrets are read
with ``get`` alone: no list, no watch.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio.client import ApiClient, CoreV1Api
from pydantic import SecretStr

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.resource import TokenSecretRef
from vercel_certificate_operator.kube.connection import REQUEST_LIMIT, translated
from vercel_certificate_operator.kube.errors import Denied, Gone

REMEMBERED = 50.0
"""Seconds; with the time of a reconcile this stays below the promised minute."""
KEPT_FOR_REMOVAL = 3600.0
"""Seconds that the last good token is kept after its Secret has gone, for the removal of certificates alone."""

Place = tuple[str, str, str]
"""Where a token is: namespace, name and key of a Secret. The operator's own has none."""


class TokenMissing(Exception):
    """There is no usable token. The message is one line, for users; it never holds a token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and a name for it that is safe to show."""

    value: SecretStr
    fingerprint: str
    place: Place | None = None
    """Where it is from; None: the operator's own."""

    @classmethod
    def of(cls, text: str, where: str, place: Place | None = None) -> "Token":
        """A token from its text, without the white space around it.

        Raises:
            TokenMissing: it is empty, or can't be a token.
        """
        text = text.strip()
        if not text:
            raise TokenMissing(f"{where} is empty")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise TokenMissing(f"{where} does not hold a token: it has characters that no token has")
        return cls(SecretStr(text), hashlib.sha256(text.encode()).hexdigest()[:12], place)


class DefaultToken:
    """The operator's own token: from a file, which is read again each time since it may be rotated, or as a value."""

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

    def read_for(self, namespace: str) -> Token:
        """The token for a resource in this namespace. Raises TokenMissing."""
        exists = self._file is not None or self._value is not None
        if exists and not self.namespaces & {namespace, "*"}:
            raise TokenMissing(
                f"namespace {namespace} may not use the operator's default token: set spec.tokenSecretRef"
            )
        return self.read()

    def read(self) -> Token:
        """Raises TokenMissing."""
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

    def __init__(self, client: ApiClient, default: DefaultToken, clock: Clock) -> None:
        self._api = CoreV1Api(client)
        self._default = default
        self._clock = clock
        self._remembered: dict[Place, tuple[float, Token]] = {}
        self._last_good: dict[Place, Token] = {}
        self._missing_since: dict[Place, float] = {}

    def may_adopt(self, namespace: str, ref: TokenSecretRef | None) -> bool:
        """Whether resources there may adopt: with a token of their own, or if the namespace is listed by its name."""
        return ref is not None or namespace in self._default.namespaces

    async def get_for_removal(self, namespace: str, ref: TokenSecretRef | None) -> Token:
        """As ``get``; where the Secret is gone, the last good token, for an hour.

        When a namespace goes, its Secrets may go before its resources.
        """
        try:
            return await self.get(namespace, ref)
        except TokenMissing:
            place = (namespace, ref.name, ref.key) if ref is not None else None
            if place is None or place not in self._last_good:
                raise
            if self._clock.monotonic() - self._missing_since[place] > KEPT_FOR_REMOVAL:
                del self._last_good[place]
                raise
            return self._last_good[place]

    async def get(self, namespace: str, ref: TokenSecretRef | None) -> Token:
        """The token for a resource in this namespace.

        Raises:
            TokenMissing: there is none.
            KubeError: the Secret could not be read for now.
        """
        if ref is None:
            return self._default.read_for(namespace)
        place = (namespace, ref.name, ref.key)
        now = self._clock.monotonic()
        at, token = self._remembered.get(place, (0.0, None))
        if token is not None and now - at < REMEMBERED:
            return token
        self._remembered.pop(place, None)
        try:
            token = await self._read(*place)
        except TokenMissing:
            self._missing_since.setdefault(place, now)
            raise
        self._missing_since.pop(place, None)
        self._remembered[place], self._last_good[place] = (now, token), token
        return token

    async def _read(self, namespace: str, name: str, key: str) -> Token:
        where = f"Secret {namespace}/{name}"
        try:
            async with translated(f"reading {where}"):
                secret = await self._api.read_namespaced_secret(name, namespace, _request_timeout=REQUEST_LIMIT)
        except Gone as error:
            raise TokenMissing(f"{where} does not exist: create it, or correct spec.tokenSecretRef") from error
        except Denied as error:
            raise TokenMissing(f"the operator may not: {error.message}") from error
        data = secret.data or {}
        if key not in data:
            keys = ", ".join(sorted(data)) or "none"
            raise TokenMissing(f"{where} has no key {key} (it has: {keys}): add it, or correct spec.tokenSecretRef")
        try:
            text = base64.b64decode(data[key]).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise TokenMissing(f"key {key} of {where} is not text") from error
        return Token.of(text, f"key {key} of {where}", (namespace, name, key))
