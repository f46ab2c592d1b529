"""Least privilege: the operator works with the rights of the chart, and needs every one of them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chart.release import Release, Right, installed, leads, rights, without
from control_plane import ControlPlane
from support.helm import CRDS, Helm
from support.operator_process import PATIENCE, TOKEN, Namespace, OperatorProcess, ask, eventually
from support.tls import Authority, tls_secret
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault, Injection, TokenGrant

OWN_TOKEN = {"name": "my-token", "key": "token"}
VALUES: dict[str, Any] = {
    "crds": {"enabled": False},
    "tokenSecrets": {"names": ["my-token", "shop-tls"]},
    "extraArgs": ["--lease-duration=5"],
    "log": {"format": "text"},
}
WATCH = Right("watch", "vercelcertificates")
PATCH = Right("patch", "vercelcertificates")
PATCH_STATUS = Right("patch", "vercelcertificates/status")
DAY = 86400
RENEW = "vercel-operator.io/renew"
SOURCE, UPLOADED = {"name": "shop-tls"}, ["shop.example.com"]


@pytest.fixture(scope="module", autouse=True)
def definition(control_plane: ControlPlane) -> None:
    """The CRD, once for all tests here."""
    control_plane.kubectl("apply", "--server-side", "-f", CRDS)


@pytest.fixture
def release(helm: Helm, control_plane: ControlPlane, namespace: str) -> Iterator[Release]:
    """A release that the test installs."""
    with installed(helm, control_plane, namespace) as release:
        yield release


@dataclass
class Stage:
    """A release, its operator, and what its users see."""

    release: Release
    ns: Namespace
    vercel: EmulatorControl
    log: Path
    operators: list[OperatorProcess] = field(default_factory=list)

    @property
    def operator(self) -> OperatorProcess:
        return self.operators[-1]

    def start(self) -> OperatorProcess:
        self.operators.append(self.release.start(self.log, self.vercel.url))
        return self.operator

    async def serving(self) -> None:
        """The operator runs and leads."""
        self.start()
        await self.operator.serving()
        await leads(self.operator)

    async def a_secret_allows_its_upload(self) -> None:
        """As cert-manager writes it."""
        now = datetime.now(UTC)
        leaf = Authority(now - timedelta(days=1)).leaf(UPLOADED, now - timedelta(hours=1))
        await self.ns.run("create", "-f", "-", stdin=json.dumps(tls_secret("shop-tls", leaf)))

    async def a_namesake_comes_during_an_issuance(self) -> str:
        """The certificate that was issued for the resource before it; nobody needs it."""
        fault = await self.vercel.add_fault(Fault(call="issue", action="hang", when="after", cns=["old.example.com"]))
        await self.ns.apply("twice", ["old.example.com"])
        await self.vercel.wait_for_fault(fault.id)
        await self.ns.run("delete", "vcert", "twice", "--wait=false")
        await self.ns.run("patch", "vcert", "twice", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        await self.ns.apply("twice", ["new.example.com"])
        await self.vercel.release(fault.id)
        (late,) = [each.id for each in await self.vercel.certificates() if each.cns == ["old.example.com"]]
        return late

    async def fails_twice(self) -> None:
        """An issuance, for the same reason."""
        fault = Fault(call="issue", code="forbidden", status=403, times=2, cns=["no.example.com"])
        fault_id = (await self.vercel.add_fault(fault)).id
        await self.ns.apply("failing", ["no.example.com"])
        await self.ns.reason("failing", "Ready", "PermissionDenied")
        await self.ns.event("PermissionDenied")
        await self.ns.run("annotate", "vcert", "failing", f"{RENEW}=again")
        await self.vercel.wait_for_fault(fault_id, fired=2)


@pytest.fixture
def stage(release: Release, control_plane: ControlPlane, vercel: EmulatorControl, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(release, Namespace(control_plane, release.namespace), vercel, tmp_path / "operator.log")
    yield made
    for operator in made.operators:
        operator.process.kill()
        assert TOKEN not in operator.logs()
    print(made.operators and made.log.read_text())


def granted(helm: Helm) -> dict[str, list[dict[str, Any]]]:
    """The rules of the chart's Roles for the operator, by the Role's name."""
    objects = helm.template({**VALUES, "watchNamespaces": ["default"]})
    return {item["metadata"]["name"]: item["rules"] for item in objects if item["kind"] == "Role"}


@pytest.mark.parametrize("namespaced", [True, False], ids=["namespaced", "cluster-wide"])
async def test_the_operator_does_its_work_with_the_rights_of_the_chart_and_uses_all_of_them(
    stage: Stage, helm: Helm, control_plane: ControlPlane, *, namespaced: bool
) -> None:
    ns, vercel = stage.ns, stage.vercel
    mark = control_plane.audit.mark()
    stage.release.install({**VALUES, "watchNamespaces": [ns.name] if namespaced else []})
    await ns.run("create", "secret", "generic", "my-token", f"--from-literal=token={TOKEN}")
    await stage.serving()

    await vercel.behave(lifetime=30 * DAY)
    await ns.apply("plain", ["example.com"])
    await ns.apply("own-token", ["example.org"], tokenSecretRef=OWN_TOKEN)
    await stage.a_secret_allows_its_upload()
    await ns.apply("uploaded", UPLOADED, certificateSecretRef=SOURCE)
    first = await ns.ready("plain")
    await ns.ready("own-token")
    await ns.ready("uploaded")
    await vercel.behave(lifetime=90 * DAY)
    await ns.run("annotate", "vcert", "plain", f"{RENEW}=now")
    await eventually("it is renewed", lambda: ns.status("plain")["id"] != first["id"])
    await ns.apply("plain", ["example.com", "www.example.com"])
    await eventually("its names change", lambda: len(ns.status("plain")["cns"]) == 2)
    late = await stage.a_namesake_comes_during_an_issuance()
    await eventually("it is removed", lambda: late in str(ns.events()))
    await stage.fails_twice()
    await eventually("it is counted", lambda: any(event.get("series") for event in ns.events()))
    assert {"Issued", "Renewed", "PermissionDenied", "Deleted"} <= {event["reason"] for event in ns.events()}
    await ns.run("delete", "vcert", "--all", "--timeout=30s")
    assert await vercel.certificates(live=True) == []
    assert await stage.operator.terminate() == 0

    requests = control_plane.audit.since(mark).matching(user=stage.release.account)
    assert [str(request) for request in requests if request.code == 403] == []
    used = {
        Right(request.verb, "/".join(filter(None, [request.resource, request.subresource])))
        for request in requests
        if request.resource
    }
    assert used == {right for rules in granted(helm).values() for right in rights(rules)}


async def test_with_uploads_off_no_private_key_is_read(stage: Stage, control_plane: ControlPlane) -> None:
    mark = control_plane.audit.mark()
    stage.release.install({**VALUES, "uploads": {"enabled": False}})
    await stage.serving()
    await stage.a_secret_allows_its_upload()
    await stage.ns.apply("uploaded", UPLOADED, certificateSecretRef=SOURCE)
    ready = await stage.ns.reason("uploaded", "Ready", "SourceInvalid")
    assert ready["message"].startswith("This operator uploads no certificates: its administrator turned that off.")
    requests = control_plane.audit.since(mark).matching(user=stage.release.account)
    assert [str(request) for request in requests if request.resource == "secrets"] == []
    assert (await stage.vercel.journal()).counts["upload"] == 0


# --- without one right ------------------------------------------------------------------------------------------------

Break = Callable[[Stage], Awaitable[None]]


def said(right: Right) -> str:
    """How the API server refuses it."""
    return f'cannot {right.verb} resource "{right.resource}"'


async def denied(stage: Stage, right: Right) -> None:
    """Until the API server has refused it, and the operator has said so."""
    await eventually(f"the log has {said(right)}", lambda: said(right) in stage.operator.logs())


async def no_late_certificate_is_removed(stage: Stage) -> None:
    await stage.serving()
    late = await stage.a_namesake_comes_during_an_issuance()
    await denied(stage, Right("get", "vercelcertificates"))
    assert late in [certificate.id for certificate in await stage.vercel.certificates(live=True)]


async def it_does_not_start(stage: Stage) -> None:
    operator = stage.start()
    assert await asyncio.to_thread(operator.process.wait, PATIENCE) == 1
    await denied(stage, Right("list", "vercelcertificates"))


async def a_new_resource_is_not_seen(stage: Stage) -> None:
    await stage.ns.apply("before", ["before.example.com"])
    await stage.serving()
    await stage.ns.ready("before")  # it has been listed; all further news are the watch's
    await denied(stage, WATCH)
    await stage.ns.apply("plain", ["example.com"])
    refused = stage.operator.logs().count(said(WATCH))
    await eventually("it tries again", lambda: stage.operator.logs().count(said(WATCH)) > refused)
    assert stage.ns.status("plain") == {}
    assert (await stage.vercel.journal()).counts["issue"] == 1


def nothing_is_issued(right: Right) -> Break:
    """Without a finalizer, or without the record of the attempt, the operator sends no POST."""

    async def broken(stage: Stage) -> None:
        await stage.serving()
        await stage.ns.apply("plain", ["example.com"])
        await denied(stage, right)
        assert (await stage.vercel.journal()).counts["issue"] == 0
        assert stage.ns.status("plain") == {}

    return broken


async def there_are_no_events(stage: Stage) -> None:
    await stage.serving()
    await stage.ns.apply("plain", ["example.com"])
    await denied(stage, Right("create", "events"))
    await stage.ns.ready("plain")
    assert stage.ns.events() == []


async def a_repeated_event_is_not_counted(stage: Stage) -> None:
    await stage.serving()
    await stage.fails_twice()
    await denied(stage, Right("patch", "events"))
    assert [event.get("series") for event in stage.ns.events()] == [None]


async def no_secret_of_a_namespace_is_read(stage: Stage) -> None:
    await stage.ns.run("create", "secret", "generic", "my-token", f"--from-literal=token={TOKEN}")
    await stage.serving()
    await stage.ns.apply("own-token", ["example.org"], tokenSecretRef=OWN_TOKEN)
    ready = await stage.ns.reason("own-token", "Ready", "CredentialsInvalid")
    assert 'cannot get resource "secrets"' in ready["message"]
    await stage.a_secret_allows_its_upload()
    await stage.ns.apply("uploaded", UPLOADED, certificateSecretRef=SOURCE)
    ready = await stage.ns.reason("uploaded", "Ready", "SourceInvalid")
    assert 'cannot get resource "secrets"' in ready["message"]


def nobody_leads(verb: str) -> Break:
    async def broken(stage: Stage) -> None:
        operator = stage.start()
        await denied(stage, Right(verb, "leases"))
        assert "leading: this" not in operator.logs()
        assert (await ask(operator, "readyz"))[0] == 503

    return broken


async def the_leader_loses_the_lease(stage: Stage) -> None:
    await stage.serving()
    assert await asyncio.to_thread(stage.operator.process.wait, PATIENCE) == 1
    await denied(stage, Right("update", "leases"))


BREAKS: dict[Right, Break] = {
    Right("get", "vercelcertificates"): no_late_certificate_is_removed,
    Right("list", "vercelcertificates"): it_does_not_start,
    WATCH: a_new_resource_is_not_seen,
    **{right: nothing_is_issued(right) for right in (PATCH, PATCH_STATUS)},
    Right("create", "events"): there_are_no_events,
    Right("patch", "events"): a_repeated_event_is_not_counted,
    Right("get", "secrets"): no_secret_of_a_namespace_is_read,
    Right("get", "leases"): nobody_leads("get"),
    Right("create", "leases"): nobody_leads("create"),
    Right("update", "leases"): the_leader_loses_the_lease,
}


def test_what_breaks_is_known_of_every_right(helm: Helm) -> None:
    assert set(BREAKS) == {right for rules in granted(helm).values() for right in rights(rules)}


@pytest.mark.parametrize("right", BREAKS, ids=str)
async def test_without_any_one_right_something_breaks(stage: Stage, right: Right) -> None:
    stage.release.install({**VALUES, "watchNamespaces": [stage.ns.name]})
    for role in json.loads(await stage.ns.run("get", "roles", "-o", "json"))["items"]:
        rules = [rule for rule in without(role["rules"], right) if rule["verbs"]]
        patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
        await stage.ns.run("patch", "role", role["metadata"]["name"], "--type=json", "-p", patch)
    await BREAKS[right](stage)


# --- users ------------------------------------------------------------------------------------------------------------


def members(control_plane: ControlPlane, role: str) -> set[str]:
    """The ClusterRoles whose rules the API server's own aggregation puts into a role. (Its controller isn't here.)"""
    found = json.loads(control_plane.kubectl("get", "clusterrole", role, "-o", "json").stdout)
    selectors = found.get("aggregationRule", {}).get("clusterRoleSelectors", [])
    names = {role}
    for selector in selectors:
        labels = ",".join(f"{key}={value}" for key, value in selector["matchLabels"].items())
        listed = control_plane.kubectl("get", "clusterrole", "-l", labels, "-o", "jsonpath={.items[*].metadata.name}")
        for name in listed.stdout.split():
            names |= members(control_plane, name)
    return names


class User:
    """Somebody with a cluster role in a namespace."""

    def __init__(self, control_plane: ControlPlane, ns: Namespace, role: str) -> None:
        name = f"has-{role}"[:64]  # the longest name that a client certificate takes
        for member in members(control_plane, role):
            ns.kubectl("create", "rolebinding", f"{role}-{member}", f"--clusterrole={member}", f"--user={name}")
        self._ns, self._kubeconfig = ns, control_plane.kubeconfig_for(name)

    def may(self, *args: str, stdin: str | None = None) -> bool:
        """Whether a kubectl command of theirs is allowed; it has to work then."""
        done = self._ns.kubectl("--kubeconfig", self._kubeconfig, *args, check=False, stdin=stdin)
        assert done.returncode == 0 or "forbidden" in done.stderr, done.stderr
        return done.returncode == 0


STATUS = ("patch", "vcert", "site", "--subresource=status", "--type=merge", "-p", '{"status":{"id":"cert_1"}}')
MANIFEST = json.dumps(
    {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": "site"},
        "spec": {"cns": ["example.com"]},
    }
)


VICTIM = "cert_victim"
ATTEMPT = {"id": "a1", "start": "2020-01-01T00:00:00Z", "cns": ["victim.example.com"], "replaces": [VICTIM]}
ATTACKS: dict[str, dict[str, Any]] = {
    "a status and an attempt in the manifest": {
        "metadata": {"annotations": {"vercel-operator.io/attempt": json.dumps(ATTEMPT)}},
        "spec": {"cns": ["mine.example.com"]},
        "status": {
            "id": VICTIM,
            "origin": "Issued",
            "superseded": [{"id": VICTIM, "origin": "Issued", "since": "2020-01-01T00:00:00Z"}],
        },
    },
    "adoption by id": {
        "metadata": {"annotations": {"vercel-operator.io/adopt-id": VICTIM}},
        "spec": {"cns": ["victim.example.com"]},
    },
    "adoption of the same names": {"spec": {"cns": ["victim.example.com"], "existingCertificate": "Adopt"}},
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_editor_can_not_have_someone_elses_certificate_removed(
    stage: Stage, control_plane: ControlPlane, attack: dict[str, Any]
) -> None:
    """With a default token that all namespaces may use, which allows no adoption."""
    ns, vercel = stage.ns, stage.vercel
    stage.release.install(VALUES)
    await stage.serving()
    await vercel.inject(Injection(id=VICTIM, cns=["victim.example.com"]))
    user = User(control_plane, ns, "edit")
    manifest = json.loads(MANIFEST)
    manifest = {**manifest, **attack, "metadata": {**manifest["metadata"], **attack.get("metadata", {})}}

    assert user.may("apply", "-f", "-", stdin=json.dumps(manifest))
    await ns.ready("site")
    assert user.may("annotate", "vcert", "site", f"{RENEW}=now")
    await eventually("it is renewed", lambda: ns.status("site").get("lastRenewRequest") == "now")
    assert not user.may("patch", "vcert", "site", "--subresource=status", "--type=merge", "-p", "{}")
    assert user.may("delete", "vcert", "site", "--timeout=30s")

    assert [each.id for each in await vercel.certificates(live=True)] == [VICTIM]


@pytest.mark.parametrize("role", ["edit", "admin"])
def test_editors_may_do_all_that_users_do_and_nothing_to_status(
    release: Release, control_plane: ControlPlane, role: str
) -> None:
    release.install(VALUES)
    user = User(control_plane, Namespace(control_plane, release.namespace), role)
    assert user.may("apply", "-f", "-", stdin=MANIFEST)
    assert user.may("get", "vcert", "site")
    assert user.may("annotate", "vcert", "site", f"{RENEW}=now")
    assert user.may("patch", "vcert", "site", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    assert not user.may(*STATUS)
    assert not user.may("get", "vcert", "site", "--subresource=status")
    assert user.may("delete", "vcert", "site")
    assert user.may("delete", "vcert", "--all")


def test_viewers_may_only_read(release: Release, control_plane: ControlPlane) -> None:
    release.install(VALUES)
    ns = Namespace(control_plane, release.namespace)
    ns.kubectl("apply", "-f", "-", stdin=MANIFEST)
    user = User(control_plane, ns, "view")
    assert user.may("get", "vcert")
    assert user.may("describe", "vcert", "site")
    assert not user.may(*STATUS)
    assert not user.may("annotate", "vcert", "site", f"{RENEW}=now")
    assert not user.may("delete", "vcert", "site")
    assert not user.may("create", "-f", "-", stdin=MANIFEST.replace("site", "other"))


# --- the table in SECURITY.md -----------------------------------------------------------------------------------------

OTHERS_TEAM = "team_others"
NOBODYS_VALUE = "no-token-but-a-password-0123456789"
OUT_OF_REACH = (
    ("list", "secrets"),
    ("watch", "secrets"),
    ("create", "secrets"),
    ("patch", "secrets"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("patch", "deployments.apps"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("patch", "roles.rbac.authorization.k8s.io"),
    ("create", "serviceaccounts/token"),
    ("impersonate", "users"),
    ("create", "vercelcertificates.vercel-operator.io"),
    ("delete", "vercelcertificates.vercel-operator.io"),
    ("delete", "events.events.k8s.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
)


@pytest.mark.parametrize("namespaced", [True, False], ids=["namespaced", "cluster-wide"])
def test_whoever_controls_the_pod_can_do_nothing_that_the_operator_does_not_do(
    release: Release, control_plane: ControlPlane, *, namespaced: bool
) -> None:
    release.install({**VALUES, "watchNamespaces": [release.namespace] if namespaced else []})
    ns = Namespace(control_plane, release.namespace)

    def may(verb: str, resource: str, *args: str) -> bool:
        asked = ns.kubectl("auth", "can-i", verb, resource, f"--as={release.account}", *args, check=False)
        return asked.stdout.strip() == "yes"

    assert may("patch", "vercelcertificates.vercel-operator.io", "--subresource=status")
    assert may("get", "secrets/my-token")
    assert not may("get", "secrets/another"), "tokenSecrets.names"
    assert [one for one in OUT_OF_REACH if may(*one)] == []
    if namespaced:
        assert not may("get", "secrets/my-token", "--namespace=kube-system")


async def test_a_user_with_a_token_of_the_namespace_adopts_and_has_what_was_adopted_removed(stage: Stage) -> None:
    """But only in teams that the token may use."""
    ns, vercel = stage.ns, stage.vercel
    await vercel.add_team(OTHERS_TEAM, "others")
    await vercel.grant(TokenGrant(token="token-of-the-namespace-0123456789", teams=[]))
    await vercel.inject(Injection(id=VICTIM, cns=["victim.example.com"]))
    await vercel.inject(Injection(id="cert_of_others", cns=["others.example.com"], scope=OTHERS_TEAM))
    stage.release.install(VALUES)
    await ns.run("create", "secret", "generic", "my-token", "--from-literal=token=token-of-the-namespace-0123456789")
    await stage.serving()

    await ns.apply("site", ["victim.example.com"], tokenSecretRef=OWN_TOKEN, existingCertificate="Adopt")
    assert (await ns.ready("site"))["origin"] == "Adopted"
    await ns.apply("greedy", ["others.example.com"], tokenSecretRef=OWN_TOKEN, team={"id": OTHERS_TEAM})
    await ns.run("annotate", "vcert", "greedy", "vercel-operator.io/adopt-id=cert_of_others")
    await ns.reason("greedy", "Ready", "CredentialsInvalid")
    await ns.run("delete", "vcert", "--all", "--timeout=30s")

    assert [each.id for each in await vercel.certificates(live=True)] == ["cert_of_others"]


async def test_a_user_who_may_not_read_secrets_learns_the_names_of_their_keys_only(
    stage: Stage, control_plane: ControlPlane
) -> None:
    ns, vercel = stage.ns, stage.vercel
    stage.release.install(VALUES)
    await ns.run("create", "secret", "generic", "my-token", f"--from-literal=password={NOBODYS_VALUE}")
    await stage.serving()
    user = User(control_plane, ns, f"{stage.release.wide_name}-edit")
    assert not user.may("get", "secret", "my-token")

    manifest = json.loads(MANIFEST)
    for name, ref in {"keys": {"name": "my-token"}, "value": {"name": "my-token", "key": "password"}}.items():
        body = {**manifest, "metadata": {"name": name}, "spec": {"cns": [f"{name}.example.com"], "tokenSecretRef": ref}}
        assert user.may("create", "-f", "-", stdin=json.dumps(body))
    assert "(it has: password)" in (await ns.reason("keys", "Ready", "CredentialsInvalid"))["message"]
    await ns.reason("value", "Ready", "CredentialsInvalid")
    with_secret = {**manifest, "spec": {"cns": ["example.com"], "certificateSecretRef": {"name": "my-token"}}}
    assert user.may("create", "-f", "-", stdin=json.dumps(with_secret))
    await ns.reason("site", "Ready", "SourceInvalid")

    assert NOBODYS_VALUE not in json.dumps([*ns.all(), *ns.events()]) + stage.operator.logs()
    assert not (await vercel.journal(call="upload")).entries
