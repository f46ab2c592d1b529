"""docs/reasons.md says what the code says: the reasons, the waits, the advice and the messages."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

import argocd_cm
from vercel_certificate_operator.core import failures
from vercel_certificate_operator.core.failures import Meaning
from vercel_certificate_operator.core.reasons import Reason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
ROWS = {name: row for name, row in vars(failures).items() if isinstance(row, Meaning)}
SEARCHED = {"OUTCOME_UNKNOWN"}
"""Not a wait between two attempts: the page describes the search."""


def one_line(text: str) -> str:
    return " ".join(text.split())


SECTIONS = {
    heading: one_line(text)
    for heading, text in re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE + "\n##", re.MULTILINE | re.DOTALL)
}


def span(wait: timedelta) -> str:
    """Return a wait as the page writes it."""
    for unit, size in (("h", timedelta(hours=1)), ("min", timedelta(minutes=1)), ("s", timedelta(seconds=1))):
        if wait >= size:
            return f"{wait / size:g} {unit}"
    raise AssertionError(wait)


def alike(message: str) -> str:
    """Return a message without what differs between two runs."""
    message = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", one_line(message))
    return re.sub(r"cert_[A-Za-z0-9]+", "cert_ID", message)


def recorded() -> set[str]:
    """Return the messages that the operator wrote in the states for Argo CD."""
    bodies = [yaml.safe_load(path.read_text()) for path in (argocd_cm.CUSTOMIZATION / "testdata").glob("*.yaml")]
    return {
        alike(condition["message"]) for body in bodies for condition in body.get("status", {}).get("conditions", ())
    }


def test_each_reason_has_a_section_and_each_section_a_reason() -> None:
    assert sorted(SECTIONS) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("name", ROWS)
def test_a_section_has_the_advice_and_the_waits_of_the_table(name: str) -> None:
    row = ROWS[name]
    section = SECTIONS[row.reason]
    assert one_line(row.advice) in section
    if name in SEARCHED or row.first >= timedelta(days=1) == row.cap:
        return
    wait = f"after {span(row.first)}" if row.first == row.cap else f"after {span(row.first)}, up to {span(row.cap)}"
    assert wait in section


def test_the_messages_on_the_page_are_those_of_the_operator() -> None:
    shown = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(shown) > 5
    assert {alike(message) for message in shown} - recorded() == set()


def test_every_link_to_a_section_of_the_page_exists() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]
    anchors = {heading.lower() for heading in SECTIONS} | {
        heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    }
    for page in pages:
        used = re.findall(r"reasons\.md#([\w-]+)", page.read_text(encoding="utf-8"))
        assert set(used) <= anchors, page.name
