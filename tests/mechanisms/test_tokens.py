"""Tokens: what is taken for one, where they come from, and that they are never shown."""

import base64
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from pydantic import SecretStr

from support.clock import TestClock
from vercel_certificate_operator.core.resource import TokenSecretRef
from vercel_certificate_operator.kube import tokens as tokens_module
from vercel_certificate_operator.kube.errors import Unavailable
from vercel_certificate_operator.kube.tokens import DefaultToken, Token, TokenMissing, Tokens

TOKEN = "test-token-not-a-secret"
REF = TokenSecretRef(name="vercel")


# --- a token ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"  {TOKEN}\r\n", f"\t{TOKEN} "], ids=repr)
def test_white_space_around_a_token_is_not_part_of_it(text: str) -> None:
    assert Token.of(text, "a file").value.get_secret_value() == TOKEN


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n\t"], ids=repr)
def test_an_empty_token_is_none(text: str) -> None:
    with pytest.raises(TokenMissing, match=r"^a file is empty$"):
        Token.of(text, "a file")


@pytest.mark.parametrize(
    "text",
    [f"{TOKEN} x", f"{TOKEN}\nx", f"{TOKEN}\x00", f"{TOKEN}ü", f"\ufeff{TOKEN}", f"{TOKEN}\x7f", f"{TOKEN}\tx"],
    ids=ascii,
)
def test_what_can_not_be_a_token_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(TokenMissing) as refused:
        Token.of(text, "a file")
    assert str(refused.value) == "a file does not hold a token: it has characters that no token has"
    assert TOKEN not in "".join(traceback.format_exception(refused.value))


def test_a_token_is_not_shown() -> None:
    token = Token.of(TOKEN, "a file")
    assert TOKEN not in f"{token} {token!r}"
    assert TOKEN[-4:] not in token.fingerprint


def test_a_fingerprint_tells_tokens_apart() -> None:
    assert Token.of(TOKEN, "a file").fingerprint == Token.of(f"{TOKEN}\n", "a Secret").fingerprint
    assert Token.of(TOKEN, "a file").fingerprint != Token.of(TOKEN + "2", "a file").fingerprint


# --- the operator's own -----------------------------------------------------------------------------------------------


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("test-token-one\n")
    default = DefaultToken(file=file, value=SecretStr("test-token-of-the-environment"))
    assert default.read().value.get_secret_value() == "test-token-one", "and it wins"
    file.write_text("test-token-two")
    assert default.read().value.get_secret_value() == "test-token-two"


def test_without_a_file_the_value_is_used() -> None:
    assert DefaultToken(value=SecretStr(TOKEN)).read().value.get_secret_value() == TOKEN


def test_what_is_wrong_with_the_file_is_told_in_a_line(tmp_path: Path) -> None:
    missing, empty, binary = tmp_path / "missing", tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe" + TOKEN.encode())
    told = {}
    for file in (missing, empty, binary, tmp_path):
        with pytest.raises(TokenMissing) as refused:
            DefaultToken(file=file).read()
        told[file] = str(refused.value)
        assert TOKEN not in "".join(traceback.format_exception(refused.value))
    assert told[missing] == f"the token file {missing} can't be read: No such file or directory"
    assert told[empty] == f"the token file {empty} is empty"
    assert told[binary] == f"the token file {binary} can't be read: not text"
    assert told[tmp_path] == f"the token file {tmp_path} can't be read: Is a directory"


def test_an_empty_value_is_told() -> None:
    with pytest.raises(TokenMissing, match="VERCEL_TOKEN is empty"):
        DefaultToken(value=SecretStr("")).read()


def test_no_default_token_is_told_with_what_to_do() -> None:
    with pytest.raises(TokenMissing, match=r"spec\.tokenSecretRef is not set"):
        DefaultToken().read()


def test_only_listed_namespaces_may_use_the_default_token() -> None:
    limited = DefaultToken(value=SecretStr(TOKEN), namespaces=["web"])
    assert limited.read_for("web").value.get_secret_value() == TOKEN
    with pytest.raises(TokenMissing, match="namespace other may not use the operator's default token"):
        limited.read_for("other")


def test_an_asterisk_stands_for_all_namespaces() -> None:
    for namespaces in (["*"], ["web", "*"]):
        shared = DefaultToken(value=SecretStr(TOKEN), namespaces=namespaces)
        assert shared.read_for("any").value.get_secret_value() == TOKEN


def test_without_a_list_nobody_may_use_the_default_token() -> None:
    with pytest.raises(TokenMissing, match="namespace web may not use the operator's default token"):
        DefaultToken(value=SecretStr(TOKEN)).read_for("web")


def test_without_a_default_token_it_makes_no_difference_who_may_use_it() -> None:
    for namespaces in ([], ["web"], ["*"]):
        with pytest.raises(TokenMissing, match=r"spec\.tokenSecretRef is not set"):
            DefaultToken(namespaces=namespaces).read_for("web")


# --- Secrets ----------------------------------------------------------------------------------------------------------


class Secrets:
    """Stands in for the Kubernetes API: the Secrets of a cluster, and how often they were read."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, str], dict[str, str] | None] = {}
        self.status = 404
        self.reads = 0

    def put(self, text: str | bytes, *, key: str = "token") -> None:
        raw = text if isinstance(text, bytes) else text.encode()
        self.data["web", "vercel"] = {key: base64.b64encode(raw).decode()}

    async def read_namespaced_secret(self, name: str, namespace: str, **_: Any) -> object:
        self.reads += 1
        if (namespace, name) not in self.data:
            raise ApiException(status=self.status, reason="not there")
        return SimpleNamespace(data=self.data[namespace, name])


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    secrets = Secrets()
    monkeypatch.setattr(tokens_module, "CoreV1Api", lambda _: secrets)
    return secrets


@pytest.fixture
def tokens(secrets: Secrets, clock: TestClock) -> Tokens:
    default = DefaultToken(value=SecretStr("test-token-default"), namespaces=["*"])
    return Tokens(cast(ApiClient, None), default, clock)


async def value(tokens: Tokens, ref: TokenSecretRef | None = REF) -> str:
    return (await tokens.get("web", ref)).value.get_secret_value()


async def test_a_secret_is_read_without_the_newline_at_its_end(tokens: Tokens, secrets: Secrets) -> None:
    secrets.put(f"{TOKEN}\n")
    assert await value(tokens) == TOKEN


async def test_without_a_ref_the_default_token_is_used(tokens: Tokens, secrets: Secrets) -> None:
    assert await value(tokens, None) == "test-token-default"
    assert secrets.reads == 0


async def test_a_token_is_remembered_for_less_than_a_minute(tokens: Tokens, secrets: Secrets, clock: TestClock) -> None:
    secrets.put("test-token-one")
    assert await value(tokens) == "test-token-one"
    secrets.put("test-token-two")
    await clock.advance(30)
    assert await value(tokens) == "test-token-one"
    assert secrets.reads == 1
    await clock.advance(29)
    assert await value(tokens) == "test-token-two"


@pytest.mark.parametrize("other", [TokenSecretRef(name="other"), TokenSecretRef(name="vercel", key="other")])
async def test_secrets_and_keys_are_remembered_apart(tokens: Tokens, secrets: Secrets, other: TokenSecretRef) -> None:
    secrets.put(TOKEN)
    await value(tokens)
    with pytest.raises(TokenMissing):
        await value(tokens, other)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, "Secret web/vercel has no key token"),
        (None, "Secret web/vercel has no key token"),
        ({"other": "eA=="}, "Secret web/vercel has no key token"),
        ({"token": ""}, "key token of Secret web/vercel is empty"),
        ({"token": "Cg=="}, "key token of Secret web/vercel is empty"),
        ({"token": "/w=="}, "key token of Secret web/vercel is not text"),
        ({"token": "YSBi"}, "key token of Secret web/vercel does not hold a token"),
    ],
)
async def test_what_is_wrong_with_a_secret_is_told(
    tokens: Tokens, secrets: Secrets, data: dict[str, str] | None, told: str
) -> None:
    secrets.data["web", "vercel"] = data
    with pytest.raises(TokenMissing) as missing:
        await value(tokens)
    assert str(missing.value).startswith(told)


@pytest.mark.parametrize(("status", "told"), [(404, "does not exist"), (403, "may not"), (401, "may not")])
async def test_a_secret_that_can_not_be_had_is_told(tokens: Tokens, secrets: Secrets, status: int, told: str) -> None:
    secrets.status = status
    with pytest.raises(TokenMissing, match=told):
        await value(tokens)


async def test_an_api_server_that_can_not_answer_is_no_missing_token(tokens: Tokens, secrets: Secrets) -> None:
    secrets.status = 503
    with pytest.raises(Unavailable):
        await value(tokens)


async def test_a_missing_token_is_not_remembered(tokens: Tokens, secrets: Secrets) -> None:
    with pytest.raises(TokenMissing):
        await value(tokens)
    secrets.put(TOKEN)
    assert await value(tokens) == TOKEN


async def test_a_removed_secret_is_noticed_within_a_minute(tokens: Tokens, secrets: Secrets, clock: TestClock) -> None:
    secrets.put(TOKEN)
    await value(tokens)
    secrets.data.clear()
    await clock.advance(59)
    with pytest.raises(TokenMissing):
        await value(tokens)


@pytest.mark.parametrize("idle", [0, 30 * 86400], ids=["used just now", "not used for a month"])
async def test_the_last_good_token_does_for_a_removal_for_an_hour_after_its_secret_has_gone(
    tokens: Tokens, secrets: Secrets, clock: TestClock, idle: float
) -> None:
    """A namespace that goes takes its Secrets first."""
    secrets.put(TOKEN)
    await value(tokens)
    await clock.advance(idle)
    secrets.data.clear()
    await clock.advance(60)
    for _ in range(3):
        token = await tokens.get_for_removal("web", REF)
        assert token.value.get_secret_value() == TOKEN
        await clock.advance(1000)
    with pytest.raises(TokenMissing):
        await tokens.get("web", REF)
    await clock.advance(3600)
    with pytest.raises(TokenMissing):
        await tokens.get_for_removal("web", REF)


async def test_for_a_removal_a_new_token_is_preferred(tokens: Tokens, secrets: Secrets, clock: TestClock) -> None:
    secrets.put("test-token-one")
    await value(tokens)
    await clock.advance(60)
    secrets.put("test-token-two")
    assert (await tokens.get_for_removal("web", REF)).value.get_secret_value() == "test-token-two"


async def test_a_token_that_was_never_seen_does_for_nothing(tokens: Tokens) -> None:
    with pytest.raises(TokenMissing):
        await tokens.get_for_removal("web", REF)


def test_who_may_adopt() -> None:
    listed = Tokens(cast(ApiClient, None), DefaultToken(namespaces=["web"]), TestClock())
    assert listed.may_adopt("other", REF), "with a token of its own"
    assert listed.may_adopt("web", None), "listed"
    assert not listed.may_adopt("other", None)
    for namespaces in ([], ["*"]):
        shared = Tokens(cast(ApiClient, None), DefaultToken(namespaces=namespaces), TestClock())
        assert not shared.may_adopt("web", None), "that takes a namespace's name"
