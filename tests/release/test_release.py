"""``make release``, on a copy of the repository, and what the release workflow asks of it."""

import re
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml

import release
from support.helm import KUBE_VERSION, Helm
from vercel_certificate_operator import __version__

DAY = date(2026, 11, 26)
DIGEST = f"sha256:{'a1' * 32}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a release reads and writes."""
    copy = tmp_path / "copy"
    for name in ("deploy", "docs", "operator"):
        shutil.copytree(release.ROOT / name, copy / name)
    for file in release.ROOT.glob("*.md"):
        shutil.copy(file, copy)
    return copy


def next_version() -> str:
    major, minor, _ = release.current().split(".")
    return f"{major}.{int(minor) + 1}.0"


def changelog(root: Path) -> str:
    return (root / release.CHANGELOG).read_text(encoding="utf-8")


def add_unreleased(root: Path) -> None:
    file = root / release.CHANGELOG
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(release.UNRELEASED, f"{release.UNRELEASED}\n- Something new.\n", 1), encoding="utf-8")


def test_all_versions_agree() -> None:
    assert release.current() == __version__


def test_the_version_is_nowhere_that_a_release_would_not_find() -> None:
    seen = dict(release.places(release.ROOT))
    files = [*release.ROOT.glob("*.md"), *release.ROOT.glob("docs/**/*.md"), *release.ROOT.glob("deploy/**/*.*")]
    for file in files:
        if file.name == release.CHANGELOG.name or not file.is_file():
            continue
        text, name = file.read_text(encoding="utf-8"), str(file.relative_to(release.ROOT))
        known = {m.start(1) for expression in seen.get(name, ()) for m in re.finditer(expression, text, re.MULTILINE)}
        there = {m.start() for m in re.finditer(rf"(?<![\w.]){re.escape(__version__)}(?![\w.])", text)}
        assert there <= known, f"{name}: see PLACES in hack/release.py"


def test_the_version_is_set_everywhere_and_the_changelog_has_a_dated_section(root: Path) -> None:
    version = next_version()
    add_unreleased(root)
    before = changelog(root)
    release.prepare(version, DAY, root)
    assert release.current(root) == version
    heading = f"## [Unreleased]\n\n## [{version}] - 2026-11-26\n"
    assert changelog(root) == before.replace("## [Unreleased]\n", heading, 1)
    assert release.notes(version, root).startswith("- Something new.")


def test_a_release_changes_nothing_but_versions_and_the_changelog(root: Path) -> None:
    old, version = release.current(), next_version()
    add_unreleased(root)
    files = [file for file in root.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    before = {file: file.read_bytes() for file in files}
    release.prepare(version, DAY, root)
    changed = {file for file in files if file.read_bytes() != before[file]}
    assert root / "operator/vercel_certificate_operator/_version.py" in changed
    for file in changed - {root / release.CHANGELOG}:
        assert file.read_bytes() == before[file].replace(old.encode(), version.encode()), file


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v0.2.0", "is no version"),
        ("0.2", "is no version"),
        ("VERSION", "is no version"),
        ("0.0.1", "comes before"),
    ],
)
def test_what_is_no_next_version_is_refused(root: Path, version: str, said: str) -> None:
    add_unreleased(root)
    with pytest.raises(release.ReleaseError, match=said):
        release.prepare(version, DAY, root)


def test_the_same_version_is_not_released_twice(root: Path) -> None:
    version = next_version()
    add_unreleased(root)
    release.prepare(version, DAY, root)
    add_unreleased(root)
    with pytest.raises(release.ReleaseError, match=f"has {re.escape(version)} already"):
        release.prepare(version, DAY, root)


def test_nothing_is_released_without_a_line_in_the_changelog(root: Path) -> None:
    add_unreleased(root)
    release.prepare(next_version(), DAY, root)
    with pytest.raises(release.ReleaseError, match="nothing under Unreleased"):
        release.prepare("999.0.0", DAY, root)


def test_a_tag_that_is_not_what_the_files_say_makes_no_release(root: Path) -> None:
    add_unreleased(root)
    release.prepare(next_version(), DAY, root)
    with pytest.raises(release.ReleaseError, match=r"run 'make release VERSION=999\.0\.0' first"):
        release.notes("999.0.0", root)


def test_versions_that_differ_are_reported(root: Path) -> None:
    chart = root / release.CHART / "Chart.yaml"
    chart.write_text(chart.read_text().replace(f"version: {__version__}", "version: 9.9.9", 1))
    with pytest.raises(release.ReleaseError, match=r"differ.*Chart.yaml.*9\.9\.9"):
        release.current(root)


def test_the_released_chart_has_the_released_image_by_its_digest(helm: Helm, tmp_path: Path) -> None:
    release.chart(f"ghcr.io/somebody/vercel-certificate-operator@{DIGEST}", "Somebody", tmp_path / "chart")
    helm("package", tmp_path / "chart", "--destination", tmp_path)
    package = tmp_path / f"vercel-certificate-operator-{__version__}.tgz"
    rendered = yaml.safe_load_all(helm("template", "vco", package, KUBE_VERSION))
    [deployment] = [found for found in rendered if found and found["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ghcr.io/somebody/vercel-certificate-operator@{DIGEST}"
    about = helm("show", "chart", package)
    assert "https://github.com/Somebody/vercel-certificate-operator" in about
    assert "OWNER" not in about.replace("# The release workflow replaces OWNER.", "")


@pytest.mark.parametrize("image", ["ghcr.io/somebody/image:0.1.0", "ghcr.io/somebody/image@", f"image@{DIGEST}x"])
def test_a_chart_without_a_digest_is_not_made(tmp_path: Path, image: str) -> None:
    with pytest.raises(release.ReleaseError, match="has no digest"):
        release.chart(image, "Somebody", tmp_path / "chart")
