"""The operator on a real node: its image, its chart, and all that can happen to its pods. By ``make test-cluster``."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from cluster.cluster import CRD, PATIENCE, Release
from cluster.issuing import COUNT, Issuing
from support.helm import Helm
from support.operator_process import Namespace, eventually
from support.tls import Authority, tls_secret
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import TokenGrant

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_pods_run_where_pod_security_is_restricted(operator: Release) -> None:
    said = operator.kubectl("run", "root", "--image=any", "--dry-run=server", check=False)
    assert "violates PodSecurity" in said, "this cluster does not enforce it"
    assert all(pod["status"]["qosClass"] for pod in operator.pods().values())


async def test_all_examples_get_ready_and_their_certificates_go_with_them(
    operator: Release, namespace: str, vercel: EmulatorControl
) -> None:
    await vercel.add_team("team_exampleExampleExample", "my-team")
    await vercel.grant(TokenGrant(token="put-your-vercel-token-here"))
    ns = Namespace(operator.cluster, namespace)
    now = datetime.now(UTC)
    secret = tls_secret("www-tls", Authority(now).leaf(["www.example.net"], now))  # in place of cert-manager
    await ns.run("apply", "-f", "-", stdin=json.dumps(secret))
    await ns.run("apply", "-f", EXAMPLES / "with-team-and-token.yaml")  # with the Secret that another one needs
    await ns.run("apply", "-f", EXAMPLES)
    await ns.run("wait", "--for=condition=Ready", "vcert", "--all", "--timeout=60s")
    examples = len(list(EXAMPLES.glob("*.yaml")))

    def told() -> bool:
        return len(re.findall(r"Normal +Issued", ns.kubectl("events").stdout)) == examples

    await eventually("kubectl events tells of all", told)
    ids = {body["status"]["id"]: body["spec"]["deletionPolicy"] for body in await asyncio.to_thread(ns.all)}
    await ns.run("delete", "vcert", "--all", "--timeout=60s")
    left = {certificate.id for certificate in await vercel.certificates(live=True)} & set(ids)
    assert left == {name for name, policy in ids.items() if policy == "Retain"}


def test_it_can_be_tried_without_a_vercel_account(
    operator: Release, helm: Helm, image: dict[str, str], namespace: str
) -> None:
    cluster = operator.cluster
    values = {"image": image, "emulator": {"enabled": True}, "crds": {"enabled": False}, "selector": "try-out"}
    release = Release(helm, cluster, "try", namespace, values)
    notes = release.install()
    try:
        how_to_see, how_to_try = notes.split("Try it:")
        cluster.shell(how_to_try.replace("labels: {}", 'labels: {try-out: "yes"}'))
        shown = [cluster.shell(command) for command in re.findall(r"^ +(kubectl .*)$", how_to_see, re.MULTILINE)]
        assert any("serves" in text for text in shown), notes
        assert any("example-com" in text and "True" in text for text in shown), notes
        failed = release.upgrade({"image": {**image, "tag": "not-there"}}, "--wait", "--timeout=3s", check=False)
        assert "UPGRADE FAILED" in failed
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=1s")
    finally:
        cluster.kubectl("delete", "vcert", "example-com", "--ignore-not-found", "--timeout=60s")
        release.uninstall()


async def test_a_leader_that_is_killed_leaves_nothing_twice_and_nothing_lost(
    operator: Release, issuing: Issuing
) -> None:
    before = operator.holder
    await asyncio.to_thread(operator.force_delete, operator.leader)
    await another_leads(operator, before)
    await issuing.release()
    await issuing.check()


async def test_a_leader_that_runs_out_of_memory_leaves_nothing_twice_and_nothing_lost(
    operator: Release, issuing: Issuing
) -> None:
    before, pod = operator.holder, operator.leader
    await asyncio.to_thread(operator.exceed_memory, pod)

    def last_end() -> str:
        state = operator.pods()[pod]["status"]["containerStatuses"][0]["lastState"]
        return str(state.get("terminated", {}).get("reason", ""))

    assert await eventually("the container has been restarted", last_end, seconds=PATIENCE) == "OOMKilled"
    await another_leads(operator, before)
    await issuing.release()
    await issuing.check()


async def test_a_leader_that_is_evicted_finishes_first_and_the_budget_keeps_the_other(
    operator: Release, issuing: Issuing
) -> None:
    before, leader = operator.holder, operator.leader
    (standby,) = set(operator.pods()) - {leader}
    assert operator.evict(leader) == ""
    assert "would violate the pod's disruption budget" in operator.evict(standby)
    assert operator.holder == before, "it leads until it has written down what it has asked for"
    await issuing.release()
    await issuing.check()
    await another_leads(operator, before)
    assert await asyncio.to_thread(operator.is_ending, leader)


async def test_a_rolling_upgrade_finishes_what_is_under_way(operator: Release, issuing: Issuing) -> None:
    before, leader = operator.holder, operator.leader
    upgrade = asyncio.create_task(asyncio.to_thread(operator.upgrade, {"log": {"level": "debug"}}))
    await eventually("the leader is told to end", lambda: operator.is_ending(leader), seconds=PATIENCE)
    assert operator.holder == before
    await issuing.release()
    await upgrade
    await issuing.check()
    await asyncio.to_thread(operator.settle)
    assert operator.holder != before
    pods = await asyncio.to_thread(operator.pods)
    assert all("--log-level=debug" in pod["spec"]["containers"][0]["args"] for pod in pods.values())


async def test_an_upgrade_to_an_image_that_is_not_there_changes_nothing_and_is_rolled_back(
    operator: Release, issuing: Issuing, image: dict[str, str]
) -> None:
    before = operator.holder
    missing = {"image": {**image, "tag": "not-there"}}
    said = await asyncio.to_thread(operator.upgrade, missing, "--wait", "--timeout=10s", check=False)
    assert "UPGRADE FAILED" in said
    states = [
        status["state"].get("waiting", {}).get("reason", "")
        for pod in operator.pods().values()
        for status in pod["status"].get("containerStatuses", ())
    ]
    assert sorted(states)[:2] == ["", ""], "both replicas go on"
    assert "Image" in max(states), "such as ErrImagePull"
    assert operator.holder == before
    await issuing.release()
    await issuing.check()
    await asyncio.to_thread(operator.helm, "rollback", "--wait", f"--timeout={PATIENCE:g}s")
    await asyncio.to_thread(operator.settle)
    assert operator.holder == before, "the rollback had no reason to touch the old pods"


async def test_an_upgrade_to_settings_that_do_not_work_rolls_itself_back_and_the_pod_says_why(
    operator: Release, issuing: Issuing
) -> None:
    before = operator.holder
    wrong = {"extraArgs": ["--vercel-api-url=nonsense"]}
    upgrade = asyncio.create_task(asyncio.to_thread(operator.upgrade, wrong, "--atomic", "--timeout=15s", check=False))

    def said_why() -> bool:
        ends = [
            status["lastState"].get("terminated", {}).get("message", "")
            for pod in operator.pods().values()
            for status in pod["status"].get("containerStatuses", ())
        ]
        return any("nonsense" in end for end in ends)

    await eventually("kubectl describe pod says what is wrong", said_why, seconds=PATIENCE)
    await issuing.release()
    await issuing.check()
    assert "rolled back due to atomic being set" in await upgrade
    await asyncio.to_thread(operator.settle)
    assert operator.holder == before


async def test_certificates_survive_an_uninstall_also_those_that_are_being_issued(
    operator: Release, issuing: Issuing, vercel: EmulatorControl
) -> None:
    uninstall = asyncio.create_task(asyncio.to_thread(operator.uninstall))
    leader = operator.leader
    await eventually("the leader is told to end", lambda: operator.is_ending(leader), seconds=PATIENCE)
    await issuing.release()
    await uninstall
    await eventually("the pods have gone", lambda: not operator.pods(), seconds=PATIENCE)
    assert CRD in operator.cluster.kubectl("get", "crd", "-o", "name").stdout
    assert len(await asyncio.to_thread(issuing.ns.all)) == COUNT
    await asyncio.to_thread(operator.install)
    await issuing.check()


async def another_leads(release: Release, before: str) -> None:
    """Until another process holds the Lease."""
    await eventually("another replica leads", lambda: release.holder not in ("", before), seconds=PATIENCE)
