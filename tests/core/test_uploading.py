"""Certificates that are uploaded from a Secret: when, from which Secret, and what becomes of them."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    EXPIRED,
    HOUR,
    MINUTE,
    NAMES,
    NOW,
    TIMED_OUT,
    answered,
    assert_in_order,
    at,
    attempted,
    cert,
    conditions_of,
    failed,
    got,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    ready,
    refused,
    replaced,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Decision, Get, Issue, Known, ReadSource, Remove, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import CertificateSecretRef
from vercel_certificate_operator.core.source import Source, SourceProblem

FINGERPRINT, OTHER_FINGERPRINT = "a" * 64, "b" * 64
REF = CertificateSecretRef(name="shop-tls")
CORRECT = "Correct the Secret. The operator reads it again every 10m."


def source(fingerprint: str = FINGERPRINT, **changes: Any) -> Source:
    """Returns a leaf that is valid for another 80 days."""
    leaf = Source(fingerprint, frozenset(NAMES), NOW - 10 * DAY, NOW + 80 * DAY)
    return replace(leaf, **changes)


def uploads(held: Source | SourceProblem | None = None, **more: Any) -> Known:
    """Returns what is known of a resource that names a Secret."""
    return known(certificate_secret_ref=REF, source=held or source(), **more)


def uploading(leaf: Source | None = None, **more: Any) -> Attempt:
    """Returns an open attempt to upload a leaf."""
    leaf = leaf or source()
    return attempted(cns=leaf.cns, fingerprint=leaf.fingerprint, expires_at=leaf.expires_at, **more)


def at_vercel(certificate_id: str = "cert_1", leaf: Source | None = None, **more: Any) -> Certificate:
    """Returns a leaf as Vercel shows it once it is uploaded: as old as the leaf."""
    leaf = leaf or source()
    shown = cert(certificate_id, leaf.cns, created=leaf.not_before, auto_renew=False)
    return replace(shown, expires_at=leaf.expires_at, **more)


def uploaded(leaf: Source | None = None, **more: Any) -> Any:
    """Returns the status of a resource whose leaf is at Vercel."""
    leaf = leaf or source()
    return ready(at_vercel(leaf=leaf), fingerprint=leaf.fingerprint, **more)


# --- the Secret is read, then checked ---------------------------------------------------------------------------------


def test_the_secret_is_read_before_anything_is_decided() -> None:
    decision = decide(known(certificate_secret_ref=REF))
    assert decision.action == ReadSource()


def test_a_resource_that_names_no_secret_reads_none() -> None:
    facts, decision = led_to(known())
    assert isinstance(decision.action, Issue)
    assert facts.source is None


def test_a_suspended_resource_reads_no_secret() -> None:
    decision = decide(known(certificate_secret_ref=REF, suspend=True))
    assert isinstance(decision.action, Wait)


def test_a_resource_that_is_being_deleted_needs_no_secret() -> None:
    facts = known(certificate_secret_ref=REF, status=uploaded(), deleting=True)
    assert isinstance(decide(facts).action, Remove)


def test_the_secret_is_read_again_when_that_is_due() -> None:
    due = NOW + 10 * MINUTE
    facts = uploads(status=uploaded(), source_due_at=known(now=due).tick)
    decision = decide(facts)
    assert decision.action == Wait(due)


WRONG = {
    "names": (
        {"cns": frozenset({"example.org"})},
        "The certificate in Secret web/shop-tls does not cover example.com; it covers example.org.",
    ),
    "no names": (
        {"cns": frozenset[str]()},
        "The certificate in Secret web/shop-tls does not cover example.com; it covers no names.",
    ),
    "too early": (
        {"not_before": NOW + DAY},
        "The certificate in Secret web/shop-tls is valid only from 2026-01-02T12:00:00Z.",
    ),
    "too late": (
        {"expires_at": NOW - DAY},
        "The certificate in Secret web/shop-tls expired at 2025-12-31T12:00:00Z.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG)
def test_a_certificate_that_can_not_serve_is_not_sent(changes: dict[str, Any], sentence: str) -> None:
    facts = uploads(source(**changes))
    _, decision = led_to(facts)
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision) == (("False", "SourceInvalid"), ("False", "SourceInvalid"))
    assert message(decision, "Issuing").startswith(f"{sentence} Nothing was sent to Vercel for example.com. C")
    assert note_of(decision) == ("Warning", "SourceInvalid", "Upload")


def test_a_secret_that_can_not_be_used_says_why() -> None:
    decision = decide(uploads(SourceProblem("Secret web/shop-tls does not exist", "Create it")))
    assert message(decision, "Issuing") == (
        "Secret web/shop-tls does not exist. Nothing was sent to Vercel for example.com. Create it. The operator "
        "checks the Secret every 10m."
    )


def test_the_same_problem_is_one_event() -> None:
    facts = uploads(SourceProblem("Secret web/shop-tls does not exist"))
    again = decide(written(facts, decide(facts)))
    assert again.note is None


def test_a_secret_that_becomes_invalid_leaves_what_is_at_vercel_in_place() -> None:
    facts = uploads(SourceProblem("Secret web/shop-tls does not exist"), status=uploaded())
    _, decision = led_to(facts, at_vercel())
    assert conditions_of(decision) == (("True", "Issued"), ("False", "SourceInvalid"))
    assert decision.status is not None
    assert decision.status.id == "cert_1"


@pytest.mark.parametrize("now", [NOW - 10 * DAY, NOW + 80 * DAY - timedelta(seconds=1)])
def test_a_certificate_is_valid_from_its_first_to_its_last_second(now: datetime) -> None:
    _, decision = led_to(uploads(now=now))
    assert isinstance(decision.action, Issue)


def test_a_wildcard_of_the_leaf_covers_only_itself() -> None:
    decision = decide(uploads(source(cns=frozenset({"*.example.com"})), cns=["www.example.com"]))
    assert conditions_of(decision)[1] == ("False", "SourceInvalid")


# --- the attempt ------------------------------------------------------------------------------------------------------


def test_an_attempt_carries_the_fingerprint_the_names_and_the_expiry_of_the_leaf() -> None:
    leaf = source(cns=frozenset({"example.com", "www.example.com"}))
    attempt = issued_by(uploads(leaf))
    assert (attempt.fingerprint, attempt.cns) == (FINGERPRINT, ("example.com", "www.example.com"))
    assert (attempt.expires_at, attempt.reason) == (leaf.expires_at, "FirstIssue")


def test_a_certificate_that_exists_is_not_reused() -> None:
    young = cert("cert_9", created=NOW - DAY)
    attempt = issued_by(uploads(), young, at_vercel("cert_8"))
    assert attempt.fingerprint == FINGERPRINT


def test_what_could_be_mistaken_for_the_upload_is_recorded_as_known() -> None:
    before = at_vercel("cert_same", replace(source(), expires_at=NOW + 80 * DAY + timedelta(seconds=1)))
    other_expiry = cert("cert_other_expiry", lifetime=30 * DAY)
    other_names = at_vercel("cert_other_names", source(cns=frozenset({"example.com", "example.org"})))
    assert issued_by(uploads(), before, other_expiry, other_names).known == ("cert_same",)


def test_what_is_uploaded_is_recorded_with_its_fingerprint() -> None:
    decision = decide(uploads(**answered(at_vercel(), uploading())))
    assert decision.action == Write(closes=True)
    assert decision.status is not None
    assert (decision.status.id, decision.status.origin) == ("cert_1", "Issued")
    assert decision.status.fingerprint == FINGERPRINT
    assert decision.note is not None
    assert decision.note.text == "Uploaded certificate cert_1 for example.com; expires 2026-03-22T12:00:00Z."


def test_more_names_than_are_wanted_are_no_reason_to_upload_again() -> None:
    leaf = source(cns=frozenset({"example.com", "www.example.com"}))
    facts = uploads(leaf, **answered(at_vercel(leaf=leaf), uploading(leaf)))
    facts, decision = led_to(facts, at_vercel(leaf=leaf))
    assert isinstance(decision.action, Wait)
    assert facts.resource.status.ready


def test_a_request_for_what_is_already_there_is_settled_without_a_call() -> None:
    facts = uploads(status=uploaded(), renew="now")
    decision = decide(facts)
    assert decision.action == Write()
    assert decision.status is not None
    assert decision.status.last_renew_request == "now"
    assert isinstance(decide(written(facts, decision)).action, Wait)


def test_a_refused_upload_waits_until_the_secret_changes() -> None:
    attempt = uploading(outcome="Refused")
    status = failed(Reason.INVALID_REQUEST, attempt=attempt, until=NOW + 10 * HOUR)
    _, waiting = led_to(uploads(status=status))
    assert isinstance(waiting.action, Wait)
    attempt = issued_by(uploads(source(OTHER_FINGERPRINT), status=status))
    assert attempt.fingerprint == OTHER_FINGERPRINT


# --- provenance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "origin"),
    [((), "Issued"), (("cert_1",), "Found"), (None, "Found")],
    ids=["not there before", "there before", "no list before"],
)
def test_the_operator_owns_what_was_not_there_before(before: tuple[str, ...] | None, origin: str) -> None:
    decision = decide(uploads(**answered(at_vercel(), uploading(known=before))))
    assert decision.status is not None
    assert decision.status.origin == origin


def test_an_upload_of_what_another_resource_has_does_not_become_ours() -> None:
    facts = uploads(**answered(at_vercel(), uploading()), held_elsewhere={"cert_1"})
    decision = decide(facts)
    assert decision.status is not None
    assert decision.status.origin == "Found"


# --- the search for a lost answer -------------------------------------------------------------------------------------


def lost(*at_vercel: Certificate, **more: Any) -> Decision:
    """Returns what follows when no answer came and the list has these certificates."""
    facts = uploads(listing=listed(*at_vercel), got=got(*at_vercel), **refused(TIMED_OUT, uploading(**more)))
    decision = decide(facts)
    assert_in_order(facts, decision)
    return decision


def test_a_lost_upload_is_found_by_its_names_and_its_expiry() -> None:
    decision = lost(at_vercel())
    assert decision.status is not None
    assert (decision.status.id, decision.status.origin) == ("cert_1", "Issued")
    assert decision.status.fingerprint == FINGERPRINT
    assert decision.note is not None
    assert decision.note.text.endswith("the operator found the certificate in Vercel's list.")


def test_a_candidate_is_taken_only_from_its_own_answer() -> None:
    facts = uploads(listing=listed(at_vercel()), **refused(TIMED_OUT, uploading()))
    assert isinstance(decide(facts).action, Get)


@pytest.mark.parametrize(
    "other",
    [
        at_vercel(leaf=source(cns=frozenset({"example.com", "www.example.com"}))),
        at_vercel(leaf=source(expires_at=NOW + 80 * DAY + timedelta(seconds=3))),
        at_vercel(leaf=source(expires_at=NOW + 80 * DAY - timedelta(seconds=3))),
        replace(at_vercel(), expires_at=None),
    ],
    ids=["more names", "later", "earlier", "no expiry"],
)
def test_a_certificate_of_other_names_or_another_expiry_is_not_the_upload(other: Certificate) -> None:
    decision = lost(other)
    assert conditions_of(decision)[1] == ("True", "OutcomeUnknown")


def test_a_certificate_that_was_there_before_is_not_the_upload() -> None:
    decision = lost(at_vercel(), known=("cert_1",))
    assert conditions_of(decision)[1] == ("True", "OutcomeUnknown")


def test_the_age_of_a_certificate_does_not_matter_in_the_search() -> None:
    # Vercel may show the leaf's own age.
    decision = lost(at_vercel(leaf=source(not_before=NOW - 60 * DAY)))
    assert decision.status is not None
    assert decision.status.id == "cert_1"


def test_of_several_candidates_none_is_ours() -> None:
    decision = lost(at_vercel("cert_1"), at_vercel("cert_2"))
    assert decision.status is not None
    assert decision.status.origin == "Found"


# --- the Secret changes -----------------------------------------------------------------------------------------------

NEXT_LEAF = source(OTHER_FINGERPRINT, not_before=NOW - HOUR, expires_at=NOW + 90 * DAY)


def test_another_leaf_is_uploaded() -> None:
    attempt = issued_by(uploads(NEXT_LEAF, status=uploaded()), at_vercel())
    assert (attempt.reason, attempt.fingerprint) == ("SourceChanged", OTHER_FINGERPRINT)


def test_the_old_certificate_stays_until_the_new_one_has_been_there_for_a_while() -> None:
    new = at_vercel("cert_2", NEXT_LEAF)
    facts = uploads(NEXT_LEAF, status=uploaded(), **answered(new, uploading(NEXT_LEAF, reason="SourceChanged")))
    facts, decision = led_to(facts, at_vercel(), new)
    status = facts.resource.status
    assert isinstance(decision.action, Wait)
    assert (status.id, status.fingerprint) == ("cert_2", OTHER_FINGERPRINT)
    assert [entry.id for entry in status.superseded] == ["cert_1"]
    later = at(facts, NOW + HOUR, source=NEXT_LEAF)
    assert isinstance(decide(later).action, Remove)


def test_the_users_choice_counts_even_if_the_new_leaf_is_older_or_expires_earlier() -> None:
    worse = source(OTHER_FINGERPRINT, not_before=NOW - 40 * DAY, expires_at=NOW + 20 * DAY)
    answer = answered(at_vercel("cert_2", worse), uploading(worse, reason="SourceChanged"))
    facts, _ = led_to(uploads(worse, status=uploaded(), **answer), at_vercel(), at_vercel("cert_2", worse))
    assert facts.resource.status.id == "cert_2"


def test_a_certificate_that_was_found_is_replaced_and_never_removed() -> None:
    answer = answered(at_vercel("cert_2", NEXT_LEAF), uploading(NEXT_LEAF, reason="SourceChanged"))
    facts = uploads(NEXT_LEAF, status=uploaded(origin="Found"), **answer)
    facts, _ = led_to(facts, at_vercel(), at_vercel("cert_2", NEXT_LEAF))
    assert facts.resource.status.id == "cert_2"
    later, decision = led_to(at(facts, NOW + HOUR, source=NEXT_LEAF), at_vercel(), at_vercel("cert_2", NEXT_LEAF))
    assert isinstance(decision.action, Wait)
    assert later.resource.status.superseded == ()
    assert later.removed == {}


# --- from one source to the other -------------------------------------------------------------------------------------


def test_a_resource_that_names_a_secret_from_now_on_uploads_before_it_removes() -> None:
    attempt = issued_by(uploads(status=ready(), generation=2), cert())
    assert (attempt.reason, attempt.fingerprint) == ("SourceChanged", FINGERPRINT)
    new = at_vercel("cert_2")
    facts = uploads(status=ready(), generation=2, **answered(new, attempt))
    facts, decision = led_to(facts, cert(), new)
    assert isinstance(decision.action, Wait)
    assert facts.resource.status.id == "cert_2"
    assert [entry.id for entry in facts.resource.status.superseded] == ["cert_1"]


def test_a_resource_that_no_longer_names_a_secret_issues_before_it_removes() -> None:
    attempt = issued_by(known(status=uploaded(), generation=2), at_vercel())
    assert (attempt.reason, attempt.fingerprint) == ("SourceChanged", None)
    new = cert("cert_2", created=NOW)
    facts, decision = led_to(known(status=uploaded(), generation=2, **answered(new, attempt)), at_vercel(), new)
    status = facts.resource.status
    assert isinstance(decision.action, Wait)
    assert (status.id, status.fingerprint) == ("cert_2", None)
    assert [entry.id for entry in status.superseded] == ["cert_1"]


def test_an_uploaded_certificate_that_outlives_the_issued_one_is_replaced_all_the_same() -> None:
    leaf = source(not_before=NOW - HOUR, expires_at=NOW + 365 * DAY)
    attempt = issued_by(known(status=uploaded(leaf), generation=2), at_vercel(leaf=leaf))
    new = cert("cert_2", created=NOW)
    facts = known(status=uploaded(leaf), generation=2, **answered(new, attempt))
    facts, decision = led_to(facts, at_vercel(leaf=leaf), new)
    assert isinstance(decision.action, Wait)
    assert (facts.resource.status.id, facts.resource.status.fingerprint) == ("cert_2", None)


def test_a_refused_issue_says_nothing_about_the_upload_that_follows() -> None:
    status = failed(Reason.INVALID_REQUEST, until=NOW + 10 * HOUR)
    assert issued_by(uploads(status=status, generation=2)).fingerprint == FINGERPRINT


def test_what_was_replaced_before_the_switch_is_still_removed() -> None:
    facts = uploads(status=uploaded(superseded=replaced("cert_0")))
    assert decide(facts).action == Remove("cert_0", facts.resource.status.superseded[0].scope)


# --- a source that isn't renewed --------------------------------------------------------------------------------------

OLD_LEAF = source(not_before=NOW - 80 * DAY, expires_at=NOW + 10 * DAY)


def test_a_secret_that_is_not_renewed_in_time_is_reported() -> None:
    facts = uploads(OLD_LEAF, status=uploaded(OLD_LEAF))
    _, decision = led_to(facts, at_vercel(leaf=OLD_LEAF))
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision) == (("True", "Issued"), ("False", "SourceNotRenewed"))
    assert message(decision, "Issuing") == (
        "Certificate cert_1 for example.com expires at 2026-01-11T12:00:00Z, and Secret web/shop-tls holds no newer "
        "one. Check what renews Secret web/shop-tls. The operator uploads the new certificate when it is there."
    )


def test_the_cert_manager_certificate_is_named() -> None:
    leaf = replace(OLD_LEAF, managed_by="shop")
    decision = decide(uploads(leaf, status=uploaded(leaf)))
    assert "Check the cert-manager Certificate shop." in message(decision, "Issuing")


def test_a_newer_leaf_ends_the_report() -> None:
    facts = uploads(OLD_LEAF, status=uploaded(OLD_LEAF))
    facts = replace(written(facts, decide(facts)), source=NEXT_LEAF)
    assert issued_by(facts, at_vercel(leaf=OLD_LEAF)).fingerprint == OTHER_FINGERPRINT


def test_nothing_is_issued_when_an_uploaded_certificate_is_due() -> None:
    for now in (NOW, NOW + 9 * DAY):
        _, decision = led_to(uploads(OLD_LEAF, status=uploaded(OLD_LEAF), now=now), at_vercel(leaf=OLD_LEAF))
        assert isinstance(decision.action, Wait)


def test_an_uploaded_certificate_that_expired_makes_the_resource_not_ready() -> None:
    leaf = source(not_before=EXPIRED.created_at, expires_at=EXPIRED.expires_at, managed_by="shop")
    facts = uploads(leaf, status=uploaded(leaf))
    _, decision = led_to(facts, at_vercel(leaf=leaf))
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision) == (("False", "SourceNotRenewed"), ("False", "SourceNotRenewed"))
    assert "Certificate cert_1 for example.com expired at 2025-12-31T12:00:00Z" in message(decision, "Issuing")
    assert "Check the cert-manager Certificate shop." in message(decision, "Issuing")


# --- gone at Vercel ---------------------------------------------------------------------------------------------------


def test_an_upload_that_is_gone_at_vercel_is_uploaded_again() -> None:
    facts = uploads(status=uploaded().changed(id=None, cns=(), expires_at=None, created_at=None, fingerprint=None))
    assert issued_by(facts).reason == "CertificateGone"
