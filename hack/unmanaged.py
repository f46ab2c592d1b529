"""List the certificates at Vercel that no VercelCertificate uses, or print VercelCertificates for them.

It needs only Python 3.11 or newer and kubectl. It changes nothing: it lists the certificates of a team or account, and
reads the VercelCertificates of all namespaces, with the current context of kubectl or with each ``--context``.
docs/existing-certificates.md says how to use it.
"""

import argparse
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

LONGEST_NAME = 253
PAGE = 100


class UnmanagedError(Exception):
    """Something can't be read. The message says what and why."""


@dataclass(frozen=True)
class Certificate:
    """A certificate at Vercel."""

    id: str
    names: tuple[str, ...]
    expires: datetime
    auto_renew: bool

    @classmethod
    def of(cls, answer: dict[str, Any]) -> "Certificate":
        expires = datetime.fromtimestamp(answer["expiresAt"] / 1000, UTC)
        return cls(answer["id"], tuple(sorted(answer["cns"])), expires, bool(answer.get("autoRenew")))


def certificates(url: str, token: str, scope: dict[str, str]) -> Iterator[Certificate]:
    """Yield all certificates of a team or account."""
    until: dict[str, str] = {}
    while True:
        query = urllib.parse.urlencode({"limit": str(PAGE), **scope, **until})
        page = _get(f"{url}/v8/certs?{query}", token)
        yield from map(Certificate.of, page["certs"])
        following = page.get("pagination", {}).get("next")
        if following is None or until == {"until": str(following)}:
            return
        until = {"until": str(following)}


def _get(url: str, token: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            content: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise UnmanagedError(f"Vercel answered {error.code}: {error.read(500).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise UnmanagedError(f"Vercel can't be reached, or its answer can't be read: {error}") from error
    return content


def managed(context: str | None) -> set[str]:
    """Return the ids of the certificates that the VercelCertificates of a cluster use, or have replaced."""
    command = [
        "kubectl",
        *([f"--context={context}"] if context else []),
        "get",
        "vercelcertificates",
        "-A",
        "-o",
        "json",
    ]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnmanagedError(f"kubectl can't be started: {error}") from error
    if completed.returncode:
        raise UnmanagedError(f"{' '.join(command)} failed: {completed.stderr.strip()}")
    found: set[str] = set()
    for item in json.loads(completed.stdout)["items"]:
        status = item.get("status", {})
        found |= {status.get("id"), *(old["id"] for old in status.get("superseded", []))}
    return found


def table(found: Iterable[Certificate]) -> str:
    """Return the certificates as a table: the first to expire comes first."""
    rows = [("ID", "EXPIRES", "AUTORENEW", "NAMES")]
    rows += [
        (one.id, one.expires.strftime("%Y-%m-%d"), "yes" if one.auto_renew else "no", ",".join(one.names))
        for one in sorted(found, key=lambda one: (one.expires, one.id))
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("   ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def manifests(found: Iterable[Certificate], now: datetime, metadata: dict[str, str], spec: dict[str, Any]) -> str:
    """Return a VercelCertificate for each set of names, as YAML. Expired certificates have none."""
    documents, used = [], set[str]()
    for names in sorted({one.names for one in found if one.expires > now}):
        name = _resource_name(names[-1] if names[0].startswith("*.") and len(names) > 1 else names[0], used)
        manifest = {
            "apiVersion": "vercel-operator.io/v1",
            "kind": "VercelCertificate",
            "metadata": {"name": name, **metadata},
            "spec": {"cns": list(names), **spec, "existingCertificate": "Adopt"},
        }
        documents.append("".join(_yaml(manifest)))
    return "---\n".join(documents)


def _resource_name(domain: str, used: set[str]) -> str:
    """Return a name that Kubernetes accepts, and that no other one has."""
    base = re.sub(r"[^a-z0-9-]+", "-", domain.replace("*.", "wildcard-")).strip("-")[: LONGEST_NAME - 4]
    name, number = base, 2
    while name in used:
        name, number = f"{base}-{number}", number + 1
    used.add(name)
    return name


def _yaml(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:\n"
            yield from _yaml(value, f"{indent}  ")
        else:
            plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value)
            yield f"{indent}{key}: {value if plain else json.dumps(value)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--token-file", type=Path, required=True, help="a file with a Vercel token")
    team = parser.add_mutually_exclusive_group()
    team.add_argument("--team-id", help="the team (default: the token's personal account)")
    team.add_argument("--team-slug", help="the team, by its slug")
    parser.add_argument("--context", action="append", help="a context of kubectl; repeatable, for several clusters")
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="only certificates that have a name like this one, such as '*.example.com'; repeatable",
    )
    parser.add_argument("--manifests", action="store_true", help="print VercelCertificates that adopt the certificates")
    parser.add_argument("--namespace", help="the namespace in the manifests")
    parser.add_argument("--token-secret", metavar="NAME", help="spec.tokenSecretRef in the manifests (default: none)")
    parser.add_argument("--api-url", default="https://api.vercel.com", help="the URL of Vercel's API")
    options = parser.parse_args(arguments)
    scope = {"teamId": options.team_id, "slug": options.team_slug}
    team_of = {"id": options.team_id, "slug": options.team_slug}
    try:
        token = options.token_file.read_text(encoding="utf-8").strip()
        used = set[str]().union(*map(managed, options.context or [None]))
        found = [
            one
            for one in certificates(options.api_url, token, {key: value for key, value in scope.items() if value})
            if one.id not in used and _wanted(one, options.only)
        ]
    except (UnmanagedError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if not options.manifests:
        print(table(found), end="")
        return 0
    spec: dict[str, Any] = {}
    if any(team_of.values()):
        spec["team"] = {key: value for key, value in team_of.items() if value}
    if options.token_secret:
        spec["tokenSecretRef"] = {"name": options.token_secret, "key": "token"}
    metadata = {"namespace": options.namespace} if options.namespace else {}
    print(manifests(found, datetime.now(UTC), metadata, spec), end="")
    return 0


def _wanted(one: Certificate, patterns: Sequence[str] | None) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for name in one.names for pattern in patterns)


if __name__ == "__main__":
    sys.exit(main())
