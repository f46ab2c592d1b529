"""The certificates, and what Vercel does with them. No IO; the time comes from the emulator's clock."""

import itertools
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from vercel_emulator import listing, renewals
from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError, cert_not_found
from vercel_emulator.models import (
    DEFAULT_SCOPE,
    Behaviour,
    Certificate,
    CertificateChange,
    Injection,
    ListOrder,
    Renewal,
    to_ms,
)

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_WEEK_MS = 7 * 86_400_000


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
        self._first_renewal = 0
        """Before this time, in epoch milliseconds, no renewal is due; 0: unknown. So one look spares thousands."""
        self._seed = seed
        self._certificates: dict[str, Certificate] = {}
        self._lists: dict[tuple[str, ListOrder], list[Certificate]] = {}
        self.version = 0
        self.clear()

    def clear(self) -> None:
        """Forget all certificates."""
        salt = self._seed if self._seed is not None else secrets.token_hex(16)
        self._ids = (_cert_id(salt, number) for number in itertools.count())
        self._certificates.clear()
        self._renewal_since = self._first_renewal = 0
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
        self._first_renewal = 0

    # --- what Vercel's API does

    def issue(self, cns: Sequence[str], *, scope: str = DEFAULT_SCOPE, token: str | None = None) -> Certificate:
        """Issue a certificate.

        Args:
            cns: The names, already checked.
            scope: Where the certificate belongs.
            token: The name of the request's token.

        Returns:
            A new certificate, or an existing one if ``behaviour.reissue`` says so.

        Raises:
            ApiError: 429, because the issuer has issued ``behaviour.issuances_per_week`` for these names.
        """
        self.settle()
        if (known := self._known(cns, scope)) is not None:
            return known
        self._check_issuer_limit(cns)
        created_at = self._created_at(self.clock.now_ms(), self._behaviour.backdate)
        return self._add(
            Certificate(
                id=self._new_id(),
                created_at=created_at,
                expires_at=created_at + self._lifetime_ms,
                auto_renew=True,
                cns=list(cns),
                scope=scope,
                token=token,
            )
        )

    def upload(
        self,
        cns: Sequence[str],
        expires_at: int,
        *,
        created_at: int | None = None,
        scope: str = DEFAULT_SCOPE,
        token: str | None = None,
    ) -> Certificate:
        """Store an uploaded certificate.

        Args:
            cns: The names, already checked.
            expires_at: When it expires, in epoch milliseconds.
            created_at: Its creation time, in epoch milliseconds; None for now.
            scope: Where the certificate belongs.
            token: The name of the request's token.

        Returns:
            The new certificate.
        """
        self.settle()
        return self._add(
            Certificate(
                id=self._new_id(),
                created_at=self.clock.now_ms() if created_at is None else created_at,
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

    def has_unexpired(self, cns: Sequence[str], *, scope: str) -> bool:
        """Return whether a scope has an unexpired certificate with exactly these names."""
        self.settle()
        now = self.clock.now_ms()
        return any(set(c.cns) == set(cns) and c.expires_at > now for c in self._listed(scope))

    def remove(self, cert_id: str, *, scope: str) -> Certificate:
        """Remove a certificate.

        Raises:
            ApiError: 404, because it does not exist in the scope or was removed.
        """
        certificate = self.get(cert_id, scope=scope)
        certificate.removed_at, certificate.removed_by = self.clock.now_ms(), "request"
        self._changed()
        return certificate

    def page(self, *, scope: str, until: int | None = None, limit: int | None = None) -> listing.Page:
        """Return a page of the list, in the order of ``behaviour.list_order``.

        Args:
            scope: Whose certificates.
            until: Continue after the certificates of this time, in epoch milliseconds.
            limit: How many certificates; None for ``behaviour.page_size``.

        Returns:
            The page.
        """
        self.settle()
        return listing.page_of(self._shown(scope), self._behaviour, until, limit)

    def settle(self) -> None:
        """Do Vercel's own renewals that are due. Each is dated when it became due."""
        behaviour, now = self._behaviour, self.clock.now_ms()
        if behaviour.renewal == "off" or now < self._first_renewal:
            return
        for certificate in list(self._certificates.values()):
            if _is_renewed(certificate):
                due = renewals.due(certificate, behaviour, now=now, since=self._renewal_since)
                if due is not None and self._renew(certificate, due.renewal, due.moment) is certificate:
                    certificate.renewals += due.skipped
        since = self._renewal_since
        moments = (renewals.moment(c, behaviour, since=since) for c in self._certificates.values() if _is_renewed(c))
        self._first_renewal = min(moments, default=sys.maxsize)

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
        now = self.clock.now_ms()
        created_at = now if injection.created_at is None else injection.created_at
        certificate = self._add(
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
        certificate.made_at = min(created_at, now)
        return certificate

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
        self._first_renewal = 0
        self._changed()
        return certificate

    def renew(self, cert_id: str, renewal: Renewal) -> Certificate:
        """Renew a certificate now, as Vercel would.

        Returns:
            The certificate that has the new expiry.

        Raises:
            ApiError: 404, because it does not exist or was removed.
            ValueError: The new id is taken.
        """
        certificate = self._there(cert_id)
        if renewal.id in self._certificates:
            raise ValueError(f"there is a certificate {renewal.id} already")
        return self._renew(certificate, renewal, self.clock.now_ms())

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
        self._first_renewal = 0
        self._changed()

    # ---

    @property
    def _lifetime_ms(self) -> int:
        return to_ms(self._behaviour.lifetime)

    def _created_at(self, moment: int, backdate: timedelta) -> int:
        return max(moment - min(to_ms(backdate), self._lifetime_ms // 2), 0)

    def _there(self, cert_id: str) -> Certificate:
        certificate = self.find(cert_id)
        if certificate is None or certificate.removed_at is not None:
            raise cert_not_found(cert_id)
        return certificate

    def _listed(self, scope: str, order: ListOrder = "newest-first") -> list[Certificate]:
        """Return what exists in a scope."""
        if (scope, order) not in self._lists:
            there = [c for c in self._certificates.values() if c.scope == scope and c.removed_at is None]
            self._lists[scope, order] = listing.in_order(there, order)
        return self._lists[scope, order]

    def _shown(self, scope: str) -> list[Certificate]:
        """Return what the list shows, which can lag behind what exists."""
        order = self._behaviour.list_order
        lag, lag_of_removals = to_ms(self._behaviour.list_lag), to_ms(self._behaviour.list_lag_of_removals)
        if not lag and not lag_of_removals:
            return self._listed(scope, order)
        now = self.clock.now_ms()
        shown = (
            certificate
            for certificate in self._certificates.values()
            if certificate.scope == scope
            and certificate.made_at + lag <= now
            and (certificate.removed_at is None or now < certificate.removed_at + lag_of_removals)
        )
        return listing.in_order(shown, order)

    def _known(self, cns: Sequence[str], scope: str) -> Certificate | None:
        """Return the certificate that ``behaviour.reissue`` answers with instead of a new one."""
        reissue = self._behaviour.reissue
        if reissue == "new":
            return None
        same = [certificate for certificate in self._listed(scope) if set(certificate.cns) == set(cns)]
        if reissue == "oldest":
            same.reverse()
        elif reissue == "old":
            now = self.clock.now_ms()
            same = [certificate for certificate in same if certificate.expires_at > now]
        return same[0] if same else None

    def _check_issuer_limit(self, cns: Sequence[str]) -> None:
        limit = self._behaviour.issuances_per_week
        if limit is None:
            return
        since = self.clock.now_ms() - _WEEK_MS
        # Uploads were not issued, and issuers don't count renewals of the same certificate.
        issued = sorted(
            certificate.made_at
            for certificate in self._certificates.values()
            if certificate.origin in {"issued", "injected"}
            and certificate.auto_renew
            and certificate.made_at > since
            and set(certificate.cns) == set(cns)
        )
        if len(issued) < limit:
            return
        again = issued[len(issued) - limit] if limit else self.clock.now_ms()
        moment = datetime.fromtimestamp((again + _WEEK_MS) / 1000, UTC)
        raise ApiError(
            429,
            "rate_limited",
            f"Too many certificates ({limit}) already issued for exact set of domains in the last 168h0m0s: "
            f"{', '.join(sorted(cns))}, retry after {moment:%Y-%m-%d %H:%M:%S} UTC",
        )

    def _new_id(self) -> str:
        return next(cert_id for cert_id in self._ids if cert_id not in self._certificates)

    def _add(self, certificate: Certificate) -> Certificate:
        certificate.made_at = certificate.settled_at = self.clock.now_ms()
        self._certificates[certificate.id] = certificate
        if self._first_renewal and _is_renewed(certificate):
            moment = renewals.moment(certificate, self._behaviour, since=self._renewal_since)
            self._first_renewal = min(self._first_renewal, moment)
        self._changed()
        return certificate

    def _changed(self) -> None:
        self._lists.clear()
        self.version += 1

    def _renew(self, certificate: Certificate, renewal: Renewal, moment: int) -> Certificate:
        """Renew a certificate at a time that is not in the future."""
        self._first_renewal = 0
        created_at = self._created_at(moment, renewal.backdate)
        expires_at = created_at + self._lifetime_ms if renewal.expires_at is None else renewal.expires_at
        cns = renewals.with_names(certificate.cns, renewal.adds)
        if renewal.form == "same-id":
            if renewal.moves_created_at:
                certificate.created_at = created_at
            certificate.expires_at, certificate.cns = expires_at, cns
            certificate.settled_at = moment
            certificate.renewals += 1
            self._changed()
            return certificate
        renewed = self._add(
            Certificate(
                id=renewal.id or self._new_id(),
                created_at=created_at,
                expires_at=expires_at,
                auto_renew=True,
                cns=cns,
                scope=certificate.scope,
                origin="renewed",
            )
        )
        renewed.made_at = renewed.settled_at = moment
        certificate.replaced_by = renewed.id
        if renewal.removes_old:
            certificate.removed_at, certificate.removed_by = moment, "renewal"
        return renewed


def _is_renewed(certificate: Certificate) -> bool:
    """Return whether Vercel renews a certificate, sooner or later."""
    return certificate.auto_renew and certificate.removed_at is None and certificate.replaced_by is None


def _cert_id(salt: str, number: int) -> str:
    """Return ``cert_`` and 24 letters and digits."""
    return "cert_" + "".join(
        _ALPHABET[byte % len(_ALPHABET)] for byte in sha256(f"{salt}/{number}".encode()).digest()[:24]
    )
