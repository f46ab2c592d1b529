"""The Markdown files: links, commands, options, chart values and paths are those that exist.

Some pages are also typed as they are, in tests/end_to_end; manifests are applied in tests/crd.
"""

import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import tools
from control_plane import binaries
from vercel_certificate_operator.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy" / "helm").glob("*/*.md")]


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number = 1
        while (anchor := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(anchor)
    return found


def links(page: Path) -> list[str]:
    """Return the links to files of the repository, and to headings."""
    found = re.findall(r"\]\(\s*<?([^)\s>]+)>?\s*\)", prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def test_there_are_pages_with_links() -> None:
    assert {"README.md", "reasons.md", "runbooks.md"} <= {page.name for page in PAGES}
    assert all(links(ROOT / "docs" / name) for name in ("argocd.md", "how-it-works.md", "runbooks.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


# --- commands, options, values and paths ------------------------------------------------------------------------------

CHART = ROOT / "deploy" / "helm" / "vercel-certificate-operator"
OTHER_PROGRAMS = {
    *("--replicas", "--from-file", "--previous", "--context", "--force-conflicts"),  # kubectl
    *("--take-ownership", "--wait", "--atomic", "--set"),  # helm
    *("--prune", "--resource"),  # argocd
    "--format",  # podman
    "--strict",  # mypy
    "--token-secret",  # hack/unmanaged.py
}
"""Options in the text that belong to other programs."""


def code(page: Path) -> list[str]:
    """Return the code in the text of a page, without the blocks."""
    return re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(page))


def blocks(page: Path, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def commands(page: Path) -> str:
    """Return what a reader would type: the blocks of commands, and the lines with a prompt."""
    prompts = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    return "\n".join([*blocks(page, "sh"), *prompts])


def options() -> set[str]:
    """Return the options of all commands of the operator."""
    found = {"--help", "--version"}
    for command in main.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                found |= {*parameter.opts, *parameter.secondary_opts}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_bash_understands_each_command(page: Path) -> None:
    for block in blocks(page, "sh"):
        done = subprocess.run(["bash", "-n", "-c", block], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_target_of_make_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = re.findall(r"^make ([a-z][a-z-]*)", "\n".join([*code(page), commands(page)]), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_option_exists(page: Path) -> None:
    named = {found for text in code(page) for found in re.findall(r"^--[a-z][a-z-]+", text)}
    named |= set(
        re.findall(r"--[a-z][a-z-]+", " ".join(re.findall(r"vercel-certificate-operator run(.*)", commands(page))))
    )
    assert named <= options() | OTHER_PROGRAMS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_value_of_the_chart_exists(page: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"^([a-zA-Z]+\.[a-zA-Z.]+)(?:=.*|: .*)?$", "\n".join(code(page)), re.MULTILINE)
    named += re.findall(r"--set '?([a-zA-Z.]+)=", commands(page))
    for path in named:
        found: Any = values
        if path.split(".")[0] not in values or path.endswith((".yaml", ".md", ".py", ".json", ".txt", ".cast")):
            continue
        for key in path.split("."):
            assert key in found, f"{path} is no value of the chart"
            found = found[key]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_path_exists(page: Path) -> None:
    text = "\n".join([*code(page), commands(page)])
    folders = "benchmarks|deploy|docs|examples|hack|operator|requirements|tests"
    text = text.replace("hack/generate-actions-list.sh", "")  # Argo CD's
    for path in re.findall(rf"(?<![\w/.~-])((?:{folders})/[\w./*-]*)", text):
        assert list(ROOT.glob(path.rstrip("./"))), path


def test_the_tested_versions_are_those_that_are_used() -> None:
    page = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w ]+) \| (.*) \|$", page, re.MULTILINE))
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text(encoding="utf-8"))["jobs"]
    others = ci["kubernetes"]["strategy"]["matrix"]["kubernetes"]
    assert f"{others[0]} to {others[-1]}" in rows["Kubernetes"]
    newest = re.match(r"v(1\.\d+)\.", binaries.kubernetes_version())
    assert newest
    assert f" {newest[1]}: all tests" in rows["Kubernetes"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'`kubeVersion: "{chart["kubeVersion"]}"`' in page
    for tool in (tools.HELM, tools.HELM_4):
        assert ".".join(tool.version.removeprefix("v").split(".")[:2]) in rows["Helm"]
    assert " and ".join(ci["test"]["strategy"]["matrix"]["python"]) in rows["Python"]
