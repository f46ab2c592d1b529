"""What is recorded in status and read back: times, origins, attempts, names; whatever another version wrote."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.building import (
    DAY,
    HOUR,
    ISSUED_AT,
    KEY,
    NOW,
    PERSONAL,
    SECOND,
    attempted,
    cert,
    failed,
    known,
    ready,
    replaced,
)
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized
from vercel_certificate_operator.core.probe import PROBE
from vercel_certificate_operator.core.record import (
    Attempt,
    Issuance,
    Origin,
    Outcome,
    Superseded,
    is_from,
    names_hash,
    request_hash,
    scope_of_team,
    token_hash,
)
from vercel_certificate_operator.core.resource import Condition, Key, Resource, Spec, Status
from vercel_certificate_operator.core.schema import EARLIEST, LATEST, Model, whole_seconds

FULL: dict[str, Any] = {
    "id": "cert_1",
    "origin": "Issued",
    "cns": ["example.com", "www.example.com"],
    "requestedCNs": ["example.com"],
    "createdAt": "2025-12-22T12:00:00Z",
    "expiresAt": "2026-03-22T12:00:00Z",
    "renewalTime": "2026-02-20T12:00:00Z",
    "autoRenew": False,
    "team": "team_a",
    "tokenHash": "abc",
    "sharedNames": True,
    "scopeVanished": True,
    "observedGeneration": 3,
    "attempt": {
        "id": "attempt-1",
        "start": "2025-12-22T11:59:00Z",
        "generation": 3,
        "cns": ["example.com"],
        "reason": "FirstIssue",
        "team": "team_a",
        "known": [],
        "renewRequest": "1",
        "requested": True,
        "tokenHash": "abc",
        "previousFailures": 2,
        "previousReason": "AttemptLost",
        "outcome": "Refused",
        "outcomeReason": "PermissionDenied",
        "retryTime": "2025-12-22T13:00:00Z",
    },
    "superseded": [{"id": "cert_0", "origin": "Found", "team": "acme", "since": "2025-12-22T12:00:00Z"}],
    "issuances": [{"time": "2025-12-22T12:00:00Z", "namesHash": "0123456789abcdef", "requestHash": "abc"}],
    "lastRenewRequest": "1",
    "lastAdoptRequest": "cert_9",
    "failedAttempts": 2,
    "lastFailureTime": "2025-12-22T12:00:00Z",
    "nextAttemptTime": "2025-12-22T13:00:00Z",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Issued",
            "message": "Fine.",
            "lastTransitionTime": "2025-12-22T12:00:00Z",
            "observedGeneration": 3,
        }
    ],
}


def test_what_was_written_is_read_back() -> None:
    status = Status.read(FULL)
    assert status.unreadable == ()
    assert status.dump() == FULL
    assert Status.read({}).dump() == {}
    assert Status.read(None) == Status()


def _without_a_value(value: Model, way: str = "") -> Iterator[str]:
    for name, field in type(value).model_fields.items():
        member = getattr(value, name)
        if not field.exclude and (member is None or member == field.default):
            yield way + name
        for item in member if isinstance(member, tuple) else (member,):
            if isinstance(item, Model):
                yield from _without_a_value(item, f"{way}{name}.")


def test_the_probe_has_every_field_of_status() -> None:
    assert list(_without_a_value(PROBE)) == []
    assert list(_without_a_value(Status(attempt=attempted()))) != []
    assert Status.read(PROBE.dump()) == PROBE


def test_an_attempt_without_a_list_differs_from_one_with_an_empty_list() -> None:
    unknown = Status.read({"attempt": {"id": "a", "start": "2026-01-01T12:00:00Z"}})
    assert unknown.attempt is not None
    assert unknown.attempt.known is None
    dumped = ready(attempt=attempted(known=())).dump()["attempt"]
    assert dumped["known"] == []
    assert "known" not in ready(attempt=attempted(known=None)).dump()["attempt"]


def test_values_of_a_newer_or_older_version_are_read() -> None:
    status = Status.read(
        {
            "id": "cert_1",
            "origin": "Inherited",
            "supersededIDs": ["cert_0"],
            "attempt": {"id": "a", "start": "2026-01-01T12:00:00Z", "outcome": "Postponed", "color": "red"},
            "conditions": None,
            "superseded": None,
            "issuances": None,
            "cns": None,
        }
    )
    assert status.unreadable == ()
    assert (status.id, status.origin, status.superseded, status.cns) == ("cert_1", "Inherited", (), ())
    assert status.closed_attempt is not None
    assert status.closed_attempt.outcome == "Postponed"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expiresAt", "soon"),
        ("expiresAt", "2026-01-01T12:00:00"),
        ("createdAt", 5.5e300),
        ("attempt", "attempt-1"),
        ("attempt", {"start": "2026-01-01T12:00:00Z"}),
        ("attempt", {"id": "a", "start": "yesterday"}),
        ("superseded", [{"id": "cert_0"}]),
        ("superseded", [{"id": "cert_0", "since": "2026-13-01T12:00:00Z"}]),
        ("issuances", [1]),
        ("requestedCNs", "example.com"),
        ("failedAttempts", "many"),
        ("autoRenew", "perhaps"),
    ],
)
def test_a_field_that_cannot_be_read_is_left_out_and_named(field: str, value: object) -> None:
    status = Status.read(FULL | {field: value})
    assert status.unreadable == (field,)
    assert status.dump() == {name: there for name, there in FULL.items() if name != field}


def test_all_fields_that_cannot_be_read_are_named() -> None:
    status = Status.read({"id": 1, "team": [], "expiresAt": "soon", "origin": "Issued"})
    assert status.unreadable == ("expiresAt", "id", "team")
    assert status.origin == "Issued"


def test_nobody_can_name_a_field_unreadable_but_the_operator() -> None:
    assert Status.read({"unreadable": ["id"], "id": "cert_1"}).unreadable == ()
    assert Status.read({"expires_at": "soon", "id": 1}).unreadable == ("id",), "nor write it by another name"
    assert "unreadable" not in Status.read({"id": 1}).dump()


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.fixed_dictionaries({}, optional={name: st.just(good) | JSON_VALUES for name, good in FULL.items()}))
def test_any_status_is_read(raw: dict[str, Any]) -> None:
    status = Status.read(raw)
    assert Status.read(status.dump()).dump() == status.dump()


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("0001-01-01T00:00:00Z", EARLIEST),
        ("0001-01-01T00:00:00+14:00", EARLIEST),
        ("9999-12-31T23:59:59Z", LATEST),
        ("9999-12-31T23:59:59-12:00", LATEST),
        ("2026-01-01T13:00:00+01:00", NOW),
    ],
)
def test_times_at_the_ends_of_the_calendar_are_bounded(text: str, read: datetime) -> None:
    status = Status.read({"expiresAt": text, "attempt": {"id": "a", "start": text}})
    assert status.expires_at == read
    assert status.attempt is not None
    assert status.attempt.start == read


def test_times_are_written_in_utc_and_whole_seconds() -> None:
    odd = (NOW + timedelta(microseconds=999_999)).astimezone(tz=None)
    assert Status(expires_at=odd).dump() == {"expiresAt": "2026-01-01T12:00:00Z"}
    assert whole_seconds(odd) == NOW
    assert whole_seconds(odd).tzinfo is UTC


@pytest.mark.parametrize("far", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)], ids=str)
def test_a_certificates_times_are_held_as_they_will_be_read_back(far: datetime) -> None:
    """Otherwise the certificate would seem to have changed in every list."""
    status = Status().holding(replace(cert(), created_at=far, expires_at=far), PERSONAL, Origin.ISSUED)
    read = Status.read(status.dump())
    assert (status.created_at, status.expires_at) == (read.created_at, read.expires_at)
    assert status.expires_at in (EARLIEST, LATEST)


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_an_attempt_is_open_until_its_outcome_is_recorded() -> None:
    attempt = attempted()
    assert attempt.open
    status = Status(attempt=attempt)
    assert (status.open_attempt, status.closed_attempt) == (attempt, None)
    closed = attempt.closed(Outcome.REFUSED, reason="PermissionDenied", retry_time=NOW + timedelta(milliseconds=1))
    assert not closed.open
    assert (closed.outcome, closed.outcome_reason, closed.retry_time) == ("Refused", "PermissionDenied", NOW)
    status = Status(attempt=closed)
    assert (status.open_attempt, status.closed_attempt) == (None, closed)
    assert (Status().open_attempt, Status().closed_attempt) == (None, None)


def test_an_attempts_outcome_without_a_reason_has_none() -> None:
    closed = attempted().closed(Outcome.ISSUED)
    assert (closed.outcome_reason, closed.retry_time) == (None, None)


def test_failures_in_a_row_are_those_for_the_same_reason() -> None:
    attempt = attempted(previous_failures=3, previous_reason="PermissionDenied")
    assert attempt.failures("PermissionDenied") == 4
    assert attempt.failures("AttemptLost") == 1
    assert attempted().failures("AttemptLost") == 1


# --- names, scopes, hashes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("*.Straße.example", "*.xn--strae-oqa.example"),
        ("💩.example", "xn--ls8h.example"),
        ("bücher。example。", "xn--bcher-kva.example"),
        ("\ud800.example", "\ud800.example"),
        ("*.example.com", "*.example.com"),
        ("ü" * 70 + ".example", "ü" * 70 + ".example"),
    ],
)
def test_names_are_compared_in_one_form(name: str, normal: str) -> None:
    assert normalized([name]) == {normal}


def test_a_certificate_covers_what_is_on_it() -> None:
    certificate = cert(cns=["example.com", "www.example.com"])
    assert certificate.covers(["Example.com"])
    assert certificate.covers(["example.com", "www.example.com."])
    assert not certificate.covers(["example.com", "other.com"])


def test_the_same_set_of_names_has_the_same_hash() -> None:
    assert names_hash(["b.com", "a.com"]) == names_hash(["A.com", "b.com."])
    assert names_hash(["a.com"]) != names_hash(["b.com"])
    assert len(names_hash(["a.com"])) == 16


def test_a_value_of_the_renew_annotation_has_a_hash() -> None:
    assert request_hash("1") == request_hash("1") != request_hash("")
    assert len(request_hash("1")) == 16


def test_a_tokens_hash_says_nothing_and_differs_in_each_resource() -> None:
    place = ("web", "vercel", "token")
    hashes = [
        token_hash(text, resource, place) for text, resource in (("one", "web/a"), ("one", "web/b"), ("two", "web/a"))
    ]
    assert len({*hashes, token_hash("one", "web/a", place)}) == 3
    assert {len(one) for one in hashes} == {41}
    assert not any("one" in one or "vercel" in one for one in hashes)


def test_a_tokens_hash_says_whether_the_token_is_in_a_place() -> None:
    place = ("web", "vercel", "token")
    assert is_from(token_hash("one", "web/a", place), place)
    assert not is_from(token_hash("one", "web/a", place), None)
    assert is_from(token_hash("one", "web/a", None), None)
    assert is_from(None, place), "perhaps"


@pytest.mark.parametrize(
    ("team", "scope"),
    [("team_a", Scope(team_id="team_a")), ("acme", Scope(team_slug="acme")), (None, Scope())],
)
def test_a_recorded_team_means_its_scope(team: str | None, scope: Scope) -> None:
    assert scope_of_team(team) == scope
    assert scope.team == team
    assert Status(team=team).scope == scope
    assert attempted(team=team).scope == scope
    assert replaced("cert_0", team=team)[0].scope == scope


def test_only_two_team_ids_prove_that_scopes_differ() -> None:
    a, b, slug = Scope(team_id="team_a"), Scope(team_id="team_b"), Scope(team_slug="acme")
    assert a.certainly_differs_from(b)
    for one, other in [(a, a), (a, slug), (slug, a), (slug, Scope(team_slug="b")), (a, PERSONAL), (PERSONAL, a)]:
        assert not one.certainly_differs_from(other)


def test_a_scope_reads_well() -> None:
    assert str(Scope(team_id="team_a")) == "team team_a"
    assert str(Scope(team_slug="acme")) == "team acme"
    assert str(PERSONAL) == "the token's personal account"


# --- the resource -----------------------------------------------------------------------------------------------------

BODY: dict[str, Any] = {
    "metadata": {
        "namespace": "web",
        "name": "example-com",
        "uid": "web/site",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T12:00:00Z",
    },
    "spec": {"cns": ["Example.com"], "team": {"slug": "acme"}, "tokenSecretRef": {"name": "vercel"}},
}


def test_a_resource_is_read_as_the_api_server_sends_it() -> None:
    resource = Resource.parse(BODY)
    assert (resource.key, resource.resource_version, resource.generation) == (
        Key("web", "example-com", "web/site"),
        "7",
        0,
    )
    assert (resource.created_at, resource.deleted_at, resource.deleting) == (NOW, None, False)
    assert (resource.finalizers, resource.annotations) == ((), {})
    assert (resource.has_finalizer, resource.holds) == (False, False)
    assert (resource.adopt_request, resource.renew_request) == (None, None)
    assert resource.cns == {"example.com"}
    assert resource.spec.token_secret_ref is not None
    assert resource.spec.token_secret_ref.key == "token"
    assert resource.spec.scope(PERSONAL) == Scope(team_slug="acme")
    assert str(resource.key) == "web/example-com"


def test_a_resource_that_is_being_deleted_is_read() -> None:
    metadata = {
        **BODY["metadata"],
        "generation": 4,
        "deletionTimestamp": "2026-01-01T13:00:00Z",
        "finalizers": ["vercel-operator.io/certificate"],
        "annotations": {"vercel-operator.io/renew": "", "vercel-operator.io/adopt-id": ""},
    }
    resource = Resource.parse({"metadata": metadata, "spec": {"cns": ["a.com"]}, "status": {"id": "cert_1"}})
    assert (resource.generation, resource.deleted_at, resource.deleting) == (4, NOW + HOUR, True)
    assert (resource.has_finalizer, resource.holds) == (True, True)
    assert resource.renew_request == "", "an empty value is a value"
    assert resource.adopt_request is None
    assert resource.spec.scope(PERSONAL) == PERSONAL


def test_the_old_annotation_of_an_attempt_is_ignored() -> None:
    """Anyone who may edit the resource can write annotations."""
    forged = '{"id": "a", "uid": "web/site", "start": "2020-01-01T00:00:00Z", "cns": ["x.com"], "replaces": ["cert_9"]}'
    metadata = {**BODY["metadata"], "annotations": {"vercel-operator.io/attempt": forged}}
    resource = Resource.parse({**BODY, "metadata": metadata})
    assert resource.status == Status()
    assert not resource.holds


@pytest.mark.parametrize(
    ("status", "holds"),
    [
        (Status(), False),
        (ready(), True),
        (Status(superseded=replaced("cert_0")), True),
        (Status(attempt=attempted()), True),
        (failed(), False),
    ],
    ids=["new", "a certificate", "a replaced one", "an open attempt", "a closed attempt"],
)
def test_a_resource_holds_what_is_or_may_be_at_vercel(status: Status, holds: bool) -> None:
    assert known(status=status).resource.holds is holds


@pytest.mark.parametrize(("policy", "retains"), [("Delete", False), ("Retain", True), ("Archive", True)])
def test_with_an_unknown_policy_the_certificate_stays(policy: str, retains: bool) -> None:
    assert Spec(deletion_policy=policy).retains is retains


def test_the_current_certificate_is_the_first_of_all() -> None:
    status = ready(superseded=replaced("cert_0", "cert_9"))
    assert status.certificate_ids == ("cert_1", "cert_0", "cert_9")
    assert status.superseded_ids == ("cert_0", "cert_9")
    assert Status().certificate_ids == ()


def test_the_current_certificate_is_not_read_as_a_replaced_one() -> None:
    """Someone edited the status by hand. The operator would remove the certificate."""
    written = ready(superseded=replaced("cert_0", "cert_1"))
    assert Status.read(written.dump()) == ready(superseded=replaced("cert_0"))
    bad = written.dump() | {"issuances": "?"}
    assert Status.read(bad).superseded_ids == ("cert_0",)
    later = Status.read(written.dump()).superseding(since=NOW + DAY)
    assert later.superseded[-1].since == NOW + DAY, "it is removed some time after it was really replaced"


def test_what_is_superseded_keeps_its_origin_and_scope() -> None:
    held = cert(auto_renew=False)
    status = ready(held, origin="Adopted", team="acme").superseding(since=NOW + timedelta(milliseconds=5))
    assert status.superseded == (Superseded(id="cert_1", origin="Adopted", team="acme", since=NOW),)
    assert status.superseding(since=NOW + DAY) == status, "once"
    assert Status().superseding(since=NOW) == Status()
    assert ready(origin=None).superseding(since=NOW).superseded[0].origin == "Found", "when in doubt, it stays"
    [entry] = ready().superseding(since=NOW).superseded
    assert (entry.names, entry.renewable_since) == (frozenset({"example.com"}), ISSUED_AT + 45 * DAY)
    many = cert(cns=[f"{number}.example.com" for number in range(101)])
    [entry] = ready(many).superseding(since=NOW).superseded
    assert (entry.cns, entry.renewable_since) == ((), None), "so many would be too much for status"
    assert status.without_superseded({"cert_1"}).superseded == ()
    assert status.without_superseded(frozenset()).superseded == status.superseded


def test_a_status_without_its_certificate_keeps_the_record() -> None:
    attempt, issuances = failed().attempt, (Issuance(time=NOW, names_hash="x"),)
    full = ready(
        attempt=attempt,
        issuances=issuances,
        superseded=replaced("cert_0"),
        requested_cns=("example.com",),
        token_hash="abc",
        scope_vanished=True,
        last_renew_request="1",
        failed_attempts=2,
    )
    status = full.without_certificate()
    assert status.certificate_ids == ("cert_0",)
    assert (status.cns, status.requested_cns, status.origin, status.token_hash) == ((), (), None, None)
    assert (status.created_at, status.expires_at, status.renewal_time, status.auto_renew) == (None,) * 4
    assert not status.scope_vanished
    assert (status.attempt, status.issuances, status.last_renew_request) == (attempt, issuances, "1")
    assert status.failed_attempts == 2


def test_a_condition_moves_its_transition_time_with_its_status_only() -> None:
    first = Status().with_condition("Issuing", "True", "FirstIssue", "a", generation=1, now=NOW)
    same = first.with_condition("Issuing", "True", "RenewalDue", "b", generation=2, now=NOW + HOUR)
    found = same.condition("Issuing")
    assert found is not None
    assert (found.last_transition_time, found.reason, found.message, found.observed_generation) == (
        NOW,
        "RenewalDue",
        "b",
        2,
    )
    moved = same.with_condition("Issuing", "False", "Issued", "c", generation=2, now=NOW + HOUR).condition("Issuing")
    assert moved is not None
    assert moved.last_transition_time == NOW + HOUR


def test_ready_comes_first_and_other_peoples_conditions_stay() -> None:
    theirs = Condition(type="Audited", status="True", reason="Fine", message="ok", last_transition_time=NOW)
    status = Status(conditions=(theirs,)).with_condition("Issuing", "True", "FirstIssue", "a", generation=1, now=NOW)
    status = status.with_condition("Ready", "False", "FirstIssue", "a", generation=1, now=NOW)
    assert [condition.type for condition in status.conditions] == ["Ready", "Audited", "Issuing"]
    assert not status.ready
    assert ready().ready
    assert not Status().ready


def test_a_message_is_cut_to_the_limit_of_the_api() -> None:
    status = Status().with_condition("Ready", "False", "FirstIssue", "a" * 40_000, generation=1, now=NOW)
    assert len(status.conditions[0].message) == 32_768


# --- words ------------------------------------------------------------------------------------------------------------


def test_text_from_outside_becomes_one_printable_line() -> None:
    assert words.printable("12345", 5) == "12345"
    assert words.printable("two\nlines\t\x1b[31m\u202e") == "two lines \\x1b[31m\\u202e"
    assert words.printable("é漢") == "é漢"
    assert words.printable("a" * 1000) == "a" * 1000
    assert words.printable("a" * 1001) == "a" * 1000 + "…"
    assert words.printable("abc", 2) == "ab…"


def test_names_are_sorted_with_a_wildcard_after_its_domain_and_cut_after_a_few() -> None:
    assert words.names(["*.a.com", "b.com", "a.com"]) == "a.com, *.a.com, b.com"
    assert words.names([f"{letter}.com" for letter in "edcba"]) == "a.com, b.com, c.com, d.com, e.com"
    assert words.names([f"{letter}.com" for letter in "gfedcba"]) == "a.com, b.com, c.com, d.com, e.com and 2 more"
    assert words.names(["a\n" + "b" * 300]) == "a " + "b" * 251 + "…"
    assert words.names([]) == "no names"
    assert words.ids(["cert_1", "cert\n2"]) == "cert_1, cert 2"
    assert words.ids(["c" * 101]) == "c" * 100 + "…"


def test_a_message_names_the_next_attempt_once() -> None:
    first = words.with_next("It failed.", NOW)
    assert first == "It failed. Next attempt: 2026-01-01T12:00:00Z."
    assert words.with_next(first, NOW + SECOND) == "It failed. Next attempt: 2026-01-01T12:00:01Z."
    assert words.with_next(first, None) == "It failed."


def test_builders_are_what_they_say() -> None:
    assert isinstance(cert(), Certificate)
    assert isinstance(attempted(), Attempt)
    assert known().resource.key == KEY
