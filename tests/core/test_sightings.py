"""What one list says about all the resources of a scope."""

from dataclasses import replace
from typing import Any

import pytest

from core.building import DAY, HOUR, MINUTE, NOW, SECOND, TEAM, attempted, cert, listed, ready, replaced, status_of
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey, Sighting, is_unexplained, scope_vanished, tenant_of
from vercel_certificate_operator.core.times import BACK_DATED

A = frozenset({"example.com"})


@pytest.mark.parametrize(
    ("held", "missing", "vanished"),
    [
        (0, 0, False),
        (4, 4, False),
        (5, 4, False),
        (5, 5, True),
        (8, 5, True),
        (49, 5, True),
        (50, 5, False),
        (51, 6, True),
        (100, 10, False),
        (100, 11, True),
        (1000, 0, False),
    ],
)
def test_a_scope_has_vanished_when_more_than_a_tenth_and_at_least_five_are_missing(
    held: int, missing: int, vanished: bool
) -> None:
    ids = [f"cert_{number}" for number in range(held)]
    listing = listed(cert("cert_of_another"), *(cert(found) for found in ids[missing:]))
    assert scope_vanished(ids, listing, lambda _: True) is vanished
    assert not scope_vanished(ids, listing, lambda _: False), "what is explained does not count"


@pytest.mark.parametrize(
    ("certificates", "status", "unexplained"),
    [
        pytest.param([], ready(), True, id="it is missing"),
        pytest.param([cert("cert_2", created=NOW)], ready(), False, id="Vercel renewed it under another id"),
        pytest.param([cert("cert_2", created=NOW, lifetime=-DAY)], ready(), True, id="its successor has expired"),
        pytest.param([cert("cert_2", ["b.com"])], ready(), True, id="another one has other names"),
        pytest.param([], ready(cert(created=NOW - 91 * DAY)), False, id="it has expired"),
        pytest.param([], ready(cert(created=NOW)), False, id="it is new, and the list may lag"),
    ],
)
def test_what_explains_that_a_list_lacks_a_certificate(certificates: list[Any], status: Any, unexplained: bool) -> None:
    assert is_unexplained(status, listed(*certificates), NOW) is unexplained


NEWER = cert("cert_2", created=NOW)


@pytest.mark.parametrize(
    ("certificates", "status", "news"),
    [
        pytest.param([cert()], {}, False, id="as it was"),
        pytest.param([cert("cert_2", ["other.com"]), cert()], {}, False, id="something else is new"),
        pytest.param([], {}, True, id="it is not there"),
        pytest.param([cert("cert_2", created=NOW - 20 * DAY), cert()], {}, True, id="another has the names"),
        pytest.param([NEWER, cert()], {"shared_names": True}, False, id="that is known"),
        pytest.param(
            [NEWER, cert()], {"shared_names": True, "next_attempt_time": NOW}, True, id="that is known, but it may help"
        ),
        pytest.param([cert()], {"shared_names": True, "next_attempt_time": NOW}, False, id="nothing could help"),
        pytest.param([cert(), NEWER], {}, True, id="in another order"),
        pytest.param([NEWER, cert()], {"superseded": replaced("cert_2")}, False, id="one that it has replaced"),
        pytest.param([cert("cert_2", created=None), cert()], {}, True, id="one of unknown age has the names"),
        pytest.param([cert(lifetime=None)], {}, True, id="it has no expiry"),
        pytest.param([cert(lifetime=90 * DAY + MINUTE)], {}, True, id="its expiry has moved"),
        pytest.param([replace(cert(), expires_at=NOW + 80 * DAY + SECOND / 2)], {}, False, id="by less than a second"),
        pytest.param([cert(cns=["example.com", "www.example.com"])], {}, True, id="it has one name more"),
        pytest.param([cert(auto_renew=False)], {}, True, id="Vercel no longer renews it"),
        pytest.param([cert(auto_renew=None)], {}, False, id="the list leaves out whether Vercel renews it"),
        pytest.param([cert()], {"scope_vanished": True}, True, id="its scope had vanished"),
        pytest.param([cert()], {"issuing": ("False", "PaymentRequired")}, False, id="another problem"),
        pytest.param([cert()], {"conditions": ()}, False, id="no conditions"),
    ],
)
def test_a_resource_is_reconciled_with_a_list_only_if_that_has_news_for_it(
    certificates: list[Any], status: dict[str, Any], news: bool
) -> None:
    raw = ready(cert(), **{name: value for name, value in status.items() if name != "conditions"})
    raw = raw.changed(conditions=()) if "conditions" in status else raw
    assert Sighting.of(listed(*certificates)).is_news(A, raw.dump()) is news


@pytest.mark.parametrize(("certificates", "news"), [([cert()], True), ([cert(cns=["b.com"])], False), ([], False)])
def test_a_certificate_made_by_hand_is_news_for_a_resource_without_one(certificates: list[Any], news: bool) -> None:
    sighting = Sighting.of(listed(*certificates))
    assert sighting.is_news(A, {}) is news
    assert sighting.is_news(A, status_of(attempt=attempted(outcome="Refused")).dump()) is news


def test_a_list_is_arranged_by_names() -> None:
    old, other = cert("cert_0", created=NOW - 30 * DAY), cert("cert_9", ["b.com"])
    unknown = replace(cert("cert_u", lifetime=None), created_at=None)
    sighting = Sighting.of(listed(old, other, unknown, NEWER, cert()))
    assert [one.id for one in sighting.by_names[A]] == ["cert_2", "cert_1", "cert_0", "cert_u"], "the youngest first"
    assert sighting.by_names[frozenset({"b.com"})] == (other,)


def test_of_one_age_the_certificate_that_expires_last_is_the_youngest() -> None:
    longer = cert("cert_0", created=NOW, lifetime=91 * DAY)
    twin = replace(NEWER, id="cert_3")
    sighting = Sighting.of(listed(NEWER, longer, twin))
    assert [one.id for one in sighting.by_names[A]] == ["cert_0", "cert_3", "cert_2"]


def test_orphans_have_a_resources_names_and_may_have_been_created_after_it() -> None:
    """Issuers set the creation time back."""
    sighting = Sighting.of(
        listed(
            cert("cert_0", created=NOW - HOUR - BACK_DATED - SECOND),
            cert("cert_1", created=NOW - HOUR - BACK_DATED),
            cert("cert_2", created=NOW),
            cert("cert_3", ["b.com"], created=NOW),
            replace(cert("cert_4"), created_at=None),
        )
    )
    created = (NOW - HOUR).timestamp()
    assert [one.id for one in sighting.orphans(A, created)] == ["cert_2", "cert_1"]
    assert [one.id for one in sighting.orphans(A, created, skip=1)] == ["cert_1"]
    assert list(sighting.orphans(frozenset({"c.com"}), created)) == []


def test_a_scope_is_named_with_its_token() -> None:
    assert str(ScopeKey(None, TEAM)) == "team team_a with the default token"
    assert (
        str(ScopeKey(("web", "vercel", "token"), Scope())) == "the token's personal account with token web/vercel/token"
    )


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        (Key("web", "site", "uid-1"), "web"),
        (ScopeKey(("web", "vercel", "token"), Scope()), "web"),
        (ScopeKey(None, Scope()), None),
    ],
    ids=["a resource", "the scope of a token", "the scope of the default token"],
)
def test_whose_turn_a_key_takes(key: Key | ScopeKey, tenant: str | None) -> None:
    assert tenant_of(key) == tenant
