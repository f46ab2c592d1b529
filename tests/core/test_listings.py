"""What one listing says of all the resources of a scope."""

from dataclasses import replace
from typing import Any

import pytest

from core.building import DAY, MINUTE, NOW, cert, listed, ready
from vercel_certificate_operator.core.drift import Sighting, scope_vanished


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
def test_a_scope_has_vanished_when_more_than_a_tenth_and_at_least_five_are_gone(
    held: int, missing: int, vanished: bool
) -> None:
    ids = [f"cert_{number}" for number in range(held)]
    listing = listed(cert("cert_of_another"), *(cert(found) for found in ids[missing:]))
    assert scope_vanished(ids, listing) is vanished


NEWER = cert("cert_2", created=NOW)


@pytest.mark.parametrize(
    ("certificates", "status", "news"),
    [
        pytest.param([cert()], {}, False, id="as it was"),
        pytest.param([cert("cert_2", ["other.com"]), cert()], {}, False, id="something else is new"),
        pytest.param([], {}, True, id="it is not there"),
        pytest.param([cert("cert_2", created=NOW - 20 * DAY), cert()], {}, False, id="an older one has the names"),
        pytest.param([NEWER, cert()], {}, True, id="a newer one has the names"),
        pytest.param([cert(), NEWER], {}, True, id="a newer one has the names, in another order"),
        pytest.param([NEWER, cert()], {"superseded_ids": ("cert_2",)}, False, id="the newer one was replaced by it"),
        pytest.param([cert("cert_2", created=None), cert()], {}, False, id="one of unknown age has the names"),
        pytest.param([cert(lifetime=None)], {}, True, id="it has no expiry"),
        pytest.param([cert(lifetime=90 * DAY + MINUTE)], {}, True, id="its expiry has moved"),
        pytest.param([replace(cert(), expires_at=NOW + 80 * DAY)], {}, False, id="its expiry is what it was"),
        pytest.param([cert(cns=["example.com", "www.example.com"])], {}, True, id="it has one name more"),
        pytest.param([cert(auto_renew=False)], {}, True, id="it is not renewed by Vercel any more"),
        pytest.param([cert()], {"issuing": ("False", "ScopeVanished")}, True, id="it is back"),
        pytest.param([cert()], {"issuing": ("False", "PaymentRequired")}, False, id="something else is the matter"),
        pytest.param([cert()], {"conditions": ()}, False, id="nothing is said of it"),
    ],
)
def test_a_resource_looks_at_a_listing_only_when_that_has_news_for_it(
    certificates: list[Any], status: dict[str, Any], news: bool
) -> None:
    conditions = {"conditions": status.pop("conditions")} if "conditions" in status else {}
    before = ready(cert(), **status).changed(**conditions)
    assert Sighting.of(listed(*certificates)).is_news(before.dump()) is news
