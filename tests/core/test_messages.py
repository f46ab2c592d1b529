"""The messages, one for each reason: what is wrong, what Vercel said, what to do, when the operator tries again."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from core.building import (
    DUE,
    EXPIRED,
    HOUR,
    MINUTE,
    NEW,
    NO_TOKEN,
    NOT_SENT,
    NOW,
    OTHER_TEAM,
    TEAM,
    TIMED_OUT,
    answered,
    attempted,
    cert,
    failing,
    gone,
    got,
    known,
    led_to,
    listed,
    message,
    ready,
    refusal,
    refused,
    replaced,
    tick,
)
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.failures import Call, Failure, Fate, Meaning, meaning
from vercel_certificate_operator.core.known import Known, Ownership, Pause
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import MOST_SUPERSEDED, Issuance, names_hash
from vercel_certificate_operator.core.resource import CertificateSecretRef, TokenSecretRef
from vercel_certificate_operator.core.rules.attempts import GO_ANYWAY
from vercel_certificate_operator.core.rules.failed_calls import pause_message
from vercel_certificate_operator.core.source import Source, SourceProblem

OWN = TokenSecretRef(name="vercel", key="token")
TOKEN = "token web/vercel/token"
REF = CertificateSecretRef(name="shop-tls")
LEAF = Source("a" * 64, frozenset({"example.com"}), NOW - 65 * timedelta(days=1), NOW + 25 * timedelta(days=1))
UPLOADED = replace(cert(created=LEAF.not_before), expires_at=LEAF.expires_at, auto_renew=False)
NO = "Vercel says no"
RENEW = "set the annotation vercel-operator.io/renew to a new value"
NOTHING = "No action is needed: the operator"
LIMIT = [Issuance(time=NOW - number * HOUR, names_hash=names_hash({"example.com"})) for number in range(5, 0, -1)]


@dataclass(frozen=True)
class Row:
    """A state, and the parts of its message. Each is one or several sentences."""

    facts: Known
    wrong: str
    said: str = ""
    advice: str = ""
    again: str = ""
    note: bool = False
    """Whether the message is an Event's. Otherwise it is that of the condition Issuing."""

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part for part in (self.wrong, self.said, self.advice, self.again) if part)

    @property
    def text(self) -> str:
        """What the operator writes."""
        _, decision = led_to(self.facts)
        if self.note or decision.status is None:
            decision = decide(self.facts)
            assert decision.note is not None
            return decision.note.text
        return message(decision, "Issuing")


def post(status: int, code: str) -> Known:
    """Vercel has refused to issue."""
    return known(token_secret_ref=OWN, **refused(refusal(status, code)))


def waits(call: Call, failure: Failure) -> Known:
    """A call has failed, and the operator waits."""
    return known(token_secret_ref=OWN, token_read=True, failed=failing(call, failure))


def removes(failure: Failure) -> Known:
    """A removal has failed, in a resource that is being deleted."""
    failed = failing("remove", failure)
    return known(token_secret_ref=OWN, deleting=True, status=ready(), token_read=True, failed=failed)


def searches(failure: Failure) -> Known:
    """The list that would show what came of an attempt fails."""
    open_attempt = refused(TIMED_OUT, at=NOW - 10 * MINUTE)
    return known(token_secret_ref=OWN, failed=failing("list", failure), **open_attempt)


NOT_ISSUED = "Vercel did not issue a certificate for example.com"
NOT_LISTED = "Can't list the certificates in team team_a for example.com"
AGAIN = "Next attempt: "

PROBLEMS: dict[str, Row] = {
    "InvalidRequest": Row(
        post(400, "invalid_cn"),
        f"{NOT_ISSUED}:",
        f"{NO} (invalid_cn, HTTP 400).",
        "Change spec.cns: Vercel doesn't issue a certificate for these names.",
        AGAIN,
    ),
    "CredentialsInvalid": Row(
        post(401, "unauthorized"),
        f"{NOT_ISSUED} with {TOKEN}:",
        f"{NO} (unauthorized, HTTP 401).",
        "Replace the token: it is revoked, expired or made for another team.",
        AGAIN,
    ),
    "PermissionDenied": Row(
        post(403, "forbidden"),
        f"{NOT_ISSUED} with {TOKEN}:",
        f"{NO} (forbidden, HTTP 403).",
        "Check that the token may manage certificates of this team and that the team owns the domain.",
        AGAIN,
    ),
    "PaymentRequired": Row(
        post(402, "payment_required"),
        f"{NOT_ISSUED} with {TOKEN}:",
        f"{NO} (payment_required, HTTP 402).",
        "Check the plan and the billing of the Vercel account.",
        AGAIN,
    ),
    "DomainNotFound": Row(
        post(404, "not_found"),
        f"{NOT_ISSUED} with {TOKEN}:",
        f"{NO} (not_found, HTTP 404).",
        "Add the domain to the Vercel team, or correct spec.cns. If the domain is in another team, create a resource "
        "with spec.team for that team.",
        AGAIN,
    ),
    "DomainNotConfigured": Row(
        post(449, "configuration_error"),
        f"{NOT_ISSUED}:",
        f"{NO} (configuration_error, HTTP 449).",
        "Check the DNS records of the domain (A, CNAME, CAA, TXT).",
        AGAIN,
    ),
    "RateLimited": Row(
        post(429, "rate_limited"),
        f"{NOT_ISSUED} with {TOKEN}:",
        f"{NO} (rate_limited, HTTP 429).",
        f"{NOTHING} waits as long as Vercel asks.",
        AGAIN,
    ),
    "RequestRefused": Row(
        removes(refusal(400, "bad_request")),
        f"Can't remove certificate cert_1 at Vercel with {TOKEN}:",
        f"{NO} (bad_request, HTTP 400).",
        f"Change the Vercel account or the token as Vercel's message says. {GO_ANYWAY}",
        AGAIN,
    ),
    "ListTooLong": Row(
        replace(
            waits("list", Failure(Fate.TOO_LONG, "the list is too long for this operator")),
            resource=known(token_secret_ref=OWN, status=ready(DUE)).resource,
        ),
        f"{NOT_LISTED} with {TOKEN}:",
        "the list is too long for this operator.",
        "Remove certificates that you don't need at Vercel, or move domains to another team.",
        AGAIN,
    ),
    "VercelUnavailable": Row(
        removes(refusal(500, "internal_server_error")),
        "Can't remove certificate cert_1 at Vercel:",
        f"{NO} (internal_server_error, HTTP 500).",
        f"No action is needed unless it persists; then see Vercel's status page. {GO_ANYWAY}",
        AGAIN,
    ),
    "VercelUnreachable": Row(
        waits("list", NOT_SENT),
        f"{NOT_LISTED}:",
        "connection refused.",
        "Check that the operator can reach the Vercel API (DNS, proxy, NetworkPolicy, --vercel-api-url).",
        AGAIN,
    ),
    "OutcomeUnknown": Row(
        known(**refused(TIMED_OUT), listing=listed()),
        "It is not known yet whether Vercel issued a certificate for example.com:",
        "no answer within 120 s.",
        f"{NOTHING} checks whether Vercel issued the certificate before it requests another one.",
        "If none appears by 2026-01-01T12:02:59Z, the operator requests another one.",
    ),
    "AttemptLost": Row(
        known(**refused(TIMED_OUT, attempted(start=NOW - HOUR), at=NOW - HOUR), listing=listed()),
        "No certificate for example.com has appeared at Vercel since the attempt at 2026-01-01T11:00:00Z, whose answer "
        "was lost.",
        advice=f"{NOTHING} requests the certificate again.",
        note=True,
    ),
    "NotRenewed": Row(
        known(status=ready(DUE), **answered(DUE, attempted(reason="RenewalDue"))),
        "Vercel answered a renewal for example.com with certificate cert_1, which is neither younger than the current "
        "one nor expires later.",
        advice=f"{NOTHING} tries again, and replaces the certificate once it has expired.",
        again=AGAIN,
    ),
    "UnexpectedAnswer": Row(
        known(**answered(replace(NEW, cns=frozenset({"other.example"})))),
        "Vercel answered with certificate cert_2 for other.example, which does not cover example.com.",
        advice="Change spec.cns, or ask Vercel's support; the operator tries again daily.",
        again=AGAIN,
    ),
    "Suspended": Row(
        known(suspend=True),
        "spec.suspend is true, so the operator changes nothing at Vercel for example.com.",
        advice="To continue, set spec.suspend to false.",
    ),
    "DuplicateOf": Row(
        known(ownership=Ownership("web/older")),
        "web/older owns the certificate for example.com in team team_a.",
        advice="Delete this resource, or change its spec.cns. To use this resource instead, set spec.deletionPolicy of "
        "web/older to Retain before you delete web/older: otherwise its certificate is removed at Vercel.",
        again="This resource takes over when web/older is gone.",
    ),
    "ScopeChanged": Row(
        known(status=ready(), scope=OTHER_TEAM),
        "Certificate cert_1 for example.com was issued in team team_a, but the operator's default is now team team_b. "
        "The operator does not renew the certificate.",
        advice="Restore the operator's default (--team-id, --team-slug). To move the names to another team after that, "
        "create a resource with spec.team for that team, and delete this one when the new one is Ready.",
    ),
    "ScopeVanished": Row(
        known(token_secret_ref=OWN, status=ready(), listing=listed(vanished=True)),
        "Certificate cert_1 for example.com and many others in team team_a are missing from Vercel's list with "
        f"{TOKEN}. The operator issues nothing until the cause is clear.",
        advice=f"Check that this is the right token. If the certificate is really gone, confirm it: {RENEW}, and the "
        "operator issues another one.",
        again="The operator lists again every 1h.",
    ),
    "IssuanceLimited": Row(
        known(status=ready(EXPIRED, issuances=tuple(LIMIT)), got=gone("cert_1"), listing=listed()),
        "This resource has requested 5 certificates since 2026-01-01T07:00:00Z, which is the limit "
        "(--issuance-limit). A certificate for example.com is needed, because the previous one is gone.",
        advice=f"Find out why so many are needed. To issue one now, {RENEW}.",
        again=AGAIN,
    ),
    "TooManySuperseded": Row(
        known(
            status=ready(DUE, superseded=replaced(*(f"cert_old{n}" for n in range(MOST_SUPERSEDED)), since=NOW)),
            got=got(DUE),
            listing=listed(DUE),
        ),
        f"{MOST_SUPERSEDED} replaced certificates could not be removed at Vercel, so the operator issues no "
        "certificate for example.com. Certificate cert_1 for example.com is due for renewal.",
        advice="Check the Events RemovalFailed for the cause, or remove the certificates in status.superseded "
        "yourself.",
        again="The operator continues when some of them are removed.",
    ),
    "ClockSkew": Row(
        known(status=ready(DUE), clock_skew=timedelta(days=40), listing=listed(DUE)),
        "Vercel's clock is 40d ahead of the Kubernetes API server's, so the operator does not renew the certificate "
        "for example.com. Certificate cert_1 for example.com is due for renewal.",
        advice="Check the clocks of the control plane nodes.",
        again="The operator checks again every 2m.",
    ),
    "SchemaOutdated": Row(
        known(schema_outdated=True),
        "The installed CustomResourceDefinition is older than the operator: the API server dropped fields of the "
        "operator's record. The operator issues no certificate for example.com.",
        advice="Apply the CustomResourceDefinition of the operator's version (deploy/crds).",
        again="The operator tries again every 10m.",
    ),
    "RecordUnreadable": Row(
        known(status=ready(unreadable=("attempt",))),
        "The operator can't read these fields of status: attempt. Another version of the operator, or another writer, "
        "wrote them. The operator issues and removes nothing for example.com.",
        advice="Correct or remove these fields.",
        again="The operator continues when it can read them.",
        note=True,
    ),
    "SourceInvalid": Row(
        known(certificate_secret_ref=REF, source=SourceProblem("Secret web/shop-tls does not exist")),
        "Secret web/shop-tls does not exist. Nothing was sent to Vercel for example.com.",
        advice="Correct the Secret.",
        again="The operator checks the Secret every 10m.",
    ),
    "SourceNotRenewed": Row(
        known(certificate_secret_ref=REF, source=LEAF, status=ready(UPLOADED, fingerprint=LEAF.fingerprint)),
        "Certificate cert_1 for example.com expires at 2026-01-26T12:00:00Z, and Secret web/shop-tls holds no "
        "newer one.",
        advice="Check what renews Secret web/shop-tls.",
        again="The operator uploads the new certificate when it is there.",
    ),
}
"""A row for each reason that something is needed and doesn't happen."""

MORE: dict[str, Row] = {
    "a wildcard": Row(
        post(400, "wildcard_not_allowed"),
        f"{NOT_ISSUED}:",
        f"{NO} (wildcard_not_allowed, HTTP 400).",
        "Let the domain use Vercel's name servers, or solve the DNS challenge by hand (vercel certs issue "
        "--challenge-only); the operator uses the certificate when it exists.",
        AGAIN,
    ),
    "a token that is missing": Row(
        waits("list", NO_TOKEN),
        f"{NOT_LISTED}:",
        "Secret web/vercel does not exist.",
        "The operator reads the token again within a minute.",
    ),
    "a token that is paused": Row(
        known(
            token_secret_ref=OWN,
            pauses={
                "list": Pause(
                    tick(NOW + MINUTE),
                    Reason.CREDENTIALS_INVALID,
                    pause_message(
                        TOKEN, "list", TEAM, refusal(401, "forbidden"), meaning(refusal(401, "forbidden"), "list")
                    ),
                )
            },
        ),
        f"{NOT_LISTED}: Vercel rejected {TOKEN}:",
        f"{NO} (forbidden, HTTP 401).",
        "Replace the token: it is revoked, expired or made for another team.",
        AGAIN,
    ),
    "a token of another account": Row(
        known(
            token_secret_ref=OWN,
            scope=replace(TEAM, team_id=None),
            status=ready(team=None, token_hash="t0", generation=0),
            token_read=True,
            token_hash="t1",
            listing=listed(),
        ),
        f"Vercel does not list certificate cert_1 for example.com with {TOKEN}, which was replaced and may belong to "
        "another account. The operator does not renew the certificate.",
        advice="Restore the token. Or name a certificate of this account with the annotation "
        "vercel-operator.io/adopt-id. Or set the annotation vercel-operator.io/renew to a new value to issue another "
        "certificate in this account.",
        again="The operator lists again every 1h.",
    ),
    "a removal, in a resource that is being deleted": Row(
        removes(refusal(403, "forbidden")),
        f"Can't remove certificate cert_1 at Vercel with {TOKEN}:",
        f"{NO} (forbidden, HTTP 403).",
        f"Check that the token may manage the certificates of this team. {GO_ANYWAY}",
        AGAIN,
    ),
    "a search without a list": Row(
        searches(refusal(500, "internal_server_error")),
        "It is not known whether Vercel issued a certificate for example.com, since its list can't be read:",
        f"{NO} (internal_server_error, HTTP 500).",
        "The operator requests no other one until it can list the certificates. If you know that Vercel issued none, "
        "set the annotation vercel-operator.io/renew to a new value. If you know that it issued one, set "
        "vercel-operator.io/adopt-id to its id.",
        "The operator lists them again at 2026-01-01T12:01:00Z.",
    ),
}
ROWS = PROBLEMS | MORE
NO_TIME = {"Suspended", "ScopeChanged", "AttemptLost", "a token that is missing"}
"""The first two end when a user acts; the third one is tried again at once, the last one each minute."""
NEEDS = {
    Reason.FIRST_ISSUE,
    Reason.NAMES_CHANGED,
    Reason.RENEWAL_DUE,
    Reason.RENEW_REQUESTED,
    Reason.EXPIRED,
    Reason.CERTIFICATE_GONE,
    Reason.SOURCE_CHANGED,
}
REPORTS = {
    Reason.ISSUED,
    Reason.RENEWED,
    Reason.REUSED,
    Reason.DELETED,
    Reason.RETAINED,
    Reason.ADOPTED,
    Reason.CHANGED,
    Reason.ADOPTION_REFUSED,
    Reason.DELETION_FAILED,
    Reason.REMOVAL_FAILED,
    Reason.ORPHANED,
}
"""Reasons of Events, which have tests of their own."""


def test_each_reason_why_nothing_is_issued_is_in_the_table() -> None:
    assert set(PROBLEMS) == {reason.value for reason in Reason} - NEEDS - REPORTS


@pytest.mark.parametrize("name", ROWS)
def test_a_message_says_what_is_wrong_then_what_vercel_said_then_what_to_do_then_when_it_is_tried_again(
    name: str,
) -> None:
    row = ROWS[name]
    *parts, last = row.parts
    text = row.text
    if last == AGAIN:
        text, found, time = text.rpartition(AGAIN)
        assert found
        assert time.startswith("20")
    else:
        parts.append(last)
    assert text.strip() == " ".join(parts)


@pytest.mark.parametrize("name", ROWS)
def test_a_message_has_the_names_or_the_certificate_at_its_beginning_and_what_to_do(name: str) -> None:
    row = ROWS[name]
    assert "example.com" in row.wrong or "certificate cert_1" in row.wrong
    assert row.advice
    assert row.again or name in NO_TIME


@pytest.mark.parametrize(
    "failure",
    [refusal(401), refusal(403), refusal(402), refusal(404), refusal(429), refusal(403, invalid_token=True)],
    ids=str,
)
def test_a_failure_that_may_depend_on_the_token_names_the_token(failure: Failure) -> None:
    row: Meaning = meaning(failure)
    assert row.names_token
    assert TOKEN in message(decide(known(token_secret_ref=OWN, **refused(failure))), "Issuing")
    assert "with the default token: " in message(decide(known(**refused(failure))), "Issuing")


def test_a_failure_that_has_nothing_to_do_with_the_token_does_not_name_it() -> None:
    for failure in (refusal(400), refusal(449), refusal(500), Failure(Fate.UNKNOWN, "reset")):
        assert "token" not in message(led_to(known(**refused(failure), listing=listed()))[1], "Issuing")


def test_no_message_advises_to_delete_a_certificate_before_there_is_another_one() -> None:
    """A deletion removes the certificate at Vercel, unless the resource has Retain."""
    changed, duplicate = PROBLEMS["ScopeChanged"].text, PROBLEMS["DuplicateOf"].text
    assert "delete this one when the new one is Ready" in changed
    assert duplicate.index("Retain") < duplicate.index("delete web/older")
    for text in (changed, duplicate):
        assert "create it again" not in text
        assert "one of the two" not in text
