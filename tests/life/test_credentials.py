"""Tokens: where they come from, how they change, and what happens where there is none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import ApiException, CoreV1Api

from control_plane import ControlPlane
from support.acting import (
    HOUR,
    MINUTE,
    REF,
    asked,
    create_many,
    notes,
    put_secret,
    reasons,
    remove_secret,
)
from support.world import OTHER_TOKEN, TOKEN, World
from vercel_certificate_operator.kube import connection
from vercel_emulator import Behaviour, Fault
from vercel_emulator.models import TokenGrant

LOOKED_FOR_AGAIN = 67
"""Seconds: a missing token is looked for every minute, give or take a tenth."""


async def use(world: World, **default_token: Any) -> None:
    """Another default token, from a new start on."""
    world.configure(**default_token)
    await world.restart()


# --- from a Secret


async def test_a_token_from_a_secret_is_used_for_everything(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert world.calls() == ["list", "issue", "remove"]
    assert len(asked(world, "issue", token=OTHER_TOKEN)) == len(asked(world, "remove", token=OTHER_TOKEN)) == 1


async def test_a_newline_at_the_end_of_a_token_does_no_harm(world: World) -> None:
    await put_secret(world, f"{OTHER_TOKEN}\n")
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


Prepare = Callable[[World], Awaitable[None]]


async def none(world: World) -> None:
    """There is no Secret."""


async def another_key(world: World) -> None:
    await put_secret(world, OTHER_TOKEN, key="tokn")


async def empty(world: World) -> None:
    await put_secret(world, "")


async def a_newline(world: World) -> None:
    await put_secret(world, "\n")


async def two_words(world: World) -> None:
    await put_secret(world, "not a-token")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (none, "vercel does not exist: create it, or correct spec.tokenSecretRef"),
        (another_key, "vercel has no key token (it has: tokn): add it, or correct spec.tokenSecretRef"),
        (empty, "vercel is empty"),
        (a_newline, "vercel is empty"),
        (two_words, "does not hold a token: it has characters that no token has"),
    ],
)
async def test_without_a_token_the_user_is_told_what_is_wrong_and_it_is_read_again_soon(
    world: World, prepare: Prepare, words: str
) -> None:
    await prepare(world)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "CredentialsInvalid")
    assert message.startswith("Can't list the certificates in the token's personal account for example.com: ")
    assert words in message
    before = await world.status("site")
    assert "nextAttemptTime" not in before, "it would change each minute"
    await world.advance(10 * MINUTE)
    assert world.calls() == []
    assert await world.status("site") == before

    await put_secret(world, OTHER_TOKEN)
    await world.advance(LOOKED_FOR_AGAIN)
    assert await world.ready("site") == ("True", "Issued")
    assert "failedAttempts" not in await world.status("site")


async def test_a_secret_that_is_applied_right_after_its_resource_is_found_within_seconds(world: World) -> None:
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await put_secret(world, OTHER_TOKEN)
    await world.advance(6)
    assert await world.ready("site") == ("True", "Issued")


async def test_a_secret_in_another_namespace_is_out_of_reach(world: World, control_plane: ControlPlane) -> None:
    other = f"{world.namespace}-other"
    control_plane.kubectl("create", "namespace", other)
    control_plane.kubectl("create", "secret", "generic", "vercel", f"--from-literal=token={TOKEN}", f"-n={other}")
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("site") == ("False", "CredentialsInvalid")


# --- that changes


async def test_a_token_rotated_in_its_secret_is_used_within_a_minute(world: World) -> None:
    await put_secret(world, TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await put_secret(world, OTHER_TOKEN)
    world.emulator.accounts.revoke(TOKEN)
    await world.advance(MINUTE)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert len(asked(world, "issue", token=OTHER_TOKEN)) == 1
    assert len(asked(world, "issue")) == 2
    assert await world.issuing("site") == ("False", "Issued")


async def test_a_token_that_was_refused_is_replaced_and_the_next_attempt_comes_within_a_minute(world: World) -> None:
    await put_secret(world, "revoked-token-not-a-secret")
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await world.advance(2 * HOUR)  # by now it is tried once an hour
    assert await world.ready("site") == ("False", "CredentialsInvalid")
    await put_secret(world, OTHER_TOKEN)
    await world.advance(MINUTE)
    assert await world.ready("site") == ("True", "Issued")


async def test_the_default_token_is_read_again_when_its_file_changes(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    await use(world, vercel_token_file=file)
    await world.apply("site", ["example.com"])
    await world.quiet()
    file.write_text(f"{OTHER_TOKEN}\n")
    await world.advance(MINUTE)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert len(asked(world, "issue", token=TOKEN)) == len(asked(world, "issue", token=OTHER_TOKEN)) == 1


async def test_a_refused_default_token_is_tried_anew_when_its_file_changes(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("revoked-token-not-a-secret")
    await use(world, vercel_token_file=file)
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("False", "CredentialsInvalid")
    file.write_text(TOKEN)
    world.acts.append(world.emulator.journal.last)
    await world.advance(MINUTE)
    assert await world.ready("site") == ("True", "Issued")


async def test_a_default_token_whose_file_has_gone_is_looked_for_again(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    await use(world, vercel_token_file=file)
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "CredentialsInvalid")
    assert "can't be read: No such file or directory" in message
    file.write_text(TOKEN)
    await world.advance(LOOKED_FOR_AGAIN)
    assert await world.ready("site") == ("True", "Issued")


# --- who may use the default token


async def test_without_a_default_token_a_resource_has_to_name_its_own(world: World) -> None:
    await use(world, vercel_token=None)
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "CredentialsInvalid")
    assert "spec.tokenSecretRef is not set, and the operator has no default token" in message
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


async def test_only_listed_namespaces_may_use_the_default_token(world: World) -> None:
    await use(world, default_token_namespaces=("elsewhere",))
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"])
    await world.apply("own", ["example.org"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("own") == ("True", "Issued")
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "CredentialsInvalid")
    assert f"namespace {world.namespace} may not use the operator's default token: set spec.tokenSecretRef" in message
    assert not asked(world, "issue", token=TOKEN)

    await use(world, default_token_namespaces=("elsewhere", world.namespace))
    await world.advance(LOOKED_FOR_AGAIN)
    assert await world.ready("site") == ("True", "Issued")


# --- a token that Vercel refuses


async def test_a_refused_token_pauses_only_what_uses_it(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    mine = await create_many(world, 3)
    await world.apply("own", ["example.org"], tokenSecretRef=REF)
    await world.quiet()
    world.emulator.accounts.revoke(TOKEN)
    for name in [*mine, "own"]:
        await world.annotate(name, "renew", "v1")
    await world.quiet()
    assert await world.issuing("own") == ("False", "Issued")
    assert (await world.status("own"))["lastRenewRequest"] == "v1"
    assert len(asked(world, "issue", token=OTHER_TOKEN)) == 2
    assert await world.ready("site-0") == ("True", "Issued")  # the certificates are still there


async def test_all_that_wait_for_a_slot_learn_of_a_refused_token_at_once(world: World) -> None:
    world.emulator.accounts.revoke(TOKEN)
    await create_many(world, 12)
    await world.quiet()
    assert set((await reasons(world, "Ready")).values()) == {"CredentialsInvalid"}


async def test_after_a_refused_token_one_probe_is_made_by_all_together_ever_more_seldom(world: World) -> None:
    world.emulator.accounts.revoke(TOKEN)
    await create_many(world, 9)
    await world.quiet()
    assert world.calls() == ["list"], "one list for all of them"
    await world.advance(2 * MINUTE)
    assert len(world.calls()) == 2
    await world.advance(HOUR)
    assert len(world.calls()) <= 7  # after 1, 2, 4, 8, 16, 32 min
    before = len(world.calls())
    await world.advance(3 * HOUR)
    assert 2 <= len(world.calls()) - before <= 3  # once an hour

    world.emulator.accounts.grant(TokenGrant(token=TOKEN))
    await world.advance(1.2 * HOUR)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}


@pytest.mark.parametrize(("status", "said"), [(401, "unauthorized_request_error"), (403, "forbidden")])
async def test_every_resource_says_that_vercel_rejected_its_token(world: World, status: int, said: str) -> None:
    world.emulator.state.behaviour = Behaviour.model_validate({"unknownTokenStatus": status})
    world.emulator.accounts.revoke(TOKEN)
    await create_many(world, 2)
    await world.quiet()
    await world.apply("later", ["later.example.com"])
    await world.quiet()
    assert world.calls() == ["list"]
    for name in ("site-0", "site-1", "later"):
        ready, reason, message = await world.condition(name, "Ready")
        assert (ready, reason) == ("False", "CredentialsInvalid")
        if name == "later":
            assert message.startswith(
                "Can't list the certificates in the token's personal account for later.example.com: Vercel rejected "
                "the default token: "
            )
        assert f"({said}, HTTP {status}). " in message
        assert "Replace the token: it is revoked, expired or made for another team. Next attempt: " in message


async def test_a_token_that_may_not_use_a_team_is_paused_in_that_team_only(world: World) -> None:
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, teams=["team_alpha"]))
    await world.apply("one", ["example.com"], team={"id": "team_beta"})
    await world.apply("other", ["example.com"], team={"id": "team_alpha"})
    await world.quiet()
    ready, reason, message = await world.condition("one", "Ready")
    assert (ready, reason) == ("False", "CredentialsInvalid")
    assert "Replace the token with one that may manage the certificates of this team." in message
    assert await world.ready("other") == ("True", "Issued")


# --- the Secret goes first


async def test_a_resource_whose_secret_has_gone_first_is_removed_with_the_last_good_token(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await remove_secret(world)
    await world.advance(30 * MINUTE)
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}


async def test_a_namespace_that_goes_takes_all_certificates_with_it_though_its_secret_goes_first(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    names = await create_many(world, 5, tokenSecretRef=REF)
    await world.quiet()
    await remove_secret(world)
    await asyncio.gather(*(world.delete(name) for name in names))
    await world.quiet()
    assert await world.all() == []
    assert world.live() == {}


async def test_a_namespace_that_is_terminating_and_takes_no_events_is_left_without_a_certificate(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    names = await create_many(world, 3, tokenSecretRef=REF)
    await world.quiet()
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang", when="after"))
    await world.apply("late", ["late.example.com"], tokenSecretRef=REF)
    await world.quiet(hanging=1)
    await CoreV1Api(world.api).delete_namespace(world.namespace)  # there is no controller here: it stays Terminating
    await remove_secret(world)
    with pytest.raises(ApiException, match="is being terminated"):
        await put_secret(world, OTHER_TOKEN)  # nor an Event
    for name in [*names, "late"]:
        await world.delete(name)
    await world.quiet(hanging=1)
    assert [body["metadata"]["name"] for body in await world.all()] == ["late"]
    hanging.release()
    await world.quiet()
    assert await world.all() == []
    assert world.live() == {}


async def test_the_last_good_token_is_used_for_nothing_but_removal(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await remove_secret(world)
    await world.advance(MINUTE)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "CredentialsInvalid")
    assert len(asked(world, "issue")) == 1


async def test_an_hour_after_its_token_has_gone_a_deleted_resource_is_let_go_with_a_warning(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    await remove_secret(world)
    await world.restart()  # so that nobody knows the token any more
    await world.delete("site")
    await world.quiet()
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "CredentialsInvalid")
    assert f"Can't remove certificate {certificate_id} at Vercel: " in message
    assert "set spec.deletionPolicy to Retain" in message
    await world.advance(58 * MINUTE)
    assert await world.get("site") is not None

    await world.advance(4 * MINUTE)
    assert await world.get("site") is None
    assert list(world.live()) == [certificate_id]
    assert any(
        note.startswith(f"CredentialsInvalid: Left at Vercel: {certificate_id}.")
        for note in await notes(world, "site", "DeletionFailed")
    )


async def test_a_secret_that_comes_back_within_the_hour_ends_the_wait(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    await remove_secret(world)
    await world.restart()
    await world.delete("site")
    await world.quiet()
    await world.advance(20 * MINUTE)
    await put_secret(world, OTHER_TOKEN)
    await world.advance(LOOKED_FOR_AGAIN)
    assert await world.get("site") is None
    assert world.live() == {}


# --- with the rights that it has


RIGHTS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "Role",
    "metadata": {"name": "operator"},
    "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": ["vercel-operator.io"], "resources": ["vercelcertificates"], "verbs": ["get", "patch"]},
        {"apiGroups": ["vercel-operator.io"], "resources": ["vercelcertificates/status"], "verbs": ["patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ],
}


@pytest.fixture
async def with_get_alone(world: World, control_plane: ControlPlane) -> AsyncIterator[str]:
    """The operator is a user who may get Secrets and no more; the user's name."""
    user = f"operator-of-{world.namespace}"
    control_plane.kubectl("apply", "-f", "-", "-n", world.namespace, input=yaml.safe_dump(RIGHTS))
    control_plane.kubectl(
        "create", "rolebinding", "operator", "--role=operator", f"--user={user}", "-n", world.namespace
    )
    configuration = await connection.load(control_plane.kubeconfig_for(user))
    async with connection.api_client(configuration) as api:
        world.operator_api = api
        await world.restart()
        yield user
        await world.crash()


async def test_the_right_to_get_secrets_is_enough(
    world: World, with_get_alone: str, control_plane: ControlPlane
) -> None:
    mark = control_plane.audit.mark()
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("site") == ("False", "CredentialsInvalid")
    await put_secret(world, TOKEN)
    await world.advance(LOOKED_FOR_AGAIN)
    assert await world.ready("site") == ("True", "Issued")
    await put_secret(world, OTHER_TOKEN)
    await world.advance(MINUTE)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert len(asked(world, "issue", token=OTHER_TOKEN)) == 1
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}
    requests = control_plane.audit.since(mark).matching(user=with_get_alone, resource="secrets")
    assert {request.verb for request in requests} == {"get"}
    assert len(requests) <= 6  # at most one a minute


async def test_a_secret_that_the_operator_may_not_read_is_reported(world: World, control_plane: ControlPlane) -> None:
    user = f"stranger-in-{world.namespace}"
    narrowed = {**RIGHTS, "rules": RIGHTS["rules"][1:]}  # type: ignore[index]
    control_plane.kubectl("apply", "-f", "-", "-n", world.namespace, input=yaml.safe_dump(narrowed))
    control_plane.kubectl(
        "create", "rolebinding", "operator", "--role=operator", f"--user={user}", "-n", world.namespace
    )
    configuration = await connection.load(control_plane.kubeconfig_for(user))
    async with connection.api_client(configuration) as api:
        world.operator_api = api
        await world.restart()
        await put_secret(world, TOKEN)
        await world.apply("site", ["example.com"], tokenSecretRef=REF)
        await world.quiet()
        ready, reason, message = await world.condition("site", "Ready")
        assert (ready, reason) == ("False", "CredentialsInvalid")
        assert 'cannot get resource "secrets"' in message
        await world.crash()


async def test_a_get_that_is_refused_pauses_the_token_too(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="remove", status=401, code="unauthorized_request_error"))
    await world.delete("site")
    await world.quiet()
    await world.apply("other", ["example.org"])
    await world.quiet()
    assert await world.ready("other") == ("False", "CredentialsInvalid")
    await world.advance(3 * MINUTE)
    assert await world.ready("other") == ("True", "Issued")
    assert await world.get("site") is None
