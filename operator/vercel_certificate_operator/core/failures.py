"""What each failure means: data in a table, not code.

The code in Vercel's answer takes precedence over the status. Only an error in Vercel's own format proves that nothing
was issued; after everything else that was sent, a certificate may exist.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.reasons import Reason

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

LONGEST_RETRY_AFTER = DAY
"""The longest wait that Vercel can ask for; see ``vercel.times``."""
LONGEST_REST = 5 * MINUTE
"""The longest time for which a scope isn't listed because its lists fail, unless Vercel asks for more."""
SLACK = 11 / 10
"""Waits are up to a tenth longer than their row says."""

Call = Literal["issue", "upload", "get", "list", "remove", "config"]
"""The kinds of requests to Vercel."""
POSTS: frozenset[Call] = frozenset({"issue", "upload"})
"""The calls that make a certificate. None of them can simply be repeated."""


class Fate(Enum):
    """What is known about a request that failed."""

    NOT_SENT = "not sent"
    REFUSED = "refused by Vercel in its own format: nothing was done"
    UNKNOWN = "sent, and its outcome is unknown"
    TOO_LONG = "a list that is longer than the operator reads"
    NO_TOKEN = "there is no token to send it with"  # noqa: S105 - not a token


class Pauses(Enum):
    """What else must wait after a failure."""

    NOTHING = "only this resource waits"
    CALL = "this kind of call, with this token"
    TOKEN_IN_TEAM = "everything with this token in this team"  # noqa: S105 - not a token
    TOKEN = "everything with this token"  # noqa: S105 - not a token


@dataclass(frozen=True, slots=True)
class Failure:
    """A request to Vercel that failed, as the edge saw it."""

    fate: Fate
    message: str
    status: int | None = None
    code: str | None = None
    retry_after: timedelta | None = None
    """How long Vercel asks to wait."""
    help_url: str | None = None
    """Where Vercel says more."""
    cns: tuple[str, ...] = ()
    """The names that the error blames."""
    external: bool | None = None
    """Whether the DNS of these names is not at Vercel."""
    invalid_token: bool = False
    """Whether Vercel says that the token itself is invalid."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A row of the table."""

    reason: Reason
    first: timedelta
    """The wait after the first failure in a row."""
    cap: timedelta
    """Waits double up to this."""
    advice: str
    """What the user can do, in sentences."""
    pauses: Pauses = Pauses.NOTHING
    unknown: bool = False
    """Whether the request may have been carried out."""
    names_token: bool = False
    """Whether the failure may depend on the token, so that the message names it."""


INVALID_REQUEST = Meaning(
    Reason.INVALID_REQUEST, 32 * HOUR, 32 * HOUR, "Change spec.cns: Vercel doesn't issue a certificate for these names."
)
WILDCARD_NOT_ALLOWED = Meaning(
    Reason.INVALID_REQUEST,
    32 * HOUR,
    32 * HOUR,
    "Let the domain use Vercel's name servers, or solve the DNS challenge by hand (vercel certs issue "
    "--challenge-only); the operator uses the certificate when it exists.",
)
REFUSED_OTHERWISE = Meaning(
    Reason.INVALID_REQUEST,
    HOUR,
    32 * HOUR,
    "Change spec or the Vercel account as Vercel's message says.",
    names_token=True,
)
CREDENTIALS_INVALID = Meaning(
    Reason.CREDENTIALS_INVALID,
    MINUTE,
    HOUR,
    "Replace the token: it is revoked, expired or made for another team.",
    pauses=Pauses.TOKEN,
    names_token=True,
)
CREDENTIALS_INVALID_HERE = Meaning(
    Reason.CREDENTIALS_INVALID,
    MINUTE,
    HOUR,
    "Replace the token with one that may manage the certificates of this team.",
    pauses=Pauses.TOKEN_IN_TEAM,
    names_token=True,
)
PAYMENT_REQUIRED = Meaning(
    Reason.PAYMENT_REQUIRED, HOUR, 32 * HOUR, "Check the plan and the billing of the Vercel account.", names_token=True
)
PERMISSION_DENIED = Meaning(
    Reason.PERMISSION_DENIED,
    HOUR,
    32 * HOUR,
    "Check that the token may manage certificates of this team and that the team owns the domain.",
    names_token=True,
)
DOMAIN_NOT_FOUND = Meaning(
    Reason.DOMAIN_NOT_FOUND,
    HOUR,
    32 * HOUR,
    "Add the domain to the Vercel team, or correct spec.cns. If the domain is in another team, create a resource with "
    "spec.team for that team.",
    names_token=True,
)
RATE_LIMITED = Meaning(
    Reason.RATE_LIMITED,
    MINUTE,
    HOUR,
    "No action is needed: the operator waits as long as Vercel asks.",
    pauses=Pauses.CALL,
    names_token=True,
)
RATE_LIMITED_NAMES = Meaning(
    Reason.RATE_LIMITED,
    HOUR,
    32 * HOUR,
    "No action is needed: the issuer limits certificates for the same set of names, and the operator waits.",
)
DOMAIN_NOT_CONFIGURED = Meaning(
    Reason.DOMAIN_NOT_CONFIGURED,
    MINUTE,
    HOUR,
    "Check the DNS records of the domain (A, CNAME, CAA, TXT).",
)
OUTCOME_UNKNOWN = Meaning(
    Reason.OUTCOME_UNKNOWN,
    5 * SECOND,
    5 * MINUTE,
    "No action is needed: the operator checks whether Vercel issued the certificate before it requests another one.",
    unknown=True,
)
VERCEL_UNREACHABLE = Meaning(
    Reason.VERCEL_UNREACHABLE,
    2 * SECOND,
    5 * MINUTE,
    "Check that the operator can reach the Vercel API (DNS, proxy, NetworkPolicy, --vercel-api-url).",
)
TOKEN_MISSING = Meaning(
    Reason.CREDENTIALS_INVALID, 5 * SECOND, MINUTE, "The operator reads the token again within a minute."
)
LOST = Meaning(
    Reason.ATTEMPT_LOST, 10 * MINUTE, 32 * HOUR, "No action is needed: the operator requests the certificate again."
)
NOT_RENEWED = Meaning(
    Reason.NOT_RENEWED,
    HOUR,
    32 * HOUR,
    "No action is needed: the operator tries again, and replaces the certificate once it has expired.",
)
UNEXPECTED = Meaning(
    Reason.UNEXPECTED_ANSWER, DAY, DAY, "Change spec.cns, or ask Vercel's support; the operator tries again daily."
)
UPLOAD_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        Reason.INVALID_REQUEST: "Correct the Secret as Vercel's message says.",
        Reason.OUTCOME_UNKNOWN: (
            "No action is needed: the operator checks whether the certificate is at Vercel before it uploads it again."
        ),
        Reason.ATTEMPT_LOST: "No action is needed: the operator uploads the certificate again.",
        Reason.UNEXPECTED_ANSWER: "Ask Vercel's support; the operator tries again daily.",
    }
)
"""What the user can do about a certificate of their own, by reason, where that is something else."""
# Calls that can be repeated: a GET, a list or a removal.
VERCEL_UNAVAILABLE = Meaning(
    Reason.VERCEL_UNAVAILABLE,
    5 * SECOND,
    5 * MINUTE,
    "No action is needed unless it persists; then see Vercel's status page.",
    unknown=True,
)
CALL_REFUSED = Meaning(
    Reason.REQUEST_REFUSED,
    5 * MINUTE,
    HOUR,
    "Change the Vercel account or the token as Vercel's message says.",
    names_token=True,
)
CALL_DENIED = Meaning(
    Reason.PERMISSION_DENIED,
    5 * MINUTE,
    HOUR,
    "Check that the token may manage the certificates of this team.",
    names_token=True,
)
CALL_UNPAID = Meaning(
    Reason.PAYMENT_REQUIRED, 5 * MINUTE, HOUR, "Check the plan and the billing of the Vercel account.", names_token=True
)
LIST_TOO_LONG = Meaning(
    Reason.LIST_TOO_LONG,
    5 * MINUTE,
    HOUR,
    "Remove certificates that you don't need at Vercel, or move domains to another team.",
    names_token=True,
)

BY_CODE: Mapping[str, Meaning] = MappingProxyType(
    {
        "bad_domains": INVALID_REQUEST,
        "common_name_domain_name_mismatch": INVALID_REQUEST,
        "invalid_cn": INVALID_REQUEST,
        "invalid_domain": INVALID_REQUEST,
        "should_share_root_domain": INVALID_REQUEST,
        "unsupported_challenge_priority": INVALID_REQUEST,
        "wildcard_not_allowed": WILDCARD_NOT_ALLOWED,
        "unauthorized_request_error": CREDENTIALS_INVALID,
        "domain_not_verified": PERMISSION_DENIED,
        "forbidden": PERMISSION_DENIED,
        "rate_limited": RATE_LIMITED_NAMES,
        "too_many_requests": RATE_LIMITED_NAMES,
        "challenge_error": DOMAIN_NOT_CONFIGURED,
        "configuration_error": DOMAIN_NOT_CONFIGURED,
        "conflicting_caa_record": DOMAIN_NOT_CONFIGURED,
        "dns_error": DOMAIN_NOT_CONFIGURED,
        "txt_record_not_found": DOMAIN_NOT_CONFIGURED,
        "challenge_still_pending": OUTCOME_UNKNOWN,
        "validation_running": OUTCOME_UNKNOWN,
    }
)
"""What a refused POST means, by code. Source: the vocabulary of the certificate calls in Vercel's command line."""

BY_STATUS: Mapping[int, Meaning] = MappingProxyType(
    {
        400: INVALID_REQUEST,
        401: CREDENTIALS_INVALID,
        402: PAYMENT_REQUIRED,
        403: PERMISSION_DENIED,
        404: DOMAIN_NOT_FOUND,
        408: OUTCOME_UNKNOWN,
        409: OUTCOME_UNKNOWN,
        410: DOMAIN_NOT_FOUND,
        422: INVALID_REQUEST,
        449: DOMAIN_NOT_CONFIGURED,
    }
)
"""What a refused POST means, by HTTP status."""

OTHER_CALLS: Mapping[int, Meaning] = MappingProxyType({401: CREDENTIALS_INVALID, 402: CALL_UNPAID, 403: CALL_DENIED})
"""What a refused GET, list or DELETE means, by HTTP status."""

MADE_IMPOSSIBLE = frozenset({Reason.CREDENTIALS_INVALID, Reason.RATE_LIMITED, Reason.VERCEL_UNREACHABLE})
"""Reasons that say nothing about what was requested."""

EXACT_SET = ("exact set of domains", "exact set of identifiers")
"""How the issuer's limit for one set of names reads. Source: Let's Encrypt's documentation of its rate limits."""


def meaning(failure: Failure, call: Call = "issue") -> Meaning:
    """Returns the row of the table for a failed call.

    In this order: what is known about the request itself; 429 by its status, whatever its code; what Vercel says about
    the token; then, for a POST, the code and the status; for other calls, the status.
    """
    return of_call(_meaning(failure, call), call)


def _meaning(failure: Failure, call: Call) -> Meaning:
    if failure.fate is Fate.NOT_SENT:
        return VERCEL_UNREACHABLE
    if failure.fate is Fate.NO_TOKEN:
        return TOKEN_MISSING
    if failure.fate is Fate.TOO_LONG:
        return LIST_TOO_LONG
    if failure.status == 429:
        exact = call == "issue" and any(words in failure.message.lower() for words in EXACT_SET)
        return RATE_LIMITED_NAMES if exact else RATE_LIMITED
    if failure.fate is Fate.UNKNOWN:
        return OUTCOME_UNKNOWN if call in POSTS else VERCEL_UNAVAILABLE
    if failure.invalid_token:
        return CREDENTIALS_INVALID
    return _refused_post(failure) if call in POSTS else _refused_call(failure, call)


def of_call(row: Meaning, call: Call) -> Meaning:
    """Returns a row of the table with the advice for this kind of call."""
    return replace(row, advice=UPLOAD_ADVICE.get(row.reason, row.advice)) if call == "upload" else row


def _refused_post(failure: Failure) -> Meaning:
    if failure.code is not None and failure.code in BY_CODE:
        return BY_CODE[failure.code]
    status = failure.status
    if status is not None and status in BY_STATUS:
        return BY_STATUS[status]
    return REFUSED_OTHERWISE if _is_refusal(status) else OUTCOME_UNKNOWN


def _refused_call(failure: Failure, call: Call) -> Meaning:
    status = failure.status
    if call == "list" and status == 403:
        return CREDENTIALS_INVALID_HERE
    if status is not None and status in OTHER_CALLS:
        return OTHER_CALLS[status]
    return CALL_REFUSED if _is_refusal(status) and status != 409 else VERCEL_UNAVAILABLE


def _is_refusal(status: int | None) -> bool:
    return status is not None and 400 <= status < 500


def is_about_the_call(failure: Failure, call: Call) -> bool:
    """Returns whether the call itself failed, and not the token, the network or a limit that made it impossible."""
    return meaning(failure, call).reason not in MADE_IMPOSSIBLE


def issued_nothing(failure: Failure) -> bool:
    """Returns whether it is certain that a failed POST issued nothing."""
    if failure.fate is Fate.REFUSED:
        return not meaning(failure).unknown
    return failure.fate is not Fate.UNKNOWN


@lru_cache(maxsize=1024)  # a decision asks for that of its resource many times
def fraction(*seed: str) -> float:
    """Returns a number in [0, 1) that is the same for the same seed: jitter that needs no memory."""
    digest = hashlib.sha256("\0".join(seed).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def back_off(row: Meaning, failures: int, seed: str) -> timedelta:
    """Returns how long to wait after so many failures in a row (1: the first): doubling, capped, plus up to a tenth."""
    return _doubled(row, failures) * (1 + fraction(seed, str(failures)) / 10)


def _doubled(row: Meaning, failures: int) -> timedelta:
    doublings = min(max(failures, 1) - 1, 20)  # enough to reach any cap, and few enough not to overflow
    wait: timedelta = min(row.first * 2**doublings, row.cap)
    return wait


def rest_of_lists(row: Meaning, failure: Failure, failures: int) -> timedelta:
    """Returns how long a scope isn't listed after so many lists in a row failed, whoever needs one.

    No longer than any resource waits after as many failures: one that is alone starts each list itself. And somebody
    new, whose first list it is, waits for some minutes at most.
    """
    return max(min(_doubled(row, failures), LONGEST_REST), failure.retry_after or timedelta())


def wait_after(row: Meaning, failure: Failure, failures: int, seed: str) -> timedelta:
    """Returns how long to wait after a failure: the back-off, and no less than Vercel asks.

    Vercel knows best how often it may be asked: for a rate limit, its word alone counts, plus the jitter.
    """
    if failure.retry_after is None:
        return back_off(row, failures, seed)
    if row.reason == Reason.RATE_LIMITED:
        return max(failure.retry_after, SECOND) * (1 + fraction(seed, str(failures)) / 10)
    return max(back_off(row, failures, seed), failure.retry_after)


def explain(what: str, failure: Failure, row: Meaning, token: str) -> str:
    """Returns a failure in plain words: what failed, what Vercel said (message, code, status), what to do.

    Args:
        what: what failed, with the names concerned. No full stop.
        token: the token's name. The message has it if the failure may depend on the token.
    """
    what = f"{what} with {token}" if row.names_token else what
    said = words.printable(failure.message).strip().rstrip(".") or "no reason was given"
    facts = [
        words.printable(fact) for fact in (failure.code, f"HTTP {failure.status}" if failure.status else "") if fact
    ]
    unnamed = [name for name in failure.cns if name not in said]
    blamed = f" for {words.names(unnamed)}" if unnamed else ""
    more = f" See <{failure.help_url}>." if failure.help_url else ""
    details = f" ({', '.join(facts)})" if facts else ""
    return f"{what}: {said}{blamed}{details}. {row.advice}{more}"


def _longest_waits() -> Mapping[str, timedelta]:
    # REFUSED_OTHERWISE, RATE_LIMITED and TOKEN_MISSING have reasons that the tables have too, with waits as long.
    rows = (*BY_CODE.values(), *BY_STATUS.values(), VERCEL_UNREACHABLE, LOST, NOT_RENEWED, UNEXPECTED)
    longest: dict[str, timedelta] = {}
    for row in rows:
        longest[row.reason] = max(longest.get(row.reason, timedelta()), max(row.cap, LONGEST_RETRY_AFTER) * SLACK)
    return MappingProxyType(longest)


LONGEST_WAITS = _longest_waits()
"""The longest wait of each reason. A recorded time that is further ahead was written while a clock was wrong."""
