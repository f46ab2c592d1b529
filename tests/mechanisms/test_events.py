"""The Event object for a note."""

import asyncio
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from vercel_certificate_operator.core.known import Note
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.kube.events import Events, event, event_name

KEY = Key("web", "example-com", "uid-1")
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"


def made(text: str = "All is well.", *, now: datetime = NOW) -> dict[str, Any]:
    note = Note("Normal", Reason.ISSUED, "Issue", text)
    return event(KEY, note, now, name="example-com.1234", instance="pod-1")


def test_an_event_is_about_its_resource() -> None:
    assert made() == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "example-com.1234", "namespace": "web"},
        "eventTime": "2026-01-01T12:00:00.123456Z",
        "reportingController": "vercel-operator.io/vercel-certificate-operator",
        "reportingInstance": "pod-1",
        "type": "Normal",
        "reason": "Issued",
        "action": "Issue",
        "note": "All is well.",
        "regarding": {
            "apiVersion": "vercel-operator.io/v1",
            "kind": "VercelCertificate",
            "namespace": "web",
            "name": "example-com",
            "uid": "uid-1",
        },
    }


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (NOW.replace(microsecond=0), "2026-01-01T12:00:00.000000Z"),
        (NOW.astimezone(timezone(timedelta(hours=2))), "2026-01-01T12:00:00.123456Z"),
    ],
)
def test_its_time_has_microseconds_and_is_in_utc(now: datetime, text: str) -> None:
    assert made(now=now)["eventTime"] == text


@pytest.mark.parametrize(
    "text", ["x" * 5000, "ü" * 2000, "x" + "ü" * 2000, "xx" + "ü" * 2000, "€" * 2000, "𝄞" * 2000, "x𝄞" * 500]
)
def test_a_long_note_is_cut_between_characters(text: str) -> None:
    note = made(text)["note"]
    assert note.endswith("…")
    assert 1016 <= len(note.encode()) <= 1024
    assert text.startswith(note[:-1])


@pytest.mark.parametrize("text", ["x" * 1024, "ü" * 512])
def test_a_note_that_fits_is_not_cut(text: str) -> None:
    assert made(text)["note"] == text


def test_each_name_is_new() -> None:
    assert len({event_name(KEY) for _ in range(100)}) == 100
    assert event_name(KEY).startswith("example-com.")


@pytest.mark.parametrize(
    "name",
    ["a", "a" * 253, ("a" * 235 + "-" + "b" * 17), ("a" * 235 + "." + "b" * 17), ("a" * 230 + "-.-.-.--" + "b" * 15)],
    ids=lambda name: f"{len(name)} characters",
)
def test_the_name_is_one_that_kubernetes_takes(name: str) -> None:
    made_of = event_name(KEY._replace(name=name))
    assert len(made_of) <= 253
    assert re.fullmatch(SUBDOMAIN, made_of)


async def test_what_is_not_written_in_time_is_dropped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def hang(*_: object) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with ApiClient(Configuration(host="http://api-server.invalid")) as client:
        events = Events(client, instance="pod-1")
        monkeypatch.setattr(events, "_say", hang)
        events.publish(KEY, Note("Normal", Reason.ISSUED, "Issue", "All is well."), NOW)
        await began.wait()
        await events.aclose(0)
    assert ended.is_set()
