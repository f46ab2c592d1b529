"""GitHub's workflows, as far as they can be tested without GitHub."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import container_image

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def jobs(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = load(file)["jobs"]
    return found


def test_actionlint_has_nothing_to_say(actionlint: Path) -> None:
    """It has the scripts read by shellcheck too."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    assert shellcheck.exists()
    done = subprocess.run(
        [actionlint, "-no-color", "-shellcheck", shellcheck, "-pyflakes", "", *WORKFLOWS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_action_is_pinned_by_a_commit_and_names_its_version(file: Path) -> None:
    uses = re.findall(r"uses: (.*)", file.read_text(encoding="utf-8"))
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", use) or use.startswith("./"), use


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_job_has_its_own_rights_and_a_time_limit(file: Path) -> None:
    assert load(file)["permissions"] == {}
    for name, job in jobs(file).items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job or "uses" in job, name


def test_one_action_has_one_version() -> None:
    pins: dict[str, set[str]] = {}
    for file in WORKFLOWS:
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.*)", file.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


def test_nothing_is_published_before_everything_is_tested() -> None:
    [release] = [file for file in WORKFLOWS if file.stem == "release"]
    found = jobs(release)

    def before(name: str) -> set[str]:
        needs = found[name].get("needs", [])
        return {*needs, *(earlier for need in needs for earlier in before(need))}

    publishing = [name for name, job in found.items() if "write" in job["permissions"].values()]
    assert set(publishing) == {"build", "image", "chart", "pypi", "release"}
    assert all({"check", "ci"} <= before(name) for name in publishing)
    assert before("release") == set(found) - {"release"}


def test_the_base_of_the_image_is_found_in_the_dockerfile() -> None:
    sed = re.search(r"base=\$\((sed .*? Dockerfile)\)", (ROOT / ".github/workflows/release.yaml").read_text())
    assert sed is not None
    assert shutil.which("bash")
    done = subprocess.run(["bash", "-c", sed[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"docker\.io/library/python:[\w.-]+\n", done.stdout)
    assert done.stdout.strip() == container_image.default_base()


def test_the_images_that_actions_pull_are_pinned_by_digest() -> None:
    [release] = [file for file in WORKFLOWS if file.stem == "release"]
    uses = {
        step["uses"].partition("@")[0]: step.get("with", {})
        for job in jobs(release).values()
        for step in job.get("steps", [])
        if "uses" in step
    }
    assert "docker/setup-qemu-action" not in uses, "it pulls an emulator; each platform has a runner of its own"
    for options in (uses["docker/setup-buildx-action"]["driver-opts"], uses["docker/build-push-action"]["sbom"]):
        assert re.fullmatch(r"(image|generator)=[\w/.:-]+@sha256:[0-9a-f]{64}", options), options


def test_dependabot_watches_all_that_is_pinned() -> None:
    updates = {
        each["package-ecosystem"]: each["directory"] for each in load(ROOT / ".github/dependabot.yaml")["updates"]
    }
    assert updates == {"github-actions": "/", "pip": "/requirements", "docker": "/"}
    assert list((ROOT / "requirements").glob("*.txt"))
    assert re.search(r"^FROM [\w./-]+:[\w.-]+( AS .*)?$", (ROOT / "Dockerfile").read_text(), re.MULTILINE), (
        "not in an ARG"
    )
