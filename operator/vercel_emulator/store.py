"""The certificates, and what Vercel does with them. No IO; the time comes from the emulator's clock."""

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from vercel_emulator.clock import Clock
from vercel_emulator.errors import cert_not_found
from vercel_emulator.models import DEFAULT_SCOPE, Behaviour, Certificate, CertificateChange, Injection

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        certificates: The certificates on the page.
        next: The ``until`` of the next page, in epoch milliseconds; None on the last page.
        prev: ``createdAt`` of the first certificate, in epoch milliseconds; None on the first page.
    """

    certificates: tuple[Certificate, ...]
    next: int | None
    prev: int | None


class Store:
    """All certificates, including removed ones, in the order in which they were made.

    Attributes:
        clock: The emulator's clock.
        behaviour: The switches. They can be replaced at any time.
        version: A number that grows with every change.
    """

    def __init__(self, clock: Clock, behaviour: Behaviour, *, seed: str | None = None) -> None:
        """Start without certificates.

        Args:
            clock: The emulator's clock.
            behaviour: The switches.
            seed: Makes the ids the same in each run.
        """
        self.clock = clock
        self._behaviour = behaviour
        self._renewal_since = 0
        self._seed = seed
        self._certificates: dict[str, Certificate] = {}
        self._lists: dict[str, list[Certificate]] = {}
        self.version = 0
        self.clear()

    def clear(self) -> None:
        """Forget all certificates."""
        salt = self._seed if self._seed is not None else secrets.token_hex(16)
        self._ids = (_cert_id(salt, number) for number in itertools.count())
        self._certificates.clear()
        self._renewal_since = 0
        self._changed()

    @property
    def behaviour(self) -> Behaviour:
        """The switches."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self.settle()
        if behaviour.renewal != self._behaviour.renewal or behaviour.renew_before != self._behaviour.renew_before:
            self._renewal_since = self.clock.now_ms()
        self._behaviour = behaviour

    # --- what Vercel's API does

    def issue(self, cns: Sequence[str], *, scope: str = DEFAULT_SCOPE, token: str | None = None) -> Certificate:
        """Issue a certificate.

        Args:
            cns: The names, already checked.
            scope: Where the certificate belongs.
            token: The name of the request's token.

        Returns:
            A new certificate, or an existing one if ``behaviour.reissue`` says so.
        """
        self.settle()
        now = self.clock.now_ms()
        if self._behaviour.reissue == "old":
            for certificate in self._listed(scope):
                if set(certificate.cns) == set(cns) and certificate.expires_at > now:
                    return certificate
        return self._add(
            Certificate(
                id=self._new_id(),
                created_at=now,
                expires_at=now + self._lifetime_ms,
                auto_renew=True,
                cns=list(cns),
                scope=scope,
                token=token,
            )
        )

    def upload(
        self, cns: Sequence[str], expires_at: int, *, scope: str = DEFAULT_SCOPE, token: str | None = None
    ) -> Certificate:
        """Store an uploaded certificate.

        Args:
            cns: The names, already checked.
            expires_at: When it expires, in epoch milliseconds.
            scope: Where the certificate belongs.
            token: The name of the request's token.

        Returns:
            The new certificate.
        """
        self.settle()
        return self._add(
            Certificate(
                id=self._new_id(),
                created_at=self.clock.now_ms(),
                expires_at=expires_at,
                auto_renew=False,
                cns=list(cns),
                scope=scope,
                origin="uploaded",
                token=token,
            )
        )

    def get(self, cert_id: str, *, scope: str) -> Certificate:
        """Return a certificate.

        Raises:
            ApiError: 404, because it does not exist in the scope or was removed.
        """
        self.settle()
        certificate = self._certificates.get(cert_id)
        if certificate is None or certificate.scope != scope or certificate.removed_at is not None:
            raise cert_not_found(cert_id)
        return certificate

    def remove(self, cert_id: str, *, scope: str) -> Certificate:
        """Remove a certificate.

        Raises:
            ApiError: 404, because it does not exist in the scope or was removed.
        """
        certificate = self.get(cert_id, scope=scope)
        certificate.removed_at, certificate.removed_by = self.clock.now_ms(), "request"
        self._changed()
        return certificate

    def page(self, *, scope: str, until: int | None = None, limit: int | None = None) -> Page:
        """Return a page of the list, the newest certificates first.

        Many certificates can share a millisecond, and ``until`` can't tell them apart. So a page never ends within a
        millisecond: it grows beyond the limit instead. A client that follows ``next`` gets every certificate once (with
        ``behaviour.until`` set to ``inclusive``, those at the start of a page twice).

        Args:
            scope: Whose certificates.
            until: Only certificates older than this time, in epoch milliseconds.
            limit: How many certificates; None for ``behaviour.page_size``.

        Returns:
            The page.
        """
        self.settle()
        everything = self._listed(scope)
        inclusive = self._behaviour.until == "inclusive"
        start = 0
        if until is not None:
            start = sum(1 for c in everything if (c.created_at > until if inclusive else c.created_at >= until))
        end = start
        size = limit or self._behaviour.page_size
        while end < len(everything) and (
            end - start < size
            or everything[end].created_at == everything[end - 1].created_at
            # With an inclusive `until`, a page must have more than the certificates of that millisecond.
            or everything[end - 1].created_at == until
        ):
            end += 1
        found = everything[start:end]
        return Page(
            certificates=tuple(found),
            next=found[-1].created_at if end < len(everything) else None,
            prev=found[0].created_at if found and start else None,
        )

    def settle(self) -> None:
        """Do Vercel's own renewals that are due. Each is dated when it became due."""
        behaviour, now = self._behaviour, self.clock.now_ms()
        if behaviour.renewal == "off":
            return
        for certificate in list(self._certificates.values()):
            if certificate.auto_renew and certificate.removed_at is None and certificate.replaced_by is None:
                self._renew_if_due(certificate, now)

    # --- what the tests see, and what other people do

    def all(self) -> list[Certificate]:
        """Return all certificates, in the order in which they were made."""
        self.settle()
        return list(self._certificates.values())

    def live(self) -> list[Certificate]:
        """Return the certificates that have not been removed, including expired ones."""
        return [certificate for certificate in self.all() if certificate.removed_at is None]

    def find(self, cert_id: str) -> Certificate | None:
        """Return a certificate of any scope, removed or not; None if it never existed."""
        self.settle()
        return self._certificates.get(cert_id)

    def inject(self, injection: Injection) -> Certificate:
        """Add a certificate, as another person would.

        Raises:
            ValueError: A certificate has this id already.
        """
        self.settle()
        if injection.id in self._certificates:
            raise ValueError(f"there is a certificate {injection.id} already")
        created_at = self.clock.now_ms() if injection.created_at is None else injection.created_at
        return self._add(
            Certificate(
                id=injection.id or self._new_id(),
                created_at=created_at,
                expires_at=created_at + self._lifetime_ms if injection.expires_at is None else injection.expires_at,
                auto_renew=injection.auto_renew,
                cns=injection.cns,
                scope=injection.scope,
                origin="injected",
            )
        )

    def change(self, cert_id: str, change: CertificateChange) -> Certificate:
        """Change a certificate, as another person would.

        Raises:
            ApiError: 404, because it does not exist or was removed.
        """
        certificate = self._there(cert_id)
        for name in change.model_fields_set:
            if (value := getattr(change, name)) is not None:
                setattr(certificate, name, value)
        certificate.settled_at = self.clock.now_ms()
        self._changed()
        return certificate

    def vanish(self, cert_id: str) -> Certificate:
        """Remove a certificate, as another person would.

        Raises:
            ApiError: 404, because it does not exist or was removed.
        """
        certificate = self._there(cert_id)
        certificate.removed_at, certificate.removed_by = self.clock.now_ms(), "control"
        self._changed()
        return certificate

    def load(self, certificates: Sequence[Certificate]) -> None:
        """Replace all certificates by those of an earlier run."""
        self._certificates = {certificate.id: certificate for certificate in certificates}
        self._changed()

    # ---

    @property
    def _lifetime_ms(self) -> int:
        return self._behaviour.lifetime // _MILLISECOND

    def _there(self, cert_id: str) -> Certificate:
        certificate = self.find(cert_id)
        if certificate is None or certificate.removed_at is not None:
            raise cert_not_found(cert_id)
        return certificate

    def _listed(self, scope: str) -> list[Certificate]:
        """Return what exists in a scope, the newest first; of the same time, the last one made first."""
        if scope not in self._lists:
            there = [c for c in self._certificates.values() if c.scope == scope and c.removed_at is None]
            there.reverse()
            self._lists[scope] = sorted(there, key=lambda c: c.created_at, reverse=True)
        return self._lists[scope]

    def _new_id(self) -> str:
        return next(cert_id for cert_id in self._ids if cert_id not in self._certificates)

    def _add(self, certificate: Certificate) -> Certificate:
        certificate.settled_at = self.clock.now_ms()
        self._certificates[certificate.id] = certificate
        self._changed()
        return certificate

    def _changed(self) -> None:
        self._lists.clear()
        self.version += 1

    def _renew_before_ms(self, lifetime_ms: int) -> int:
        before = self._behaviour.renew_before
        # Less than the lifetime, so that a renewed certificate is not due again at once.
        return lifetime_ms // 3 if before is None else min(before // _MILLISECOND, lifetime_ms - 1)

    def _renew_if_due(self, certificate: Certificate, now: int) -> None:
        lifetime = max(certificate.expires_at - certificate.created_at, 1)
        due = certificate.expires_at - self._renew_before_ms(lifetime)
        due = max(due, certificate.settled_at, self._renewal_since)
        if due > now:
            return
        # If the clock was moved past several renewals, only the last one is visible.
        step = self._lifetime_ms - self._renew_before_ms(self._lifetime_ms)
        moment = due + (now - due) // step * step
        if self._behaviour.renewal == "same-id":
            if self._behaviour.renewal_moves_created_at:
                certificate.created_at = moment
            certificate.expires_at = moment + self._lifetime_ms
            certificate.settled_at = moment
            certificate.renewals += 1 + (now - due) // step
            self._changed()
            return
        renewed = self._add(
            Certificate(
                id=self._new_id(),
                created_at=moment,
                expires_at=moment + self._lifetime_ms,
                auto_renew=True,
                cns=certificate.cns,
                scope=certificate.scope,
                origin="renewed",
            )
        )
        renewed.settled_at = moment
        certificate.replaced_by = renewed.id
        if self._behaviour.renewal_removes_old:
            certificate.removed_at, certificate.removed_by = moment, "renewal"


def _cert_id(salt: str, number: int) -> str:
    """Return ``cert_`` and 24 letters and digits."""
    return "cert_" + "".join(
        _ALPHABET[byte % len(_ALPHABET)] for byte in sha256(f"{salt}/{number}".encode()).digest()[:24]
    )
