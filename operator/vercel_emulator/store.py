"""The certificates, and all that Vercel does with them. No IO, no time of its own."""

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
    """A page of the list; ``next`` and ``prev`` are epoch milliseconds, None at an end."""

    certificates: tuple[Certificate, ...]
    next: int | None
    prev: int | None


class Store:
    """Every certificate that there ever was, removed ones too, in the order of their making.

    ``behaviour`` can be exchanged at any time. ``version`` grows with every change. With a ``seed`` the ids are the
    same in each run.
    """

    def __init__(self, clock: Clock, behaviour: Behaviour, *, seed: str | None = None) -> None:
        self.clock = clock
        self._behaviour = behaviour
        self._renewal_since = 0
        self._seed = seed
        self._certificates: dict[str, Certificate] = {}
        self._lists: dict[str, list[Certificate]] = {}
        self.version = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
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
        """A certificate for checked names: a new one, or (by ``behaviour.reissue``) the one there is."""
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
        """A certificate that the user has brought; ``expires_at`` in epoch milliseconds."""
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
        """A certificate that is there. Raises ApiError (404)."""
        self.settle()
        certificate = self._certificates.get(cert_id)
        if certificate is None or certificate.scope != scope or certificate.removed_at is not None:
            raise cert_not_found(cert_id)
        return certificate

    def remove(self, cert_id: str, *, scope: str) -> Certificate:
        """Remove a certificate. Raises ApiError (404), also the second time."""
        certificate = self.get(cert_id, scope=scope)
        certificate.removed_at, certificate.removed_by = self.clock.now_ms(), "request"
        self._changed()
        return certificate

    def page(self, *, scope: str, until: int | None = None, limit: int | None = None) -> Page:
        """A page of the list: newest first, from before ``until`` (epoch ms).

        ``until`` is all that a client has to go on with, and many certificates can share its millisecond. So a page
        never ends within a millisecond: it rather grows beyond the limit. Whoever follows ``next`` sees every
        certificate, once (with ``behaviour.until`` inclusive, those at the seam twice).
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
            # with an inclusive `until`, a page of nothing but the seam would lead nowhere
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
        """Do the renewals of Vercel's own that have become due, dated when they were due."""
        behaviour, now = self._behaviour, self.clock.now_ms()
        if behaviour.renewal == "off":
            return
        for certificate in list(self._certificates.values()):
            if certificate.auto_renew and certificate.removed_at is None and certificate.replaced_by is None:
                self._renew_if_due(certificate, now)

    # --- what others do, seen from outside

    def all(self) -> list[Certificate]:
        """Every certificate there ever was, in the order of their making."""
        self.settle()
        return list(self._certificates.values())

    def live(self) -> list[Certificate]:
        """Those that have not been removed, in the order of their making; expired ones too."""
        return [certificate for certificate in self.all() if certificate.removed_at is None]

    def find(self, cert_id: str) -> Certificate | None:
        """A certificate, in any scope, removed or not."""
        self.settle()
        return self._certificates.get(cert_id)

    def inject(self, injection: Injection) -> Certificate:
        """Somebody else has made a certificate. Raises ValueError if its id is taken."""
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
        """Somebody else has changed a certificate. Raises ApiError (404) if it is not there."""
        certificate = self._there(cert_id)
        for name in change.model_fields_set:
            if (value := getattr(change, name)) is not None:
                setattr(certificate, name, value)
        certificate.settled_at = self.clock.now_ms()
        self._changed()
        return certificate

    def vanish(self, cert_id: str) -> Certificate:
        """Somebody else has removed a certificate. Raises ApiError (404) if it is not there."""
        certificate = self._there(cert_id)
        certificate.removed_at, certificate.removed_by = self.clock.now_ms(), "control"
        self._changed()
        return certificate

    def load(self, certificates: Sequence[Certificate]) -> None:
        """Take over the certificates of an earlier run."""
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
        """What is there, newest first; the later one first where the time is the same."""
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
        # not all of the lifetime: it would be renewed for ever
        return lifetime_ms // 3 if before is None else min(before // _MILLISECOND, lifetime_ms - 1)

    def _renew_if_due(self, certificate: Certificate, now: int) -> None:
        lifetime = max(certificate.expires_at - certificate.created_at, 1)
        due = certificate.expires_at - self._renew_before_ms(lifetime)
        due = max(due, certificate.settled_at, self._renewal_since)
        if due > now:
            return
        # a clock that was moved far may have passed several renewals: only the last of them is still to be seen
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
    """``cert_`` and 24 letters and digits."""
    return "cert_" + "".join(
        _ALPHABET[byte % len(_ALPHABET)] for byte in sha256(f"{salt}/{number}".encode()).digest()[:24]
    )
