"""Tokens: what is taken for one, where they come from, and that they are never shown."""

import asyncio
import base64
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from support.clock import TestClock, settle
from vercel_certificate_operator.core.resource import Key, TokenSecretRef
from vercel_certificate_operator.kube.errors import Denied, Gone, KubeError, Unavailable
from vercel_certificate_operator.kube.secrets import Secrets
from vercel_certificate_operator.kube.tokens import (
    MOST_READ,
    READ_SHARED,
    REMEMBERED,
    DefaultToken,
    Token,
    TokenMissing,
    Tokens,
)

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


def test_what_is_wrong_with_the_file_is_reported_in_one_line(tmp_path: Path) -> None:
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


def test_an_empty_value_is_reported() -> None:
    with pytest.raises(TokenMissing, match="VERCEL_TOKEN is empty"):
        DefaultToken(value=SecretStr("")).read()


def test_no_default_token_is_reported_with_what_to_do() -> None:
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


class SecretsInMemory(Secrets):
    """The Secrets of a cluster, and how often they were read."""

    def __init__(self) -> None:
        self.data: dict[tuple[str, str], dict[str, str]] = {}
        self.kind = "Opaque"
        self.labels: dict[str, str] = {}
        self.error: KubeError = Gone("there is no such Secret")
        """What is raised for a Secret that can't be read."""
        self.reads = 0

    def put(self, text: str | bytes, *, key: str = "token") -> None:
        raw = text if isinstance(text, bytes) else text.encode()
        self.data["web", "vercel"] = {key: base64.b64encode(raw).decode()}

    async def get(self, namespace: str, name: str) -> Mapping[str, Any]:
        self.reads += 1
        if (namespace, name) not in self.data:
            raise self.error
        return {"metadata": {"labels": self.labels}, "type": self.kind, "data": self.data[namespace, name]}


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def secrets() -> SecretsInMemory:
    return SecretsInMemory()


@pytest.fixture
def tokens(secrets: SecretsInMemory, clock: TestClock) -> Tokens:
    default = DefaultToken(value=SecretStr("test-token-default"), namespaces=["*"])
    return Tokens(secrets, default, clock)


async def value(tokens: Tokens, ref: TokenSecretRef | None = REF) -> str:
    return (await tokens.get("web", ref)).value.get_secret_value()


async def test_a_secret_is_read_without_the_newline_at_its_end(tokens: Tokens, secrets: SecretsInMemory) -> None:
    secrets.put(f"{TOKEN}\n")
    assert await value(tokens) == TOKEN


async def test_without_a_ref_the_default_token_is_used(tokens: Tokens, secrets: SecretsInMemory) -> None:
    assert await value(tokens, None) == "test-token-default"
    assert secrets.reads == 0


async def test_a_token_is_remembered_for_less_than_a_minute(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock
) -> None:
    secrets.put("test-token-one")
    assert await value(tokens) == "test-token-one"
    secrets.put("test-token-two")
    await clock.advance(30)
    assert await value(tokens) == "test-token-one"
    assert secrets.reads == 1
    await clock.advance(29)
    assert await value(tokens) == "test-token-two"


async def test_a_token_whose_read_took_longer_than_it_is_remembered_is_used_once(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server answered after a minute. Nothing else is remembered."""
    secrets.put("test-token-one")
    read = secrets.get

    async def late(namespace: str, name: str) -> Mapping[str, Any]:
        await clock.advance(60)
        return await read(namespace, name)

    monkeypatch.setattr(secrets, "get", late)
    assert await value(tokens) == "test-token-one"
    assert await value(tokens) == "test-token-one"
    assert secrets.reads == 2


@pytest.mark.parametrize("other", [TokenSecretRef(name="other"), TokenSecretRef(name="vercel", key="other")])
async def test_secrets_and_keys_are_remembered_apart(
    tokens: Tokens, secrets: SecretsInMemory, other: TokenSecretRef
) -> None:
    secrets.put(TOKEN)
    await value(tokens)
    with pytest.raises(TokenMissing):
        await value(tokens, other)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({}, "Secret web/vercel has no key token"),
        ({"other": "eA=="}, "Secret web/vercel has no key token"),
        ({"token": ""}, "key token of Secret web/vercel is empty"),
        ({"token": "Cg=="}, "key token of Secret web/vercel is empty"),
        ({"token": "/w=="}, "key token of Secret web/vercel is not text"),
        ({"token": "YSBi"}, "key token of Secret web/vercel does not hold a token"),
    ],
)
async def test_what_is_wrong_with_a_secret_is_reported(
    tokens: Tokens, secrets: SecretsInMemory, data: dict[str, str], told: str
) -> None:
    secrets.data["web", "vercel"] = data
    with pytest.raises(TokenMissing) as missing:
        await value(tokens)
    assert str(missing.value).startswith(told)


PASSWORDS = ["hunter2", "correct horse", "P@ssw0rd-of-a-database", '{"user": "app"}', "eyJhbGciOi.eyJzdWIi.c2lnbmF0"]


@pytest.mark.parametrize("text", [*PASSWORDS, "-----BEGIN_KEY-----MIIB/", "postgres://app:secret@db/shop", "a" * 513])
async def test_what_does_not_look_like_a_token_is_not_used(tokens: Tokens, secrets: SecretsInMemory, text: str) -> None:
    secrets.put(text)
    with pytest.raises(TokenMissing) as missing:
        await value(tokens)
    assert "does not" in str(missing.value)
    assert text not in str(missing.value)


@pytest.mark.parametrize(
    "kind",
    ["kubernetes.io/service-account-token", "kubernetes.io/basic-auth", "helm.sh/release.v1", "kubernetes.io/tls"],
)
async def test_a_secret_of_another_purpose_is_not_used(tokens: Tokens, secrets: SecretsInMemory, kind: str) -> None:
    secrets.put(TOKEN)
    secrets.kind = kind
    with pytest.raises(TokenMissing, match="does not look like a Vercel token"):
        await value(tokens)


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("vercel-operator.io/token", {}), ("Opaque", {"vercel-operator.io/token": "true"})],
)
async def test_a_secret_can_say_that_it_holds_a_token(
    tokens: Tokens, secrets: SecretsInMemory, kind: str, labels: dict[str, str]
) -> None:
    secrets.put("t.o/k+e=n")
    secrets.kind, secrets.labels = kind, labels
    assert await value(tokens) == "t.o/k+e=n"


@pytest.mark.parametrize("text", ["a" * 24, "vcp_" + "A1b2" * 14, "Q7w8E9r0T1y2U3i4O5p6A7s8"])
async def test_vercels_formats_are_used_whatever_the_secret_says(
    tokens: Tokens, secrets: SecretsInMemory, text: str
) -> None:
    secrets.put(text)
    secrets.kind = "example.com/anything"
    assert await value(tokens) == text


@pytest.mark.parametrize(
    ("error", "told"),
    [(Gone("none"), "does not exist: create it"), (Denied("not read Secret web/vercel"), "no right to read Secret")],
)
async def test_a_secret_that_can_not_be_read_is_reported(
    tokens: Tokens, secrets: SecretsInMemory, error: KubeError, told: str
) -> None:
    secrets.error = error
    with pytest.raises(TokenMissing, match=told):
        await value(tokens)


async def test_an_api_server_that_can_not_answer_is_no_missing_token(tokens: Tokens, secrets: SecretsInMemory) -> None:
    secrets.error = Unavailable("HTTP 503")
    with pytest.raises(Unavailable):
        await value(tokens)


async def test_a_missing_secret_is_read_once_for_many_resources_and_again_after_four_seconds(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock
) -> None:
    for _ in range(100):
        with pytest.raises(TokenMissing, match="Secret web/vercel does not exist"):
            await value(tokens)
    assert secrets.reads == 1
    secrets.put(TOKEN)
    clock.pause(4)
    assert await value(tokens) == TOKEN


async def test_a_secret_that_could_not_be_read_is_read_again_at_once(tokens: Tokens, secrets: SecretsInMemory) -> None:
    secrets.error = Unavailable("no answer")
    with pytest.raises(KubeError):
        await value(tokens)
    secrets.put(TOKEN)
    assert await value(tokens) == TOKEN


async def test_a_removed_secret_is_noticed_within_a_minute(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock
) -> None:
    secrets.put(TOKEN)
    await value(tokens)
    secrets.data.clear()
    await clock.advance(59)
    with pytest.raises(TokenMissing):
        await value(tokens)


UID = "uid-of-the-resource"
KEY = Key("web", "site", UID)


async def for_removal(tokens: Tokens, uid: str = UID) -> str:
    return (await tokens.get_for_removal("web", REF, uid)).value.get_secret_value()


@pytest.mark.parametrize("idle", [0, 30 * 86400], ids=["used just now", "not used for a month"])
async def test_the_last_good_token_is_used_for_a_removal_for_an_hour_after_it_was_first_missing(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock, idle: float
) -> None:
    """When a namespace is deleted, its Secrets may go first."""
    secrets.put(TOKEN)
    await tokens.get("web", REF, UID)
    await clock.advance(idle)
    secrets.data.clear()
    await clock.advance(60)
    for _ in range(3):
        assert await for_removal(tokens) == TOKEN
        await clock.advance(1000)
    with pytest.raises(TokenMissing):
        await tokens.get("web", REF, UID)
    await clock.advance(3600)
    with pytest.raises(TokenMissing):
        await for_removal(tokens)


async def test_a_token_that_comes_back_is_kept_for_another_hour(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock
) -> None:
    secrets.put(TOKEN)
    await tokens.get("web", REF, UID)
    for _ in range(3):
        secrets.data.clear()
        await clock.advance(60)
        assert await for_removal(tokens) == TOKEN
        await clock.advance(3000)
        secrets.put(TOKEN)
        assert await for_removal(tokens) == TOKEN


async def test_for_a_removal_a_new_token_is_preferred(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock
) -> None:
    secrets.put("test-token-one")
    await tokens.get("web", REF, UID)
    await clock.advance(60)
    secrets.put("test-token-two")
    assert await for_removal(tokens) == "test-token-two"


@pytest.mark.parametrize(
    "uid", ["uid-of-another-one", None], ids=["another resource", "a resource without certificate"]
)
async def test_the_last_good_token_is_kept_only_for_the_resource_that_used_it(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock, uid: str | None
) -> None:
    """Otherwise, whoever may create resources could use a token after its Secret was removed."""
    secrets.put(TOKEN)
    await tokens.get("web", REF, uid)
    secrets.data.clear()
    await clock.advance(60)
    with pytest.raises(TokenMissing):
        await for_removal(tokens)


async def test_the_last_good_token_is_dropped_with_its_resource(
    tokens: Tokens, secrets: SecretsInMemory, clock: TestClock
) -> None:
    secrets.put(TOKEN)
    await tokens.get("web", REF, UID)
    tokens.forget(UID)
    secrets.data.clear()
    await clock.advance(60)
    with pytest.raises(TokenMissing):
        await for_removal(tokens)


async def test_a_token_that_was_never_seen_is_missing_for_a_removal_too(tokens: Tokens) -> None:
    with pytest.raises(TokenMissing):
        await for_removal(tokens)


def test_who_may_adopt(secrets: SecretsInMemory) -> None:
    listed = Tokens(secrets, DefaultToken(namespaces=["web"]), TestClock())
    assert listed.may_adopt("other", REF), "with a token of its own"
    assert listed.may_adopt("web", None), "listed"
    assert not listed.may_adopt("other", None)
    for namespaces in ([], ["*"]):
        shared = Tokens(secrets, DefaultToken(namespaces=namespaces), TestClock())
        assert not shared.may_adopt("web", None), "that takes a namespace's name"


def test_who_may_use_the_token_that_a_resource_names(secrets: SecretsInMemory) -> None:
    listed = Tokens(secrets, DefaultToken(value=SecretStr(TOKEN), namespaces=["web"]), TestClock())
    assert listed.may_use("other", REF)
    assert listed.may_use("web", None)
    assert not listed.may_use("other", None)


def test_the_record_tells_tokens_apart_and_says_nothing_about_them() -> None:
    one, other = Token.of("test-token-one", "a file"), Token.of("test-token-two", "a file")
    assert one.hash_for(KEY) == Token.of("test-token-one", "another file").hash_for(KEY)
    assert one.hash_for(KEY) != other.hash_for(KEY)
    assert one.hash_for(KEY) != one.hash_for(KEY._replace(name="other")), (
        "two resources don't show that they share a token"
    )
    assert one.hash_for(KEY) == one.hash_for(KEY._replace(uid="restored")), "a backup is restored with another uid"
    assert one.fingerprint not in one.hash_for(KEY)


def characters(tokens: Tokens) -> int:
    """How much is kept of Secrets."""
    return sum(
        len(key) + len(value) for read in tokens._reads.values() for key, value in read.task.result().data.items()
    )


async def test_what_was_read_is_forgotten_in_time(tokens: Tokens, secrets: SecretsInMemory, clock: TestClock) -> None:
    """Also if nothing is read any longer."""
    secrets.put(TOKEN)
    await value(tokens)
    await settle()
    assert tokens._reads
    await clock.advance(READ_SHARED)
    assert not tokens._reads
    assert tokens._remembered
    await clock.advance(REMEMBERED)
    assert not tokens._remembered
    await value(tokens)
    assert secrets.reads == 2
    await clock.advance(REMEMBERED)
    assert not tokens._remembered, "again"


async def test_of_a_large_secret_only_the_keys_that_somebody_waits_for_are_kept(
    tokens: Tokens, secrets: SecretsInMemory
) -> None:
    keys = [f"key-{number:04}" for number in range(3000)]
    secrets.data["web", "vercel"] = dict.fromkeys(keys, base64.b64encode(TOKEN.encode()).decode())
    wanted = [TokenSecretRef(name="vercel", key=key) for key in keys[:10]]
    found = await asyncio.gather(*(value(tokens, ref) for ref in wanted))
    assert found == [TOKEN] * 10
    await settle()
    assert secrets.reads == 1
    assert characters(tokens) < 1000
    assert await value(tokens, TokenSecretRef(name="vercel", key=keys[20])) == TOKEN
    assert secrets.reads == 2


async def test_what_is_too_long_for_a_token_is_not_kept(tokens: Tokens, secrets: SecretsInMemory) -> None:
    long = base64.b64encode(b"x" * 10_000).decode()
    secrets.data["web", "vercel"] = {"token": long, "other": base64.b64encode(TOKEN.encode()).decode()}
    with pytest.raises(TokenMissing, match="does not hold a token: it has more than 512 characters"):
        await value(tokens)
    await settle()
    assert characters(tokens) < 2000
    assert await value(tokens, TokenSecretRef(name="vercel", key="other")) == TOKEN
    assert secrets.reads == 1, "one read serves all keys of a Secret that is not large"


async def test_of_many_secrets_the_newest_are_kept(tokens: Tokens, secrets: SecretsInMemory) -> None:
    for number in range(3 * MOST_READ):
        secrets.data["web", f"vercel-{number}"] = {"token": base64.b64encode(TOKEN.encode()).decode()}
    refs = [TokenSecretRef(name=f"vercel-{number}") for number in range(3 * MOST_READ)]
    assert await asyncio.gather(*(value(tokens, ref) for ref in refs)) == [TOKEN] * 3 * MOST_READ
    await settle()
    assert len(tokens._reads) == MOST_READ
    assert not tokens._reading


async def test_a_read_in_progress_ends_with_the_process() -> None:
    """Whoever waited for it may have been cancelled. It would keep its connection."""
    over = asyncio.Event()

    class Silent(Secrets):
        def __init__(self) -> None: ...

        async def get(self, namespace: str, name: str) -> Mapping[str, Any]:
            try:
                await asyncio.Event().wait()
            finally:
                over.set()
            raise AssertionError

    tokens = Tokens(Silent(), DefaultToken(value=None, namespaces=[]), TestClock())
    waiting = asyncio.create_task(tokens.get("web", REF, None))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not over.is_set(), "others may wait for it"
    await tokens.aclose()
    assert over.is_set()
