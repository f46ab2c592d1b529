"""Releases: the versions and the changelog, and what the release workflow asks of them.

``make release VERSION=0.2.0`` sets the version in all files, and turns the changelog's Unreleased into a dated section.
You review the difference, commit it, and push the tag, which starts the workflow.

It uses only the standard library, so the workflow needs no virtual environment.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG = Path("CHANGELOG.md")
CHART = Path("deploy/helm/vercel-certificate-operator")
UNRELEASED = "## [Unreleased]\n"
VERSION = r"\d+\.\d+\.\d+"
PLACES = {
    "operator/vercel_certificate_operator/_version.py": (f'__version__ = "({VERSION})"',),
    f"{CHART}/Chart.yaml": (f"^version: ({VERSION})$", f'^appVersion: "({VERSION})"$'),
    "deploy/argocd/applications/operator.yaml": (f"^    targetRevision: ({VERSION})$",),
}
"""Files that contain the version, and the expressions that find it; each matches at least once."""
IN_PROSE = (
    f"vercel[-_]certificate[-_]operator[- :]v?({VERSION})",
    f"\\bRelease ({VERSION})",
    f"--version[ =]({VERSION})",
    f"\\bVERSION=({VERSION})",
    f"\\bv({VERSION})\\b",
)
"""Expressions that find the version in the README, SECURITY.md and docs: an image's tag, a chart's version."""


class ReleaseError(Exception):
    """The repository isn't ready for this release. The message says why, and what to do."""


def places(root: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each file that may contain the version, with the expressions that find it."""
    yield from PLACES.items()
    for file in (*root.glob("*.md"), *root.glob("docs/**/*.md")):
        if file.name != CHANGELOG.name:
            yield str(file.relative_to(root)), IN_PROSE


def versions(root: Path = ROOT) -> dict[str, set[str]]:
    """Return the versions that each file contains."""
    found: dict[str, set[str]] = {}
    for name, expressions in places(root):
        text = (root / name).read_text(encoding="utf-8")
        for expression in expressions:
            matches = re.findall(expression, text, re.MULTILINE)
            if not matches and name in PLACES:
                raise ReleaseError(f"{name} has no line like {expression}")
            if matches:
                found.setdefault(name, set()).update(matches)
    return found


def current(root: Path = ROOT) -> str:
    """Return the version that all files contain.

    Raises:
        ReleaseError: The files have different versions.
    """
    found = versions(root)
    if len(set.union(*found.values())) != 1:
        raise ReleaseError(f"the versions differ: {found}")
    return found[next(iter(PLACES))].pop()


def notes(version: str, root: Path = ROOT) -> str:
    """Return the changelog's section about a version, without the heading.

    Raises:
        ReleaseError: There is none, or the files contain another version.
    """
    if current(root) != version:
        raise ReleaseError(f"the files say {current(root)}, not {version}: run 'make release VERSION={version}' first")
    sections = dict(_sections((root / CHANGELOG).read_text(encoding="utf-8")))
    if not sections.get(version):
        raise ReleaseError(f"{CHANGELOG} has no section for {version}: run 'make release VERSION={version}' first")
    return sections[version]


def prepare(version: str, day: date, root: Path = ROOT) -> None:
    """Set the version in all files, and turn the changelog's Unreleased into a section with the version and the date.

    Raises:
        ReleaseError: This is no version, an earlier or a released one, or there is nothing to release.
    """
    if not re.fullmatch(VERSION, version):
        raise ReleaseError(f"{version!r} is no version: write it as in 0.2.0")
    before = current(root)
    if _numbers(version) < _numbers(before):
        raise ReleaseError(f"{version} comes before {before}")
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    sections = dict(_sections(text))
    if version in sections:
        raise ReleaseError(f"{CHANGELOG} has {version} already")
    if not sections.get("Unreleased"):
        raise ReleaseError(f"there is nothing under Unreleased in {CHANGELOG}")
    heading = f"## [{version}] - {day.isoformat()}\n"
    (root / CHANGELOG).write_text(text.replace(UNRELEASED, f"{UNRELEASED}\n{heading}", 1), encoding="utf-8")
    for name, expressions in places(root):
        file = root / name
        text = before_it = file.read_text(encoding="utf-8")
        for expression in expressions:
            text = re.sub(expression, lambda found: _with(found, version), text, flags=re.MULTILINE)
        if text != before_it:
            file.write_text(text, encoding="utf-8")


def chart(image: str, owner: str, to: Path, root: Path = ROOT) -> None:
    """Copy the chart, with another default image, and with links to the repository that releases it.

    Args:
        image: The image that is released with the chart: ``repository@sha256:…``.
        owner: The owner of the repository on GitHub, for the links in ``Chart.yaml``.
        to: The folder for the copy. It must not exist yet.
        root: The repository.

    Raises:
        ReleaseError: The image has no digest, or the chart's values have no place for it.
    """
    repository, _, digest = image.partition("@")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ReleaseError(f"{image!r} has no digest: write it as in ghcr.io/owner/image@sha256:…")
    shutil.copytree(root / CHART, to)
    about = to / "Chart.yaml"
    about.write_text(about.read_text(encoding="utf-8").replace("/OWNER/", f"/{owner}/"), encoding="utf-8")
    file = to / "values.yaml"
    text = file.read_text(encoding="utf-8")
    for expression, value in (
        (r"(?m)^(image:\n(?:  .*\n)*?  repository: ).*$", repository),
        (r"(?m)^(image:\n(?:  .*\n)*?  digest: ).*$", digest),
    ):
        text, count = re.subn(expression, rf"\g<1>{value}", text)
        if count != 1:
            raise ReleaseError(f"{CHART}/values.yaml: {expression} matches {count} times")
    file.write_text(text, encoding="utf-8")


def _sections(changelog: str) -> Iterator[tuple[str, str]]:
    """Yield each section's name and text."""
    for part in re.split(r"(?m)^## \[", changelog)[1:]:
        heading, _, text = part.partition("\n")
        yield heading.partition("]")[0], text.strip()


def _with(found: re.Match[str], version: str) -> str:
    start, end = (place - found.start() for place in found.span(1))
    return f"{found[0][:start]}{version}{found[0][end:]}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _git(*args: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, check=True).stdout.strip()


def _prepared(version: str) -> str:
    """Run ``prepare`` in this repository, and return the next steps."""
    if _git("status", "--porcelain", "--untracked-files=no"):
        raise ReleaseError("there are changes that are not committed: commit them, or put them aside")
    if _git("tag", "--list", f"v{version}"):
        raise ReleaseError(f"the tag v{version} is there already")
    prepare(version, datetime.now(UTC).date())
    return (
        f"{_git('diff', '--stat')}\n\nRead it (git diff), then:\n"
        f'  git commit --all --message "Release {version}"\n'
        f'  git tag --sign v{version} --message "Release {version}"\n'
        f"  git push origin main v{version}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name, text in (("prepare", "set the version, date the changelog"), ("notes", "print the changelog's section")):
        commands.add_parser(name, help=text).add_argument("version", help="as in 0.2.0")
    chart_parser = commands.add_parser("chart", help="copy the chart, with an image by digest as its default")
    chart_parser.add_argument("--image", required=True, help="repository@sha256:…")
    chart_parser.add_argument("--owner", required=True, help="the owner of the repository on GitHub")
    chart_parser.add_argument("to", type=Path, help="a folder that is not there yet")
    options = parser.parse_args()
    try:
        if options.command == "prepare":
            print(_prepared(options.version))
        elif options.command == "notes":
            print(notes(options.version))
        else:
            chart(options.image, options.owner, options.to)
    except ReleaseError as error:
        print(f"release.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
