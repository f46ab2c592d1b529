"""Deletion: what is removed at Vercel, and when the resource may go."""

from typing import Any

import pytest

from core.building import (
    HOUR,
    NOW,
    answered,
    assert_readable,
    attempted,
    cert,
    failed,
    known,
    listed,
    ready,
    refusal,
    refused,
    status_of,
    written,
)
from vercel_certificate_operator.core.known import Hold, Known, Release, Remove, Wait, Write
from vercel_certificate_operator.core.policies import decide
from vercel_certificate_operator.core.resource import Status

NEW = cert("cert_2", created=NOW)
BOTH = ready(NEW, superseded_ids=("cert_0", "cert_1"))


@pytest.mark.parametrize(
    ("removed", "next_one"), [(set(), "cert_2"), ({"cert_2"}, "cert_0"), ({"cert_2", "cert_0"}, "cert_1")]
)
def test_the_certificate_and_the_superseded_ones_are_removed(removed: set[str], next_one: str) -> None:
    assert decide(known(deleting=True, status=BOTH, removed=removed)).action == Remove(next_one)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        pytest.param(
            {"status": BOTH, "removed": {"cert_0", "cert_1", "cert_2"}},
            "Removed at Vercel: cert_2, cert_0, cert_1.",
            id="all are removed",
        ),
        pytest.param(
            {"status": BOTH, "removed": {"cert_2", "cert_0"}, "taken": {"cert_1"}},
            "Removed at Vercel: cert_2, cert_0.",
            id="one stands in another status, and stays",
        ),
        pytest.param(
            {"status": ready(), "taken": {"cert_1"}}, "There was no certificate to remove at Vercel.", id="all stay"
        ),
        pytest.param(
            {"status": status_of(None)}, "There was no certificate to remove at Vercel.", id="nothing was ever issued"
        ),
    ],
)
def test_then_the_resource_is_let_go(facts: dict[str, Any], text: str) -> None:
    decision = decide(known(deleting=True, **facts))
    assert decision.action == Release()
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Normal", "Deleted", "Delete")
    assert decision.note.text == text


@pytest.mark.parametrize(
    "facts",
    [
        {"owner": "web/older"},
        {"renew": "1"},
        {"cns": ["other.com"]},
        {"status": failed(certificate=cert(), until=NOW + HOUR)},
    ],
    ids=["a duplicate", "a renewal was requested", "the names were changed", "within a back-off"],
)
def test_nothing_else_matters_when_it_is_being_deleted(facts: dict[str, Any]) -> None:
    assert decide(known(**{"deleting": True, "status": ready(), **facts})).action == Remove("cert_1")


RETAIN, SUSPEND = {"deletion_policy": "Retain"}, {"suspend": True}


@pytest.mark.parametrize("how", [RETAIN, SUSPEND], ids=["Retain", "suspended"])
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param({"status": BOTH}, ["Left at Vercel: cert_2, cert_0, cert_1."], id="with certificates"),
        pytest.param({"status": status_of(None)}, ["There is no certificate at Vercel."], id="without"),
        pytest.param(
            {"status": ready(), **answered(NEW)}, ["Left at Vercel: cert_1, cert_2."], id="one was just issued"
        ),
        pytest.param(
            {"attempt": attempted()}, ["no certificate", "example.com was under way"], id="in the middle of an issuance"
        ),
    ],
)
def test_retained_or_suspended_it_is_let_go_and_what_stays_is_named(
    how: dict[str, Any], facts: dict[str, Any], words: list[str]
) -> None:
    decision = decide(known(deleting=True, **how, **facts))
    assert decision.action == Release()
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Normal", "Retained", "Delete")
    assert all(word in decision.note.text for word in words)
    assert_readable(decision.note.text)
    assert decision.note.text.endswith("."), decision.note.text


@pytest.mark.parametrize("how", [{}, RETAIN, SUSPEND], ids=["Delete", "Retain", "suspended"])
def test_without_our_finalizer_nothing_has_to_be_removed(how: dict[str, Any]) -> None:
    assert decide(known(deleting=True, ours=False, **how)).action == Wait(None)


@pytest.mark.parametrize("status", [ready(), ready(adopted_id="cert_1")], ids=["lost", "never there, since adopted"])
def test_whoever_holds_a_certificate_has_our_finalizer(status: Status) -> None:
    """Or its deletion would leave the certificate at Vercel."""
    assert decide(known(status=status, ours=False)).action == Hold()
    assert isinstance(decide(known(status=status, ours=True)).action, Wait)


@pytest.mark.parametrize("facts", [{"suspend": True}, {"status": status_of(None)}], ids=["suspended", "no certificate"])
def test_without_need_no_finalizer_is_put_on(facts: dict[str, Any]) -> None:
    assert decide(known(**{"status": ready(), "ours": False, **facts})).action != Hold()


def test_deleted_during_an_issuance_the_outcome_is_written_down_then_removed() -> None:
    facts = known(deleting=True, **answered(NEW))
    decision = decide(facts)
    assert decision.action == Write(outcome=True)
    assert decide(written(facts, decision)).action == Remove("cert_2")


def test_deleted_during_an_issuance_that_fails_it_is_let_go() -> None:
    facts = known(deleting=True, **refused(refusal(403)))
    decision = decide(facts)
    assert decision.action == Write(outcome=True)
    assert decide(written(facts, decision)).action == Release()


@pytest.mark.parametrize(
    ("found", "then"),
    [([cert("cert_2", created=NOW)], Remove("cert_2")), ([], Release())],
    ids=["found", "lost"],
)
def test_deleted_with_an_unknown_outcome_it_is_resolved_first(found: list[Any], then: Any) -> None:
    later = NOW + HOUR
    facts: Known = known(deleting=True, attempt=attempted(), now=later, listing=listed(*found, begun=later))
    decision = decide(facts)
    assert decision.action == Write(outcome=True)
    assert decide(written(facts, decision)).action == then


def test_what_stays_is_named_and_nothing_is_said_of_an_attempt_where_there_is_none() -> None:
    decision = decide(known(deleting=True, deletion_policy="Retain", status=ready()))
    assert decision.note is not None
    assert decision.note.text == "Left at Vercel: cert_1. Why: spec.deletionPolicy is Retain."
