"""What each failure means: data, in one table, rather than code.

The code in Vercel's answer beats the status. Only an error in Vercel's own shape says that nothing was issued; after
everything else that was sent, a certificate may exist.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from types import MappingProxyType

from vercel_certificate_operator.core.reasons import Reason

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Fate(Enum):
    """What is known of a request that failed."""

    NOT_SENT = "not sent"
    REFUSED = "refused by Vercel, in its own words: nothing was issued"
    UNKNOWN = "sent, and its outcome unknown"
    NO_TOKEN = "there is no token to send it with"  # noqa: S105 - not a token


@dataclass(frozen=True, slots=True)
class Failure:
    """A request to Vercel that failed, as the edge saw it."""

    fate: Fate
    message: str
    status: int | None = None
    code: str | None = None
    retry_after: timedelta | None = None
    """How long Vercel wants to be left alone."""
    help_url: str | None = None
    """Where Vercel says more."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A row of the table."""

    reason: Reason
    first: timedelta
    """The wait after the first failure in a row."""
    cap: timedelta
    """Waits double up to this."""
    advice: str
    """The next step for the user, as a sentence."""
    fate: Fate = Fate.REFUSED
    whole_token: bool = False
    """Whether everything that uses the token has to wait."""


INVALID_REQUEST = Meaning(
    Reason.INVALID_REQUEST, 32 * HOUR, 32 * HOUR, "Change spec.cns: Vercel won't issue a certificate for these names."
)
CREDENTIALS_INVALID = Meaning(
    Reason.CREDENTIALS_INVALID,
    MINUTE,
    HOUR,
    "Check the token: it may be revoked, expired, or made for another team.",
    whole_token=True,
)
REFUSED_OTHERWISE = Meaning(
    Reason.INVALID_REQUEST, HOUR, 32 * HOUR, "See what Vercel says, and change spec or the Vercel account accordingly."
)
PAYMENT_REQUIRED = Meaning(
    Reason.PAYMENT_REQUIRED, HOUR, 32 * HOUR, "Check the plan and the billing of the Vercel account."
)
PERMISSION_DENIED = Meaning(
    Reason.PERMISSION_DENIED,
    HOUR,
    32 * HOUR,
    "Check that the token may manage certificates of this team, and that the team owns the domain.",
)
DOMAIN_NOT_FOUND = Meaning(
    Reason.DOMAIN_NOT_FOUND, HOUR, 32 * HOUR, "Add the domain to the Vercel team, or correct spec.cns or spec.team."
)
RATE_LIMITED = Meaning(
    Reason.RATE_LIMITED,
    MINUTE,
    HOUR,
    "Nothing to do: Vercel limits how often it is asked, and the operator waits.",
    whole_token=True,
)
RATE_LIMITED_ALONE = Meaning(
    Reason.RATE_LIMITED,
    MINUTE,
    HOUR,
    "Nothing to do: Vercel limits how often these names are asked for, and the operator waits.",
)
DOMAIN_NOT_CONFIGURED = Meaning(
    Reason.DOMAIN_NOT_CONFIGURED, MINUTE, HOUR, "Check the DNS records of the domain (A, CNAME, CAA, TXT)."
)
OUTCOME_UNKNOWN = Meaning(
    Reason.OUTCOME_UNKNOWN,
    5 * SECOND,
    5 * MINUTE,
    "Nothing to do: the operator looks whether Vercel issued the certificate before it asks again.",
    fate=Fate.UNKNOWN,
)
VERCEL_UNREACHABLE = Meaning(
    Reason.VERCEL_UNREACHABLE,
    2 * SECOND,
    5 * MINUTE,
    "Check that the operator can reach the Vercel API (DNS, proxy, NetworkPolicy, --vercel-api-url).",
    fate=Fate.NOT_SENT,
)
TOKEN_MISSING = Meaning(
    Reason.CREDENTIALS_INVALID, 5 * SECOND, MINUTE, "It is looked for again within a minute.", fate=Fate.NO_TOKEN
)
LOST = Meaning(
    Reason.ATTEMPT_LOST,
    10 * MINUTE,
    32 * HOUR,
    "Nothing to do: the certificate is asked for again.",
)
NOT_RENEWED = Meaning(
    Reason.NOT_RENEWED,
    HOUR,
    32 * HOUR,
    "Nothing to do yet: Vercel is asked again, and once the certificate has expired it is replaced.",
)

RETRIED = "Nothing to do, unless it lasts: the operator tries again. Vercel's status page may tell more."

BY_CODE: Mapping[str, Meaning] = MappingProxyType(
    {
        "bad_domains": INVALID_REQUEST,
        "common_name_domain_name_mismatch": INVALID_REQUEST,
        "invalid_cn": INVALID_REQUEST,
        "invalid_domain": INVALID_REQUEST,
        "should_share_root_domain": INVALID_REQUEST,
        "unsupported_challenge_priority": INVALID_REQUEST,
        "wildcard_not_allowed": INVALID_REQUEST,
        "unauthorized_request_error": CREDENTIALS_INVALID,
        "domain_not_verified": PERMISSION_DENIED,
        "forbidden": PERMISSION_DENIED,
        "rate_limited": RATE_LIMITED_ALONE,
        "too_many_requests": RATE_LIMITED_ALONE,
        "challenge_error": DOMAIN_NOT_CONFIGURED,
        "configuration_error": DOMAIN_NOT_CONFIGURED,
        "conflicting_caa_record": DOMAIN_NOT_CONFIGURED,
        "dns_error": DOMAIN_NOT_CONFIGURED,
        "txt_record_not_found": DOMAIN_NOT_CONFIGURED,
        "challenge_still_pending": OUTCOME_UNKNOWN,
        "validation_running": OUTCOME_UNKNOWN,
    }
)
"""Source of the codes: the vocabulary of Vercel's certificate calls, as its official command line knows it."""

BY_STATUS: Mapping[int, Meaning] = MappingProxyType(
    {
        400: INVALID_REQUEST,
        401: CREDENTIALS_INVALID,
        402: PAYMENT_REQUIRED,
        403: PERMISSION_DENIED,
        404: DOMAIN_NOT_FOUND,
        409: OUTCOME_UNKNOWN,
        410: DOMAIN_NOT_FOUND,
        422: INVALID_REQUEST,
        449: DOMAIN_NOT_CONFIGURED,
    }
)


def meaning(failure: Failure) -> Meaning:
    """The row of the table for a failure.

    Order: what is known of the request itself; 429 by its status, since it concerns the token whatever the code
    says; the code; the status; then any other 4xx as a refusal, and all else as an unknown outcome.
    """
    if failure.fate is Fate.NOT_SENT:
        return VERCEL_UNREACHABLE
    if failure.fate is Fate.NO_TOKEN:
        return TOKEN_MISSING
    if failure.status == 429:
        return RATE_LIMITED
    if failure.fate is Fate.UNKNOWN:
        return OUTCOME_UNKNOWN
    if failure.code is not None and failure.code in BY_CODE:
        return BY_CODE[failure.code]
    status = failure.status or 0
    if status in BY_STATUS:
        return BY_STATUS[status]
    return REFUSED_OTHERWISE if 400 <= status < 500 else OUTCOME_UNKNOWN


def issued_nothing(failure: Failure) -> bool:
    """Whether it is sure that a failed POST has issued nothing."""
    if failure.fate is Fate.REFUSED:
        return meaning(failure).fate is not Fate.UNKNOWN
    return failure.fate is not Fate.UNKNOWN


def meaning_of_a_repeatable_call(failure: Failure) -> Meaning:
    """The row for a GET or a DELETE: one of unknown outcome does no harm, and is simply made again."""
    row = meaning(failure)
    return replace(row, reason=Reason.VERCEL_UNAVAILABLE, advice=RETRIED) if row is OUTCOME_UNKNOWN else row


def fraction(*seed: str) -> float:
    """A number in [0, 1) that is the same for the same seed: jitter that needs no memory."""
    digest = hashlib.sha256("\0".join(seed).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def back_off(row: Meaning, failures: int, seed: str) -> timedelta:
    """How long to wait after so many failures in a row (1: the first): doubling, capped, plus up to a tenth."""
    doublings = min(max(failures, 1) - 1, 20)  # enough to reach any cap, and few enough not to overflow
    wait: timedelta = min(row.first * 2**doublings, row.cap)
    return wait * (1 + fraction(seed, str(failures)) / 10)


def wait_after(row: Meaning, failure: Failure, failures: int, seed: str) -> timedelta:
    """How long to wait after a failure: the back-off, and no less than Vercel says. How often it may be asked, Vercel
    knows best: there its word stands alone, but for the jitter."""
    if failure.retry_after is None:
        return back_off(row, failures, seed)
    if row.reason == Reason.RATE_LIMITED:
        return max(failure.retry_after, SECOND) * (1 + fraction(seed, str(failures)) / 10)
    return max(back_off(row, failures, seed), failure.retry_after)


def explain(what: str, failure: Failure, row: Meaning) -> str:
    """A failure in plain words: what was tried, what Vercel said (message, code, status), what to do."""
    said = failure.message.strip().rstrip(".") or "no reason given"
    facts = ", ".join(fact for fact in (failure.code, f"HTTP {failure.status}" if failure.status else None) if fact)
    more = f" See <{failure.help_url}>." if failure.help_url else ""
    return f"{what}: {said} ({facts}). {row.advice}{more}" if facts else f"{what}: {said}. {row.advice}{more}"
