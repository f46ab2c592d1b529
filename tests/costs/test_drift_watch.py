"""What it costs to compare the resources of a scope with its list: the sum of both, not their product."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest import mock

import pytest

from vercel_certificate_operator.core.certificate import Certificate, Certificates, Scope
from vercel_certificate_operator.core.known import Listing, Note
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey, Sighting
from vercel_certificate_operator.drift_watch import AT_A_TIME, DriftWatch, _Scope
from vercel_certificate_operator.objects import Objects

SAME = "shop.example.com"
HERE = ScopeKey(("web", "vercel", "token"), Scope())
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

arranged = Sighting.of


class Shop:
    """Resources that all want the same names, and a list with certificates that have these and are in no status."""

    def __init__(self, *, settled: int = 0, pending: int = 0, unused: int = 0) -> None:
        """
        Args:
            settled: resources that have a certificate for other names.
            pending: resources without a certificate, for which the list has news.
            unused: certificates in no status.
        """
        self.looks = 0
        """How often a certificate or a resource was looked at."""
        self.scope = _Scope()
        self.reported: list[str] = []
        self.noticed: list[Key] = []
        self.unused = frozenset(f"cert_unused_{one}" for one in range(unused))
        listed = [certificate(f"cert_{one}", f"n{one}.example.com") for one in range(settled)]
        self.listing = Listing(1.0, Certificates([*listed, *(certificate(one, SAME) for one in sorted(self.unused))]))
        objects = Objects()
        for one in range(settled + pending):
            objects.put(body(one, certificate_id=f"cert_{one}" if one < settled else None))
        self.watch = DriftWatch(
            objects=objects,
            notice=lambda key, _: self.noticed.append(key),
            publish=lambda _, note: self._publish(note),
            now=lambda: START,
            interval=21_600.0,
            **dict.fromkeys(("queue", "tokens", "calls", "clock", "observer"), cast(Any, None)),
        )

    def _publish(self, note: Note) -> None:
        self.reported.append(note.text.split()[1])

    def compare(self) -> list[int]:
        """Compares the resources with the list. Returns the looks in each turn of the event loop."""
        self.looks = 0
        turns: list[int] = []
        body_of = Objects.body

        def seen(objects: Objects, key: Key) -> Any:
            self.looks += 1
            return body_of(objects, key)

        with mock.patch.object(Objects, "body", seen), mock.patch.object(Sighting, "of", self._counted):
            comparing = self.watch._compare(HERE, self.scope, self.listing)
            while True:
                before = self.looks
                try:
                    comparing.send(None)
                except StopIteration:
                    return [*turns, self.looks - before]
                turns.append(self.looks - before)

    def _counted(self, listing: Listing) -> Sighting:
        by_names: Any = {names: Counted(found, self) for names, found in arranged(listing).by_names.items()}
        return Sighting(listing, by_names)


class Counted(Sequence[Certificate]):
    """Certificates of which each look counts."""

    def __init__(self, found: tuple[Certificate, ...], shop: Shop) -> None:
        self._found = found
        self._shop = shop

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, number: Any) -> Any:
        self._shop.looks += 1
        return self._found[number]


def certificate(certificate_id: str, name: str) -> Certificate:
    return Certificate(certificate_id, frozenset({name}), START, START + timedelta(days=90), auto_renew=True)


def body(number: int, *, certificate_id: str | None) -> dict[str, Any]:
    """An object as the API server sends it."""
    has = {
        "id": certificate_id,
        "cns": [f"n{number}.example.com"],
        "expiresAt": f"{START + timedelta(days=90):%FT%TZ}",
        "autoRenew": True,
    }
    metadata = {
        "namespace": "web",
        "name": f"site-{number}",
        "uid": f"uid-{number}",
        "resourceVersion": str(number + 1),
        "generation": 1,
        "creationTimestamp": f"{START:%FT%TZ}",
    }
    spec = {"cns": [SAME], "tokenSecretRef": {"name": "vercel", "key": "token"}}
    status = {"attempt": {"id": str(number), "outcome": "Refused"}, **(has if certificate_id is not None else {})}
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize("number", [20, 80])
@pytest.mark.parametrize("deferred", [False, True], ids=["seen first", "seen before"])
def test_resources_and_unused_certificates_with_the_same_names_cost_their_sum(number: int, deferred: bool) -> None:
    shop = Shop(settled=number, pending=number, unused=number)
    shop.scope.deferred = shop.unused if deferred else frozenset()
    assert sum(shop.compare()) <= 7 * number
    assert shop.scope.orphans == shop.unused
    assert sorted(shop.reported) == sorted(shop.unused), "each is reported once"
    assert len(shop.noticed) == number


def test_unused_certificates_are_reported_when_they_are_seen_for_the_second_time() -> None:
    shop = Shop(pending=3, unused=3)
    shop.compare()
    assert shop.reported == []
    assert shop.scope.deferred == shop.unused
    shop.compare()
    assert sorted(shop.reported) == sorted(shop.unused)
    assert shop.scope.deferred == frozenset()


@pytest.mark.parametrize(("settled", "unused"), [(5 * AT_A_TIME, 0), (1, 5 * AT_A_TIME), (AT_A_TIME, 4 * AT_A_TIME)])
def test_other_work_goes_on_however_many_resources_and_certificates_are_compared(settled: int, unused: int) -> None:
    shop = Shop(settled=settled, unused=unused)
    turns = shop.compare()
    assert sum(turns) >= 5 * AT_A_TIME
    assert max(turns) <= 3 * AT_A_TIME
