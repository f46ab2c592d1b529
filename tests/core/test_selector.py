"""Label selectors mean what they mean to the API server."""

import pytest

from vercel_certificate_operator.core.selector import Selector

FITS = [
    ("", {}, True),
    ("  ", {"team": "web"}, True),
    ("team=web", {"team": "web"}, True),
    ("team==web", {"team": "web"}, True),
    ("team=web", {"team": "shop"}, False),
    ("team=web", {}, False),
    ("team=", {"team": ""}, True),
    ("team=", {}, False),
    ("team!=web", {"team": "web"}, False),
    ("team!=web", {"team": "shop"}, True),
    ("team!=web", {}, True),
    ("team in (web, shop)", {"team": "shop"}, True),
    ("team in (web,shop)", {"team": "mail"}, False),
    ("team in (web,shop)", {}, False),
    ("team in (web,)", {"team": ""}, True),
    ("team notin (web,shop)", {"team": "shop"}, False),
    ("team notin (web,shop)", {"team": "mail"}, True),
    ("team notin (web,shop)", {}, True),
    ("team", {"team": "web"}, True),
    ("team", {"team": ""}, True),
    ("team", {}, False),
    ("!legacy", {}, True),
    ("!legacy", {"legacy": ""}, False),
    ("! legacy", {"legacy": "yes"}, False),
    ("team=web,!legacy", {"team": "web"}, True),
    ("team=web,!legacy", {"team": "web", "legacy": "yes"}, False),
    ("team=web, tier in (a,b)", {"team": "web", "tier": "c"}, False),
    ("team=web, tier in (a,b)", {"team": "shop", "tier": "a"}, False),
    ("example.com/team=web", {"example.com/team": "web"}, True),
    ("in in (in)", {"in": "in"}, True),
]


@pytest.mark.parametrize(("text", "labels", "fits"), FITS, ids=lambda value: str(value))
def test_a_selector_fits_the_labels_that_the_api_server_takes_it_to_fit(
    text: str, labels: dict[str, str], fits: bool
) -> None:
    selector = Selector.parse(text)
    assert selector.matches(labels) is fits
    assert selector.text == text.strip()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("team=web,", "found ''"),
        (",team", "found ',team'"),
        ("team=web;tier=a", "found 'team=web;tier=a'"),
        ("team=web,tier in a", "found 'tier in a'"),
        ("team in", "found 'team in'"),
        ("team in (a", "found 'team in (a'"),
        ("-team", "found '-team'"),
        ("a/b/c", "found 'a/b/c'"),
        ("team=web shop", "found 'team=web shop'"),
        ("team>1", "found 'team>1'"),
    ],
)
def test_what_is_no_selector_is_refused_in_one_line_that_shows_where(text: str, found: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector") as refused:
        Selector.parse(text)
    assert found in str(refused.value)
    assert "\n" not in str(refused.value)
