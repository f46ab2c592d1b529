"""The installed definition is older than the operator: the API server drops a field of status and answers 200."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import CustomObjectsApi

from conftest import CRDS
from control_plane import ControlPlane
from faults.stage import FIRST_ISSUE, HOUR, MINUTE, NAME, NEW, OLD, Stage
from support.acting import events
from support.world import MERGE
from vercel_certificate_operator.core.probe import PROBE
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION

STATUS = PROBE.dump()
RECORD = ("id", "cns", "origin", "createdAt", "expiresAt", "attempt", "superseded", "issuances", "conditions")
"""What a first issue writes, and what was replaced."""
Install = Callable[[str | None], Awaitable[None]]


@pytest.fixture
async def install(stage: Stage, control_plane: ControlPlane) -> AsyncIterator[Install]:
    """Installs the definition without one field of status; None: the whole definition."""
    api = CustomObjectsApi(stage.world.api)
    manifest = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "VercelCertificate", "metadata": {"name": "probe"}}
    body = {**manifest, "spec": {"cns": ["probe.example.com"]}}
    await api.create_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, body)

    async def is_served(without: str | None) -> bool:
        reply: Any = await api.patch_namespaced_custom_object_status(
            GROUP, VERSION, "default", PLURAL, "probe", {"status": STATUS}, _content_type=MERGE, dry_run="All"
        )
        return set(STATUS) - set(reply.get("status", {})) == {without} - {None}

    async def install(without: str | None) -> None:
        definition = yaml.safe_load((CRDS / "vercelcertificates.yaml").read_text())
        (version,) = definition["spec"]["versions"]
        fields = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        fields.pop(without, None)
        apply = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        await asyncio.to_thread(control_plane.kubectl, *apply, input=json.dumps(definition))
        async with asyncio.timeout(30):
            while not await is_served(without):
                pass

    yield install
    await install(None)
    await api.delete_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, "probe")


@pytest.mark.parametrize("field", RECORD)
async def test_a_definition_that_drops_a_field_is_reported_and_issues_nothing_twice(
    stage: Stage, install: Install, field: str
) -> None:
    world = stage.world
    await install(field)
    await FIRST_ISSUE.act(world)
    if field != "superseded":  # nothing is replaced yet
        assert len(await events(world, NAME, "SchemaOutdated")) == 1
        if field != "conditions":
            assert (await world.issuing(NAME)) == ("False", "SchemaOutdated")
    if field == "attempt":
        assert world.emulator.journal.counts["issue"] == 0
    await world.advance(3 * HOUR)
    assert world.emulator.journal.counts["issue"] <= 1
    await stage.never_ready_without_a_certificate()

    await install(None)
    await world.advance(20 * MINUTE)
    assert await world.ready(NAME) == ("True", "Issued")
    assert list(world.live().values()) == [OLD]
    assert world.emulator.journal.counts["issue"] == 1


async def test_a_definition_that_drops_the_replaced_certificates_is_reported(stage: Stage, install: Install) -> None:
    world = stage.world
    await install("superseded")
    await FIRST_ISSUE.act(world)
    assert await world.ready(NAME) == ("True", "Issued")
    await world.apply(NAME, NEW)
    await world.quiet()
    assert (await world.issuing(NAME)) == ("False", "SchemaOutdated")
    await world.annotate(NAME, "renew", "1")
    await world.advance(5 * MINUTE)
    assert world.emulator.journal.counts["issue"] == 2, "nothing is issued meanwhile"


@pytest.mark.parametrize("field", ["lastRenewRequest", "autoRenew", "conditions"])
async def test_one_request_to_renew_does_not_issue_again_and_again(stage: Stage, install: Install, field: str) -> None:
    world = stage.world
    await FIRST_ISSUE.act(world)
    await install(field)
    await world.annotate(NAME, "renew", "1")
    await world.advance(3 * HOUR)
    await world.restart()
    await world.advance(HOUR)
    assert world.emulator.journal.counts["issue"] <= 2
    assert await events(world, NAME, "SchemaOutdated")
    if field != "conditions":
        assert (await world.issuing(NAME)) == ("False", "SchemaOutdated")

    await install(None)
    await world.advance(20 * MINUTE)
    assert await world.issuing(NAME) == ("False", "Issued")
    lost = field == "lastRenewRequest"  # that the request was acted on: it is, again
    assert world.emulator.journal.counts["issue"] == (3 if lost else 2)
