"""The certificates, and what Vercel does with them. No IO; the time comes from the emulator's clock."""

import itertools
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError, cert_not_found
from vercel_emulator.models import DEFAULT_SCOPE, Behaviour, Certificate, CertificateChange, Injection, Renewal
from vercel_emulator.validation import root_domain

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_MILLISECOND = timedelta(milliseconds=1)
_WEEK_MS = 7 * 86_400_000


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
        self._lists: dict[tuple[str, str], list[Certificate]] = {}
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

        Raises:
            ApiError: 429, because the issuer has issued ``behaviour.issuances_per_week`` for these names.
        """
        self.settle()
        if (known := self._known(cns, scope)) is not None:
            return known
        self._check_issuer_limit(cns)
        created_at = self.clock.now_ms() - min(_ms(self._behaviour.backdate), self._lifetime_ms // 2)
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

    def page(self, *, scope: str, until: int | None = None, limit: int | None = None) -> Page:
        """Return a page of the list, in the order of ``behaviour.list_order``.

        Many certificates can share a millisecond, and ``until`` can't tell them apart. So a page never ends within a
        millisecond: it grows beyond the limit instead. A client that follows ``next`` gets every certificate once (with
        ``behaviour.until`` set to ``inclusive``, those at the start of a page twice).

        Args:
            scope: Whose certificates.
            until: Continue after the certificates of this time, in epoch milliseconds.
            limit: How many certificates; None for ``behaviour.page_size``.

        Returns:
            The page.
        """
        self.settle()
        order = self._behaviour.list_order
        everything = self._shown(scope, order)
        start = 0
        if until is not None:
            bisect = bisect_left if self._behaviour.until == "inclusive" else bisect_right
            start = bisect(everything, _position(order, until), key=lambda c: _position(order, c.created_at))
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
        self._changed()

    # ---

    @property
    def _lifetime_ms(self) -> int:
        return _ms(self._behaviour.lifetime)

    def _there(self, cert_id: str) -> Certificate:
        certificate = self.find(cert_id)
        if certificate is None or certificate.removed_at is not None:
            raise cert_not_found(cert_id)
        return certificate

    def _listed(self, scope: str, order: str = "newest-first") -> list[Certificate]:
        """Return what exists in a scope."""
        if (scope, order) not in self._lists:
            there = [c for c in self._certificates.values() if c.scope == scope and c.removed_at is None]
            self._lists[scope, order] = _sorted(there, order)
        return self._lists[scope, order]

    def _shown(self, scope: str, order: str) -> list[Certificate]:
        """Return what the list shows, which can lag behind what exists."""
        lag, lag_of_removals = _ms(self._behaviour.list_lag), _ms(self._behaviour.list_lag_of_removals)
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
        return _sorted(shown, order)

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
        self._changed()
        return certificate

    def _changed(self) -> None:
        self._lists.clear()
        self.version += 1

    def _renew_before_ms(self, lifetime_ms: int) -> int:
        before = self._behaviour.renew_before
        # Less than the lifetime, so that a renewed certificate is not due again at once.
        return lifetime_ms // 3 if before is None else min(_ms(before), lifetime_ms - 1)

    def _renew_if_due(self, certificate: Certificate, now: int) -> None:
        behaviour = self._behaviour
        lifetime = max(certificate.expires_at - certificate.created_at, 1)
        due = certificate.expires_at - self._renew_before_ms(lifetime)
        due = max(due, certificate.settled_at, self._renewal_since)
        if due > now:
            return
        valid_before_due = self._lifetime_ms - self._renew_before_ms(self._lifetime_ms)
        backdate = behaviour.backdate if behaviour.renewal_backdate is None else behaviour.renewal_backdate
        backdate_ms = min(_ms(backdate), valid_before_due // 2)  # so that it is not due again at once
        # If the clock was moved past several renewals, only the last one is visible.
        step = valid_before_due - backdate_ms
        skipped = (now - due) // step
        renewal = Renewal(
            form="same-id" if behaviour.renewal == "same-id" else "new-id",
            backdate=backdate_ms * _MILLISECOND,
            adds=behaviour.renewal_adds,
            moves_created_at=behaviour.renewal_moves_created_at,
            removes_old=behaviour.renewal_removes_old,
        )
        renewed = self._renew(certificate, renewal, due + skipped * step)
        if renewed is certificate:
            certificate.renewals += skipped

    def _renew(self, certificate: Certificate, renewal: Renewal, moment: int) -> Certificate:
        """Renew a certificate at a time that is not in the future."""
        created_at = moment - min(_ms(renewal.backdate), self._lifetime_ms // 2)
        expires_at = created_at + self._lifetime_ms if renewal.expires_at is None else renewal.expires_at
        roots = {root_domain(name) for name in certificate.cns}
        added = [name for name in renewal.adds if root_domain(name) in roots and name not in certificate.cns]
        cns = [*certificate.cns, *dict.fromkeys(added)]
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


def _ms(duration: timedelta) -> int:
    return duration // _MILLISECOND


def _position(order: str, created_at: int) -> int:
    """Return where the certificates of a millisecond are in the list: it is sorted by this number."""
    if order == "shuffled":
        return int.from_bytes(sha256(str(created_at).encode()).digest()[:8])
    return created_at if order == "oldest-first" else -created_at


def _sorted(certificates: Iterable[Certificate], order: str) -> list[Certificate]:
    """Sort certificates for a list. Newest first: of the same time, the last one made comes first."""
    found = list(certificates)
    if order == "newest-first":
        found.reverse()
    elif order == "shuffled":
        found.sort(key=lambda c: sha256(c.id.encode()).digest())
    return sorted(found, key=lambda c: _position(order, c.created_at))


def _cert_id(salt: str, number: int) -> str:
    """Return ``cert_`` and 24 letters and digits."""
    return "cert_" + "".join(
        _ALPHABET[byte % len(_ALPHABET)] for byte in sha256(f"{salt}/{number}".encode()).digest()[:24]
    )
