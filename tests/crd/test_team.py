"""The team of a resource is immutable."""

from typing import Any

import pytest

from crd.kubectl import Kubectl

WORDS = "team can't be changed, added or removed: a certificate stays in the team in which it was issued"
NONE: dict[str, Any] = {}
BY_ID = {"team": {"id": "team_one"}}
BY_SLUG = {"team": {"slug": "one"}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(BY_ID, {"team": {"id": "team_two"}}, id="changed"),
        pytest.param(BY_ID, BY_SLUG, id="changed from id to slug"),
        pytest.param(NONE, BY_ID, id="added"),
        pytest.param(BY_ID, NONE, id="removed"),
    ],
)
def test_a_team_that_is_changed_added_or_removed_is_refused(
    kubectl: Kubectl, before: dict[str, Any], after: dict[str, Any]
) -> None:
    kubectl.apply("web", {"cns": ["example.com"], **before})

    read = kubectl.refused_apply("web", {"cns": ["example.com"], **after})

    assert "spec.team" in read
    assert WORDS in read
    assert "Create another VercelCertificate for the other team, wait until it is Ready, then delete this one" in read


@pytest.mark.parametrize("team", [NONE, BY_ID, BY_SLUG], ids=["none", "id", "slug"])
def test_all_else_in_a_spec_can_be_changed(kubectl: Kubectl, team: dict[str, Any]) -> None:
    kubectl.apply("web", {"cns": ["example.com"], "suspend": True, "tokenSecretRef": {"name": "vercel"}, **team})

    kubectl.apply("web", {"cns": ["example.org"], "renewBefore": "720h", "deletionPolicy": "Retain", **team})

    assert kubectl.get("web")["spec"] == {
        "cns": ["example.org"],
        "renewBefore": "720h",
        "deletionPolicy": "Retain",
        "suspend": False,
        "existingCertificate": "Reuse",
        **team,
    }
