"""A certificate from a Secret, uploaded instead of issued."""

from dataclasses import replace
from datetime import timedelta
from math import floor
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    KEY,
    MINUTE,
    NEW,
    NOTHING_TO_DO,
    NOW,
    READY,
    SECOND,
    TEAM,
    TICK,
    TIMED_OUT,
    answered,
    asked_again,
    assert_in_order,
    attempted,
    cert,
    conditions_of,
    failed,
    failing,
    gone,
    got,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    paused,
    ready,
    refusal,
    refused,
    remembering,
    replaced,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import is_for_the_same, is_uploaded, waiting_until
from vercel_certificate_operator.core.failures import fraction, issued_nothing, meaning
from vercel_certificate_operator.core.known import Get, Issue, Known, Limits, ReadSource, Wait, Write
from vercel_certificate_operator.core.memory import Memory, Round
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt, Issuance, names_hash
from vercel_certificate_operator.core.renewal import schedule
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.rules.failed_calls import call_of
from vercel_certificate_operator.core.rules.needs import need_of
from vercel_certificate_operator.core.source import Source, SourceProblem

NAMES = frozenset({"example.com"})
MORE = frozenset({"example.com", "www.example.com"})
LEAF = Source("f1", NAMES, NOW - 10 * DAY, NOW + 80 * DAY, "chain-1")
"""What the Secret holds. At Vercel it is ``cert()``, as old and with the same expiry."""
NEXT = Source("f2", NAMES, NOW, NOW + 90 * DAY, "chain-2")
AT_VERCEL = cert("cert_2", created=NOW)
"""What Vercel makes of it."""
CORRECT = "Correct the Secret. The operator reads it again every 10m."


def uploading(source: Source | SourceProblem | None = LEAF, **more: Any) -> Known:
    return known(**{"certificate_secret_ref": {"name": "tls"}, "source": source, **more})


def uploaded(certificate: Certificate | None = None, *, fingerprint: str | None = "f1", **more: Any) -> Status:
    return ready(certificate or cert(), fingerprint=fingerprint, **more)


def attempt_for(source: Source = NEXT, **more: Any) -> Attempt:
    return attempted(**{"cns": source.cns, "fingerprint": source.fingerprint, "expires_at": source.expires_at, **more})


# --- the Secret -------------------------------------------------------------------------------------------------------


def test_the_secret_is_read_before_anything_is_sent() -> None:
    decision = decide(uploading(None))
    assert (decision.policy, decision.action) == ("source_is_usable", ReadSource())


@pytest.mark.parametrize(
    ("source", "why", "advice"),
    [
        (SourceProblem("Secret web/tls is wrong"), "Secret web/tls is wrong", "Correct the Secret."),
        (
            replace(LEAF, cns=frozenset({"b.com", "a.com"})),
            "The certificate in Secret web/tls does not cover example.com; it covers a.com, b.com",
            "Correct the Secret or spec.cns.",
        ),
        (
            replace(LEAF, not_before=NOW + SECOND),
            "The certificate in Secret web/tls is valid only from 2026-01-01T12:00:01Z",
            "Correct the Secret.",
        ),
        (
            replace(LEAF, expires_at=NOW),
            "The certificate in Secret web/tls expired at 2026-01-01T12:00:00Z",
            "Check what renews Secret web/tls.",
        ),
    ],
    ids=["a problem", "names", "not yet valid", "expired"],
)
@pytest.mark.parametrize("status", [None, uploaded()], ids=["new", "uploaded before"])
def test_what_is_wrong_with_it_is_reported_and_nothing_is_sent(
    source: Source | SourceProblem, why: str, advice: str, status: Status | None
) -> None:
    if status is not None and isinstance(source, Source):
        source = replace(source, fingerprint="another")  # what is uploaded and has expired wasn't renewed
    facts = uploading(source, status=status)
    decision = decide(facts)
    assert decision.policy == "source_is_usable"
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision) == (READY if status else ("False", "SourceInvalid"), ("False", "SourceInvalid"))
    assert note_of(decision) == ("Warning", "SourceInvalid", "Upload")
    every = "The operator checks the Secret every 10m."
    assert message(decision, "Issuing") == f"{why}. Nothing was sent to Vercel for example.com. {advice} {every}"
    assert_in_order(facts, decision)


@pytest.mark.parametrize(
    "source",
    [LEAF, replace(LEAF, cns=MORE), replace(LEAF, not_before=NOW), replace(LEAF, expires_at=NOW + SECOND)],
    ids=["the names", "more names", "valid from now", "still valid"],
)
def test_else_it_is_uploaded(source: Source) -> None:
    attempt = issued_by(uploading(source, token_hash="t1"))
    assert (attempt.fingerprint, attempt.expires_at) == ("f1", source.expires_at)
    assert attempt.names == source.cns, "it is as it is"
    assert (attempt.reason, attempt.known, attempt.token_hash) == (Reason.FIRST_ISSUE, (), "t1")


def test_an_operator_that_uploads_nothing_reads_no_secret_again() -> None:
    decision = decide(uploading(SourceProblem("This operator uploads nothing", "Ask the administrator", read=False)))
    assert message(decision, "Issuing") == (
        "This operator uploads nothing. Nothing was sent to Vercel for example.com. Ask the administrator."
    )


def test_a_secret_is_of_no_interest_without_need() -> None:
    assert decide(uploading(None, suspend=True)).policy == "suspended_changes_nothing"
    assert decide(known(source=None)).policy == "list_is_fresh"
    deleting = decide(uploading(None, deleting=True))
    assert deleting.policy == "certificates_are_removed_then_released"


# --- needs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param(uploading(), "FirstIssue", id="nothing was uploaded yet"),
        pytest.param(uploading(status=uploaded()), None, id="it is what the Secret holds"),
        pytest.param(uploading(NEXT, status=uploaded()), "SourceChanged", id="the Secret holds another one"),
        pytest.param(uploading(status=ready()), "SourceChanged", id="what is there was issued"),
        pytest.param(known(status=uploaded()), "SourceChanged", id="spec no longer names a Secret"),
        pytest.param(known(status=ready(), source=LEAF), None, id="it never did"),
        pytest.param(uploading(SourceProblem("x"), status=uploaded()), None, id="the Secret can't be used"),
        pytest.param(uploading(status=uploaded(cert(cns=MORE))), None, id="more names"),
        pytest.param(uploading(status=uploaded(cert(cns=["b.com"]))), "NamesChanged", id="other names"),
        pytest.param(uploading(status=uploaded(cert(created=NOW - 65 * DAY))), None, id="due: whoever renews it, does"),
        pytest.param(uploading(status=uploaded(cert(created=NOW - 91 * DAY))), None, id="expired"),
        pytest.param(uploading(status=uploaded(cert(lifetime=None))), None, id="its expiry is unknown"),
        pytest.param(uploading(status=uploaded(), renew="1"), None, id="a renewal was requested"),
    ],
)
def test_what_is_needed_follows_from_the_secret(facts: Known, reason: str | None) -> None:
    need = need_of(facts)
    assert (need.reason if need else None) == reason


def test_the_needs_say_why() -> None:
    changed, removed = need_of(uploading(NEXT, status=uploaded())), need_of(known(status=uploaded()))
    assert changed is not None
    assert removed is not None
    assert changed.message == "The Secret holds another certificate for example.com than cert_1."
    assert removed.message == "Certificate cert_1 was uploaded, and spec no longer names a Secret."


def test_a_request_for_what_is_at_vercel_is_met() -> None:
    facts = uploading(status=uploaded(), renew="1")
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("source_is_usable", Write())
    after = written(facts, decision)
    assert after.resource.status.last_renew_request == "1"
    assert decide(after).policy == "nothing_is_needed"
    assert issued_by(uploading(NEXT, status=uploaded(), renew="1"), cert()).reason == Reason.SOURCE_CHANGED


def test_no_other_certificate_will_do() -> None:
    existing = cert("cert_e", created=NOW)
    facts = uploading(listing=listed(existing), got=got(existing))
    assert isinstance(decide(facts).action, Issue)


DUE = cert(created=NOW - 65 * DAY)


@pytest.mark.parametrize(
    ("source", "who"),
    [
        (LEAF, "what renews Secret web/tls"),
        (replace(LEAF, managed_by="a" * 254), f"the cert-manager Certificate {'a' * 253}…"),
    ],
    ids=["a Secret", "cert-manager"],
)
def test_a_secret_that_nobody_renews_is_reported(source: Source, who: str) -> None:
    facts = uploading(replace(source, expires_at=NOW + 25 * DAY), status=uploaded(DUE))
    decision = decide(facts)
    assert decision.policy == "source_that_is_not_renewed_is_reported"
    assert conditions_of(decision) == (READY, ("False", "SourceNotRenewed"))
    assert note_of(decision) == ("Warning", "SourceNotRenewed", "Upload")
    assert message(decision, "Issuing") == (
        "Certificate cert_1 for example.com expires at 2026-01-26T12:00:00Z, and Secret web/tls holds no newer one. "
        f"Check {who}. The operator uploads the new certificate when it is there."
    )
    assert_in_order(facts, decision)


def test_it_is_reported_from_the_renewal_time_on() -> None:
    status = uploaded(DUE)
    due = schedule(uid=KEY.uid, created_at=DUE.created_at, expires_at=NOW + 25 * DAY, renew_before=None).renewal_time
    assert decide(uploading(status=status, now=due)).policy == "source_that_is_not_renewed_is_reported"
    assert decide(uploading(status=status, now=due - timedelta(microseconds=1))).policy == "nothing_is_needed"
    assert decide(uploading(NEXT, status=status)).policy == "list_is_fresh"
    assert decide(uploading(status=uploaded(cert(lifetime=None)))).policy == "nothing_is_needed"


def test_a_secret_that_nobody_renews_expires_in_the_moment_that_it_names() -> None:
    expires = NOW + 25 * DAY
    for now, word in [(expires - timedelta(microseconds=1), "expires"), (expires, "expired")]:
        decision = decide(uploading(replace(LEAF, expires_at=expires), status=uploaded(DUE), now=now))
        assert decision.policy == "source_that_is_not_renewed_is_reported"
        assert f"Certificate cert_1 for example.com {word} at " in message(decision, "Issuing")


# --- an attempt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "is_known"),
    [
        pytest.param(cert("cert_9", created=NOW - 10 * DAY), True, id="the same names and expiry"),
        pytest.param(cert("cert_9", created=NOW - 10 * DAY, lifetime=90 * DAY + 2 * SECOND), True, id="within 2 s"),
        pytest.param(cert("cert_9", created=NOW - 10 * DAY, lifetime=90 * DAY + 3 * SECOND), False, id="not within"),
        pytest.param(cert("cert_9", lifetime=None), True, id="of unknown expiry"),
        pytest.param(cert("cert_9", MORE, created=NOW - 10 * DAY), False, id="more names"),
    ],
)
def test_an_upload_records_what_could_be_mistaken_for_it(certificate: Certificate, is_known: bool) -> None:
    attempt = issued_by(uploading(), certificate)
    assert attempt.known == (("cert_9",) if is_known else ())


def test_names_of_the_secret_are_searched_for_among_other_peoples_certificates() -> None:
    _, decision = led_to(uploading(replace(LEAF, cns=MORE)), cert("cert_9", MORE))
    assert isinstance(decision.action, Issue)
    assert decision.status is not None
    assert decision.status.shared_names
    _, decision = led_to(uploading(replace(LEAF, cns=MORE)), cert("cert_9"))
    assert decision.status is not None
    assert not decision.status.shared_names


def test_an_issuance_does_not_look_at_a_source_that_spec_does_not_name() -> None:
    attempt = issued_by(known(source=LEAF))
    assert (attempt.fingerprint, attempt.expires_at) == (None, None)


@pytest.mark.parametrize(("attempt", "call"), [(attempted(), "issue"), (attempt_for(), "upload")])
def test_an_upload_is_a_call_of_its_own(attempt: Attempt, call: str) -> None:
    assert call_of(replace(decide(uploading()), action=Issue(attempt))) == (call, None)


def test_an_upload_that_cannot_be_sent_waits() -> None:
    facts = uploading(listing=listed(), failed=failing("upload", refusal(500)))
    decision = decide(facts)
    assert decision.action == Wait(NOW + MINUTE)
    assert message(decision, "Issuing").startswith("Can't upload the certificate for example.com: Vercel says no")
    assert note_of(decision) == ("Warning", "OutcomeUnknown", "Upload")
    assert isinstance(decide(uploading(listing=listed(), failed=failing("issue", refusal(500)))).action, Issue)
    limited = uploading(listing=listed(), pauses=paused("upload", NOW + MINUTE))
    assert decide(limited).action == Wait(NOW + MINUTE)


def test_a_refused_upload_means_what_a_refused_post_means() -> None:
    assert meaning(refusal(400), "upload").reason is Reason.INVALID_REQUEST
    assert meaning(TIMED_OUT, "upload").reason is Reason.OUTCOME_UNKNOWN
    assert meaning(TIMED_OUT, "config").reason is Reason.VERCEL_UNAVAILABLE
    assert issued_nothing(refusal(400))


# --- an answer --------------------------------------------------------------------------------------------------------


def test_an_uploaded_certificate_is_recorded_with_its_fingerprint() -> None:
    before = uploading(NEXT, **answered(AT_VERCEL, attempt_for()))
    decision = decide(before)
    assert note_of(decision) == ("Normal", "Issued", "Issue")
    assert decision.note is not None
    assert decision.note.text == "Uploaded certificate cert_2 for example.com; expires 2026-04-01T12:00:00Z."
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    status = written(before, decision).resource.status
    assert (status.id, status.origin, status.fingerprint) == ("cert_2", "Issued", "f2")
    assert decide(replace(written(before, decision), reply=None)).policy == "nothing_is_needed"


@pytest.mark.parametrize(
    ("attempt", "origin"),
    [
        (attempt_for(LEAF, start=NOW), "Issued"),
        (attempt_for(LEAF, start=NOW, known=["cert_2"]), "Found"),
        (attempt_for(LEAF, start=NOW, known=None), "Found"),
    ],
    ids=["new", "known before", "without a list"],
)
def test_only_the_list_says_what_existed_before_an_upload(attempt: Attempt, origin: str) -> None:
    """The certificate is as old as the user made it."""
    old = cert("cert_2", created=NOW - 10 * DAY)
    before = uploading(**answered(old, attempt))
    assert written(before, decide(before)).resource.status.origin == origin


def test_an_uploaded_certificate_replaces_a_younger_one_that_expires_later() -> None:
    """The user wants this one."""
    before = uploading(status=ready(NEW), **answered(cert("cert_3"), attempt_for(LEAF, reason="SourceChanged")))
    status = written(before, decide(before)).resource.status
    assert status.certificate_ids == ("cert_3", "cert_2")
    assert (status.fingerprint, status.attempt and status.attempt.outcome) == ("f1", "Issued")


@pytest.mark.parametrize(
    "answer",
    [cert("cert_3", ["b.com"]), cert("cert_3", created=NOW - 91 * DAY), cert("cert_3", lifetime=None)],
    ids=["other names", "expired", "no expiry"],
)
def test_an_answer_that_cannot_be_used_does_not(answer: Certificate) -> None:
    before = uploading(status=ready(NEW), **answered(answer, attempt_for(LEAF, start=NOW - 100 * DAY)))
    before = asked_again(before, answer)
    status = written(before, decide(before)).resource.status
    assert status.id == "cert_2"
    assert status.attempt is not None
    assert status.attempt.outcome == "Unexpected"


def test_an_uploaded_certificate_needs_the_wanted_names_only() -> None:
    more = replace(NEXT, cns=MORE)
    fewer = replace(AT_VERCEL, cns=NAMES)
    before = uploading(more, **answered(fewer, attempt_for(more)))
    status = written(before, decide(before)).resource.status
    assert status.ready
    whole = uploading(more, **answered(replace(AT_VERCEL, cns=MORE), attempt_for(more)))
    status = written(whole, decide(whole)).resource.status
    assert (status.ready, status.requested_cns) == (True, ("example.com",))
    both = uploading(more, cns=["example.com", "www.example.com"], **answered(fewer, attempt_for(more)))
    decision = decide(both)
    assert "which does not cover example.com, www.example.com" in message(decision, "Issuing")


def test_an_issued_certificate_has_no_fingerprint() -> None:
    before = known(status=uploaded(), **answered(NEW, attempted(reason="SourceChanged")))
    assert written(before, decide(before)).resource.status.fingerprint is None
    assert uploaded().without_certificate().fingerprint is None


def test_a_certificate_that_takes_the_place_of_an_uploaded_one_was_not_uploaded() -> None:
    """Spec no longer names a Secret, and an existing certificate is used: nothing has to be issued."""
    existing = cert("cert_e", created=NOW)
    facts, decision = led_to(known(status=uploaded()), cert(), existing)
    assert decision.policy == "nothing_is_needed"
    assert (facts.resource.status.id, facts.resource.status.fingerprint) == ("cert_e", None)
    facts, decision = led_to(known(status=uploaded(), adopt="cert_e", may_adopt=True), cert(), existing)
    assert decision.policy == "nothing_is_needed"
    assert (facts.resource.status.origin, facts.resource.status.fingerprint) == ("Adopted", None)


def test_a_renewal_by_vercel_does_not_change_what_was_uploaded() -> None:
    later = cert(lifetime=100 * DAY)
    before = uploading(status=uploaded(), listing=listed(later))
    status = written(before, decide(before)).resource.status
    assert (status.expires_at, status.fingerprint) == (later.expires_at, "f1")


def test_a_secret_that_always_changes_is_not_uploaded_without_end() -> None:
    """Two tools write it in turn. Its certificate may have more names than are wanted."""
    more = replace(LEAF, cns=MORE)
    entries = tuple(Issuance(time=NOW - HOUR, names_hash=names_hash(MORE)) for _ in range(5))
    facts = uploading(more, status=ready(issuances=entries))
    assert led_to(facts, cert())[1].policy == "issuances_are_limited"
    assert issued_by(uploading(status=ready(issuances=entries)), cert()).fingerprint == "f1", "other names"
    assert issued_by(uploading(more, status=ready(issuances=entries), renew="1"), cert()).requested


# --- a lost answer ----------------------------------------------------------------------------------------------------

SAME = cert("cert_3", created=NOW - 10 * DAY)
"""At Vercel, with the names and the expiry of LEAF."""


@pytest.mark.parametrize(
    ("certificate", "more", "found"),
    [
        pytest.param(SAME, {}, True, id="the same names and expiry"),
        pytest.param(replace(SAME, expires_at=NOW + 80 * DAY + 2 * SECOND), {}, True, id="within two seconds"),
        pytest.param(replace(SAME, expires_at=NOW + 80 * DAY - 2 * SECOND), {}, True, id="before, too"),
        pytest.param(replace(SAME, expires_at=NOW + 80 * DAY + 3 * SECOND), {}, False, id="another expiry"),
        pytest.param(replace(SAME, expires_at=None), {}, False, id="no expiry"),
        pytest.param(replace(SAME, cns=MORE), {}, False, id="more names"),
        pytest.param(SAME, {"held_elsewhere": {"cert_3"}}, False, id="in another status"),
        pytest.param(SAME, {"attempt": attempt_for(LEAF, known=["cert_3"])}, False, id="known before"),
        pytest.param(SAME, {"attempt": attempt_for(LEAF, expires_at=None)}, False, id="nobody knows its expiry"),
        pytest.param(SAME, {"status": ready(SAME)}, False, id="the current one"),
        pytest.param(SAME, {"status": ready(superseded=replaced("cert_3"))}, False, id="a replaced one"),
    ],
)
def test_what_was_uploaded_is_found_by_its_names_and_expiry(
    certificate: Certificate, more: dict[str, Any], found: bool
) -> None:
    facts = {"attempt": attempt_for(LEAF), "listing": listed(certificate), "got": got(certificate), **more}
    decision = decide(uploading(seen=NOW - SECOND, **facts))
    assert decision.policy == "open_attempt_is_searched_for"
    assert (decision.action == Write(closes=True)) is found


def test_what_may_have_been_uploaded_is_read_before_it_is_taken() -> None:
    facts = uploading(attempt=attempt_for(LEAF), seen=NOW - SECOND, listing=listed(SAME))
    assert decide(facts).action == Get("cert_3", TEAM)


def test_an_upload_that_a_get_does_not_find_is_not_taken() -> None:
    facts = uploading(attempt=attempt_for(LEAF), seen=NOW - SECOND, listing=listed(SAME), got=gone("cert_3"))
    assert isinstance(decide(facts).action, Wait)


# --- waits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "same"),
    [
        (uploading(), True),
        (uploading(NEXT), False),
        (uploading(None), False),
        (uploading(SourceProblem("x")), False),
        (known(source=LEAF), False),
        (uploading(replace(LEAF, cns=MORE)), True),
    ],
    ids=[
        "the same certificate",
        "another one",
        "not read",
        "a problem",
        "it is to be issued",
        "its names don't matter",
    ],
)
def test_a_wait_ends_with_another_certificate_in_the_secret(facts: Known, same: bool) -> None:
    attempt = attempt_for(LEAF)
    assert is_for_the_same(facts, attempt) is same
    status = failed(Reason.INVALID_REQUEST, attempt=attempt)
    waiting = replace(facts, resource=replace_status(facts, status))
    assert (waiting_until(waiting) is not None) is same


def replace_status(facts: Known, status: Status) -> Any:
    spec = facts.resource.spec
    return known(status=status, certificate_secret_ref=spec.certificate_secret_ref).resource


def test_an_issuance_is_not_the_same_as_an_upload() -> None:
    assert is_for_the_same(known(), attempted())
    assert not is_for_the_same(known(), attempt_for())
    assert not is_for_the_same(uploading(), attempted())
    assert not is_for_the_same(known(cns=["b.com"]), attempted())


def test_what_is_uploaded_is_known_by_its_fingerprint() -> None:
    assert is_uploaded(uploading(status=uploaded()), LEAF)
    assert not is_uploaded(uploading(status=uploaded()), NEXT)
    assert not is_uploaded(uploading(status=status_of(fingerprint="f1")), LEAF)


def test_a_refused_upload_is_tried_again_in_its_time() -> None:
    before = uploading(**refused(refusal(402), attempt_for(LEAF)))
    status = written(before, decide(before)).resource.status
    assert decide(uploading(status=status, token_read=True)).policy == "back_off_is_waited_for"
    assert isinstance(led_to(uploading(NEXT, status=status))[1].action, Issue)
    again = issued_by(uploading(status=status, now=NOW + 2 * HOUR))
    assert (again.previous_failures, again.previous_reason) == (1, "PaymentRequired")


# --- reading it again -------------------------------------------------------------------------------------------------


def from_memory(read_at: float | None, tick_now: float, source: Source = LEAF) -> Known:
    memory = Memory(seen=(None, TICK), source=None if read_at is None else (read_at, source))
    limits = Limits(source_poll=600.0)
    return remembering(memory, uploading().resource, tick=tick_now, limits=limits, may_adopt=False)


def test_a_secret_is_read_again_after_a_while() -> None:
    assert (from_memory(None, TICK).source, from_memory(None, TICK).source_due_at) == (None, None)
    fresh = from_memory(TICK, TICK + 599)
    assert fresh.source == LEAF
    assert fresh.source_due_at is not None
    assert fresh.source_due_at == floor((TICK + 600 * (1 + fraction("uid-1") / 10)) * 1000) / 1000
    assert from_memory(TICK, fresh.source_due_at - 0.01).source == LEAF
    assert from_memory(TICK, fresh.source_due_at).source is None
    assert from_memory(TICK, fresh.source_due_at - 0.001).source is None
    assert from_memory(TICK, fresh.source_due_at - 0.0005).source is None, "a wait until then ends a little early"


def test_a_wait_ends_when_the_secret_is_read_again() -> None:
    facts = uploading(status=uploaded(), source_due_at=tick(NOW + 10 * MINUTE))
    assert decide(facts).action == Wait(NOW + 10 * MINUTE)
    assert decide(uploading(status=uploaded(), source_due_at=None)).policy == "nothing_is_needed"
    issued = known(status=ready(), source_due_at=tick(NOW + 10 * MINUTE))
    assert decide(issued).action != Wait(NOW + 10 * MINUTE)


def test_a_change_by_the_user_is_a_reason_to_read_it_again() -> None:
    memory = Memory(seen=(None, TICK), source=(TICK, LEAF)).observe(uploading().resource, TICK)
    assert memory.source is None
    seen = replace(memory, source=(TICK, LEAF))
    assert seen.observe(uploading().resource, TICK).source == (TICK, LEAF)
    other = known(certificate_secret_ref={"name": "other"}).resource
    assert seen.observe(other, TICK).source is None


def test_what_domains_are_like_is_learned_in_a_round() -> None:
    round_ = Round().with_domain("a.com", None).with_domain("b.com", None)
    assert round_.domains == {"a.com": None, "b.com": None}
    assert timedelta() < HOUR
