"""Which names a certificate can have.

The error codes are those that Vercel's clients know. If several codes fit, the emulator uses the most specific one.
"""

import re
from collections.abc import Iterable

from vercel_emulator.errors import ApiError

MAX_NAMES = 100
_MAX_NAME_LENGTH = 253
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# A registrable domain is the last two labels, or three under one of these suffixes. The real list (publicsuffix.org)
# has thousands. These few are enough to catch a client that always takes the last two labels.
TWO_LABEL_SUFFIXES = frozenset(
    {"co.uk", "org.uk", "com.au", "com.br", "co.jp", "co.nz", "co.in", "co.kr", "co.za", "com.cn", "com.mx", "com.tr"}
)


def check_names(cns: Iterable[str]) -> list[str]:
    """Check the names of a certificate.

    Args:
        cns: The names as the client sent them.

    Returns:
        The names in lower case, without duplicates, in the order given.

    Raises:
        ApiError: 400, because there are no names or too many, a name is malformed or a public suffix, or the names
            have different root domains.
    """
    names = list(dict.fromkeys(name.lower() for name in cns))
    if not names:
        raise ApiError(400, "bad_domains", "At least one domain is needed in `cns`.")
    if len(names) > MAX_NAMES:
        raise ApiError(400, "bad_domains", f"A certificate can have {MAX_NAMES} names at most, not {len(names)}.")
    for name in names:
        _check_name(name)
    roots = {root_domain(name) for name in names}
    if len(roots) > 1:
        some = ", ".join(sorted(roots)[:5])
        raise ApiError(
            400, "should_share_root_domain", f"All names of a certificate must share one root domain, not {some}."
        )
    return names


def root_domain(name: str) -> str:
    """Return the registrable domain of a well-formed name: ``example.co.uk`` for ``*.shop.example.co.uk``."""
    labels = name.removeprefix("*.").split(".")
    return ".".join(labels[-3 if ".".join(labels[-2:]) in TWO_LABEL_SUFFIXES else -2 :])


def _check_name(name: str) -> None:
    shown = ascii(name if len(name) <= _MAX_NAME_LENGTH else name[:60] + "...")
    labels = name.removeprefix("*.").split(".")
    if "*" in name.removeprefix("*."):
        raise ApiError(400, "invalid_cn", f"{shown}: a wildcard can only be the whole first label.")
    well_formed = len(name) <= _MAX_NAME_LENGTH and all(_LABEL.fullmatch(label) for label in labels)
    if not well_formed or len(labels) < 2 or labels[-1].isdigit():
        raise ApiError(400, "invalid_cn", f"{shown} is not a valid domain name.")
    if ".".join(labels) in TWO_LABEL_SUFFIXES:
        raise ApiError(400, "invalid_domain", f"{shown} is a public suffix; nobody can have a certificate for it.")
