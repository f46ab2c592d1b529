"""docs/emulator.md: it names everything, and its commands work."""

import re
import shlex
from pathlib import Path

import httpx
import pytest
from pydantic.alias_generators import to_camel

from vercel_emulator import Emulator
from vercel_emulator.models import (
    Behaviour,
    CertificateChange,
    DomainSetup,
    Fault,
    Injection,
    Model,
    RateLimit,
    Renewal,
    TokenGrant,
)

TEXT = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
SPANS = [span.replace(r"\|", "|") for span in re.findall("`([^`]+)`", re.sub("```.*?```", "", TEXT, flags=re.DOTALL))]
COMMANDS = [span for span in SPANS if span.startswith(("control ", "vercel ")) and "$E" in span and "…" not in span]


@pytest.mark.parametrize(
    "model",
    [Behaviour, CertificateChange, DomainSetup, Fault, Injection, RateLimit, Renewal, TokenGrant],
    ids=lambda model: model.__name__,
)
def test_every_field_is_documented(model: type[Model]) -> None:
    names = [field.alias or to_camel(name) for name, field in model.model_fields.items()]

    words = set(re.findall("[A-Za-z0-9]+", " ".join(SPANS)))

    assert [name for name in names if name not in words] == []


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (Behaviour, "renewal"),
        (Behaviour, "reissue"),
        (Behaviour, "until"),
        (Behaviour, "list_order"),
        (Behaviour, "upload_created_at"),
        (Fault, "action"),
        (Fault, "call"),
    ],
)
def test_every_value_is_documented(model: type[Model], field: str) -> None:
    values = re.findall("'([a-z0-9-]+)'", str(model.model_fields[field].annotation))

    assert values
    assert [value for value in values if value not in SPANS] == []


async def test_every_control_call_is_documented(vercel: httpx.AsyncClient) -> None:
    paths = (await vercel.get("/_emulator/")).json()

    text = " ".join(SPANS)

    for path in paths:
        pattern = re.sub(r"\\{[a-z]+\\}", "[^/ ]+", re.escape(path))
        assert re.search(rf"\$E{pattern}(?![a-z/-])", text), path


async def test_its_commands_work_in_this_order(vercel: httpx.AsyncClient) -> None:
    token = "test-token-not-a-secret"
    async with Emulator(tokens=(token,), teams={"team_a1": "alpha"}) as emulator:
        for command in COMMANDS:
            cert_id = emulator.state.all()[0].id if emulator.state.all() else ""
            words = shlex.split(command.replace("$E", emulator.url).replace("$ID", cert_id))
            program, url, method, body = words[0], "", "GET", None
            options = iter(words[1:])
            for word in options:
                match word:
                    case "-X":
                        method = next(options)
                    case "-d":
                        body = next(options)
                    case _:
                        url = word.replace("timeout=10", "timeout=0")
            if body is not None and method == "GET":
                method = "POST"
            headers = {"Authorization": f"Bearer {token}"} if program == "vercel" else {}

            response = await vercel.request(method, url, content=body, headers=headers)

            expected = {408} if "/wait?" in url and "faults" in url else {200, 204}
            assert response.status_code in expected, (command, response.text)
    assert len(COMMANDS) > 60
