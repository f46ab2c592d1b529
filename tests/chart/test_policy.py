"""The policy of the chart on a real API server: who may request which certificates, and who may adopt."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chart.release import NAME, Release, installed
from control_plane import ControlPlane
from support.helm import CRDS, Helm
from support.operator_process import Namespace
from support.waiting import wait_until

ADOPT = "vercel-operator.io/adopt-id"
ALL: dict[str, Any] = {"namespaces": ["*"], "cns": ["*"]}


@pytest.fixture(scope="module", autouse=True)
def definition(control_plane: ControlPlane) -> None:
    """The CRD, once for all tests here."""
    control_plane.define(CRDS)


@dataclass
class Shop:
    """A release that serves one namespace, and a user with the chart's roles for users there."""

    release: Release
    control_plane: ControlPlane
    ns: Namespace

    def install(self, **policy: Any) -> None:
        """Install or upgrade the release, with these values of ``policy``."""
        values = {"crds": {"enabled": False}, "watchNamespaces": [self.ns.name]}
        self.release.install({**values, "policy": {"enabled": True, "allow": [ALL], **policy}})

    def user(self, name: str = "jane", *groups: str) -> "User":
        """Somebody with the chart's roles view and edit, and no others."""
        for role in ("view", "edit"):
            cluster_role = f"--clusterrole={self.release.wide_name}-{role}"
            self.ns.kubectl("create", "rolebinding", f"{name}-{role}", cluster_role, f"--user={name}", check=False)
        return User(self.ns, self.control_plane.kubeconfig_for(name, groups))


@dataclass
class User:
    """Somebody who writes VercelCertificates in a namespace."""

    ns: Namespace
    kubeconfig: Path

    def said(self, *args: str, stdin: str | None = None) -> str:
        """How a kubectl command of theirs is rejected; empty if it works."""
        done = self.ns.kubectl("--kubeconfig", self.kubeconfig, *args, check=False, stdin=stdin)
        assert done.returncode == 0 or "denied request: " in done.stderr, done.stderr
        return "" if done.returncode == 0 else done.stderr.strip().partition("denied request: ")[2]

    def creates(self, name: str, cns: list[str], adopt_id: str = "", *, dry: bool = True, **spec: Any) -> str:
        """How the creation of a VercelCertificate is rejected; empty if it works."""
        return self.said(
            "create", *(["--dry-run=server"] if dry else []), "-f", "-", stdin=manifest(name, cns, adopt_id, **spec)
        )

    def patches(self, name: str, patch: dict[str, Any]) -> str:
        """How a merge patch is rejected; empty if it works."""
        return self.said("patch", "vcert", name, "--type=merge", "-p", json.dumps(patch))


def manifest(name: str, cns: list[str], adopt_id: str = "", **spec: Any) -> str:
    """A VercelCertificate, as JSON."""
    metadata = {"name": name, "annotations": {ADOPT: adopt_id} if adopt_id else {}}
    kind = {"apiVersion": "vercel-operator.io/v1", "kind": "VercelCertificate"}
    return json.dumps({**kind, "metadata": metadata, "spec": {"cns": cns, **spec}})


@pytest.fixture
def shop(helm: Helm, control_plane: ControlPlane, namespace: str) -> Iterator[Shop]:
    with installed(helm, control_plane, namespace) as release:
        yield Shop(release, control_plane, Namespace(control_plane, namespace))


def until(said: Callable[[], str], *, rejected: bool) -> str:
    """Wait until the API server has read the new policy.

    Args:
        said: how something is rejected; empty if it is not.
        rejected: whether it should be.

    Returns:
        How it is rejected.
    """
    answers: list[str] = []

    def so() -> bool:
        answers.append(said())
        return bool(answers[-1]) is rejected

    wait_until(so)
    return answers[-1]


def test_there_is_no_policy_unless_it_is_enabled(helm: Helm) -> None:
    kinds = {item["kind"] for item in helm.template({})}
    assert not any(kind.startswith("ValidatingAdmissionPolicy") for kind in kinds)


def test_a_namespace_may_request_the_names_that_the_policy_allows_and_no_others(shop: Shop) -> None:
    shop.install(
        allow=[
            {"namespaces": [shop.ns.name], "cns": ["team-a.example.com", "*.team-a.example.com"]},
            {"namespaces": [f"{shop.ns.name[:-4]}*"], "cns": ["shared.example.com"]},
            {"namespaces": ["other"], "cns": ["other.example.com"]},
        ]
    )
    jane = shop.user()
    message = until(lambda: jane.creates("site", ["other.example.com"]), rejected=True)
    assert message == (
        f'namespace "{shop.ns.name}" may not request other.example.com. It may request: team-a.example.com, '
        "*.team-a.example.com; shared.example.com. The administrator of the operator can change that (policy.allow in "
        "the Helm chart)."
    )
    for allowed in (
        ["team-a.example.com"],
        ["*.team-a.example.com", "www.team-a.example.com", "*.deep.team-a.example.com", "a.b.c.team-a.example.com"],
        ["shared.example.com", "team-a.example.com"],
    ):
        assert jane.creates("site", allowed) == "", allowed
    for cn in (
        "example.com",
        "*.example.com",
        "xteam-a.example.com",
        "team-a.example.com.evil.com",
        "www.shared.example.com",
        "*.shared.example.com",
    ):
        assert f"may not request {cn}. It may request" in jane.creates("site", ["team-a.example.com", cn]), cn
    assert "may not request a.com, b.com, c.com and 2 more. It" in jane.creates("site", [f"{x}.com" for x in "abcde"])


def test_a_namespace_that_no_entry_names_may_request_nothing(shop: Shop) -> None:
    shop.install(allow=[{"namespaces": ["elsewhere"], "cns": ["*"]}])
    jane = shop.user()
    message = until(lambda: jane.creates("site", ["example.com"]), rejected=True)
    assert "may not request example.com. It may not request any certificate." in message


def test_names_can_be_allowed_in_certain_teams_only(shop: Shop) -> None:
    shop.install(
        allow=[
            {"namespaces": ["*"], "cns": ["a.example.com"], "teams": ["team_1", "alpha"]},
            {"namespaces": ["*"], "cns": ["b.example.com"], "teams": [""]},
            {"namespaces": ["*"], "cns": ["c.example.com"]},
        ]
    )
    jane = shop.user()
    message = until(lambda: jane.creates("site", ["a.example.com"]), rejected=True)
    assert "may not request a.example.com without spec.team. It may request: a.example.com (only in the team" in message
    assert "(only in the team team_1 or in the team alpha); b.example.com (only without spec.team);" in message
    assert jane.creates("site", ["a.example.com", "c.example.com"], team={"id": "team_1"}) == ""
    assert jane.creates("site", ["a.example.com"], team={"slug": "alpha"}) == ""
    assert jane.creates("site", ["b.example.com", "c.example.com"]) == ""
    assert "request a.example.com in the team beta." in jane.creates("site", ["a.example.com"], team={"slug": "beta"})
    assert "request b.example.com in the team team_1." in jane.creates("s", ["b.example.com"], team={"id": "team_1"})


def test_what_existed_before_is_left_alone_unless_a_name_is_added(shop: Shop, control_plane: ControlPlane) -> None:
    jane = shop.user()
    shop.ns.kubectl("create", "-f", "-", stdin=manifest("site", ["old.com", "www.old.com"], "cert_1"))
    shop.install(allow=[{"namespaces": ["*"], "cns": ["new.com"]}])
    until(lambda: jane.creates("other", ["old.com"]), rejected=True)

    # The operator's own writes: the finalizer, the status.
    operator = User(shop.ns, control_plane.kubeconfig_for_service_account(NAME, shop.ns.name))
    assert operator.patches("site", {"metadata": {"finalizers": ["vercel-operator.io/certificate"]}}) == ""
    shop.ns.kubectl(
        "patch", "vcert", "site", "--subresource=status", "--type=merge", "-p", '{"status":{"id":"cert_1"}}'
    )
    # The user's.
    assert jane.patches("site", {"metadata": {"annotations": {"vercel-operator.io/renew": "now"}}}) == ""
    assert jane.patches("site", {"spec": {"suspend": True, "deletionPolicy": "Retain"}}) == ""
    assert jane.patches("site", {"spec": {"cns": ["www.old.com", "old.com"]}}) == ""
    assert jane.said("apply", "-f", "-", stdin=manifest("site", ["old.com", "www.old.com"], "cert_1")) == ""
    assert jane.patches("site", {"spec": {"cns": ["old.com", "new.com"]}}) == ""
    message = jane.patches("site", {"spec": {"cns": ["old.com", "new.com", "www.old.com"]}})
    assert "may not request www.old.com. It may request: new.com." in message
    assert "may not set the annotation" in jane.patches("site", {"metadata": {"annotations": {ADOPT: "cert_2"}}})
    assert jane.patches("site", {"metadata": {"annotations": {ADOPT: None}}}) == ""
    # Deletion, with the finalizer's end.
    assert jane.said("delete", "vcert", "site", "--wait=false") == ""
    assert operator.patches("site", {"metadata": {"finalizers": None}}) == ""
    assert shop.ns.get("site") is None


def test_only_those_adopt_who_may(shop: Shop) -> None:
    shop.install(
        allowAdoption=[
            {"namespaces": [shop.ns.name], "users": ["root"], "groups": ["platform", "restore"]},
            {"namespaces": ["*"], "groups": ["everywhere"]},
        ]
    )
    jane = shop.user()
    message = until(lambda: jane.creates("site", ["a.com"], "cert_1"), rejected=True)
    assert message == (
        f'user "jane" may not set the annotation {ADOPT} in namespace "{shop.ns.name}". Only these may: the user root, '
        "members of the group platform, members of the group restore, members of the group everywhere. The "
        "administrator of the operator can change that (policy.allowAdoption in the Helm chart)."
    )
    allowed = (shop.user("root"), shop.user("jack", "restore"), shop.user("jill", "x", "everywhere"))
    for user in allowed:
        assert user.creates("site", ["a.com"], "cert_1") == ""
        assert user.creates("site", ["a.com"], existingCertificate="Adopt") == ""
    assert jane.creates("site", ["a.com"]) == ""
    for existing in ("Reuse", "Ignore"):
        assert jane.creates("site", ["a.com"], existingCertificate=existing) == ""
    assert "may not use existingCertificate: Adopt" in jane.creates("site", ["a.com"], existingCertificate="Adopt")

    # Somebody else has set it: what is adopted can't be changed.
    assert allowed[0].creates("site", ["a.com", "b.com"], dry=False, existingCertificate="Adopt") == ""
    assert jane.patches("site", {"spec": {"suspend": True}}) == ""
    assert "nor change the names or the token" in jane.patches("site", {"spec": {"cns": ["a.com"]}})
    assert "nor change the names or the token" in jane.patches("site", {"spec": {"cns": ["a.com", "c.com"]}})
    assert "nor change the names or the token" in jane.patches("site", {"spec": {"tokenSecretRef": {"name": "mine"}}})
    assert jane.patches("site", {"spec": {"existingCertificate": "Reuse", "cns": ["c.com"]}}) == ""
    assert "may not use" in jane.patches("site", {"spec": {"existingCertificate": "Adopt"}})


def test_only_those_who_may_adopt_turn_an_upload_into_an_adoption(shop: Shop) -> None:
    """With certificateSecretRef, existingCertificate has no effect. Without it, an existing certificate is adopted."""
    shop.install(allowAdoption=[{"namespaces": ["*"], "users": ["root"]}])
    jane, root = shop.user(), shop.user("root")
    until(lambda: jane.creates("site", ["a.com"], "cert_1"), rejected=True)
    upload: dict[str, Any] = {"existingCertificate": "Adopt", "certificateSecretRef": {"name": "tls"}}
    assert root.creates("site", ["a.com"], dry=False, **upload) == ""
    assert jane.patches("site", {"spec": {"certificateSecretRef": {"name": "other"}}}) == ""
    assert "nor remove its certificateSecretRef" in jane.patches("site", {"spec": {"certificateSecretRef": None}})
    assert jane.patches("site", {"spec": {"certificateSecretRef": None, "existingCertificate": "Reuse"}}) == ""
    assert root.patches("site", {"spec": upload}) == ""
    assert root.patches("site", {"spec": {"certificateSecretRef": None}}) == ""


@pytest.mark.parametrize(
    ("change", "rejected"),
    [
        ("apply", "may not request b.com"),
        ("apply --server-side --force-conflicts", "may not request b.com"),
        ("replace", "may not request b.com"),
        (
            'patch vcert site --type=json -p [{"op":"add","path":"/spec/cns/-","value":"b.com"}]',
            "may not request b.com",
        ),
        (
            'patch vcert site --type=json -p [{"op":"replace","path":"/spec","value":{"cns":["b.com"]}}]',
            "may not request b.com",
        ),
        (f"annotate vcert site {ADOPT}=cert_1", "may not set the annotation"),
    ],
)
def test_every_kind_of_write_is_subject_to_the_policy(shop: Shop, change: str, rejected: str) -> None:
    shop.install(allow=[{"namespaces": ["*"], "cns": ["a.com"]}])
    jane = shop.user()
    until(lambda: jane.creates("site", ["b.com"]), rejected=True)
    assert jane.creates("site", ["a.com"], dry=False) == ""
    verb = change.split()
    stdin = None
    if verb[0] in ("apply", "replace"):
        verb, stdin = [*verb, "-f", "-"], manifest("site", ["a.com", "b.com"])
    assert rejected in jane.said(*verb, stdin=stdin)


def test_all_users_of_a_namespace_can_be_allowed_to_adopt(shop: Shop) -> None:
    shop.install(allow=[{"namespaces": ["*"], "cns": ["a.com"]}], allowAdoption=[{"namespaces": [shop.ns.name]}])
    jane = shop.user()
    until(lambda: jane.creates("site", ["b.com"]), rejected=True)
    assert jane.creates("site", ["a.com"], "cert_1") == ""
    assert jane.creates("site", ["a.com"], existingCertificate="Adopt") == ""


def test_changed_values_take_effect(shop: Shop) -> None:
    jane = shop.user()
    shop.install(allow=[{"namespaces": ["*"], "cns": ["a.com"]}])
    until(lambda: jane.creates("site", ["b.com"]), rejected=True)
    assert "Nobody may do so in this namespace" in jane.creates("site", ["a.com"], "cert_1")

    shop.install(
        allow=[{"namespaces": ["*"], "cns": ["b.com"]}], allowAdoption=[{"namespaces": ["*"], "users": ["jane"]}]
    )
    until(lambda: jane.creates("site", ["b.com"], "cert_1"), rejected=False)
    assert "may not request a.com. It may request: b.com." in jane.creates("site", ["a.com"])

    shop.install(enabled=False)
    until(lambda: jane.creates("site", ["a.com"]), rejected=False)
    assert (
        "validatingadmissionpolic"
        not in shop.control_plane.kubectl(
            "get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name"
        ).stdout
    )


def test_it_can_warn_rather_than_reject(shop: Shop) -> None:
    shop.install(allow=[{"namespaces": ["*"], "cns": ["a.com"]}], action="Warn")
    command = ("create", "--dry-run=server", "-f", "-")

    def warning() -> str:
        return shop.ns.kubectl(*command, stdin=manifest("site", ["b.com"])).stderr

    assert "may not request b.com. It may request: a.com." in until(warning, rejected=True)


def test_it_says_nothing_about_namespaces_of_other_releases(shop: Shop, control_plane: ControlPlane) -> None:
    shop.install(allow=[{"namespaces": ["nowhere"], "cns": ["*"]}])
    jane = shop.user()
    until(lambda: jane.creates("site", ["a.com"]), rejected=True)
    created = ("create", "--dry-run=server", "-f", "-", "--namespace", "default")
    control_plane.kubectl(*created, input=manifest("site", ["a.com"]))


def test_it_has_room_for_many_namespaces_and_names(shop: Shop) -> None:
    many = [
        {"namespaces": [f"team-{n}"], "cns": [f"{'x' * 40}-{name}.team-{n}.example.com" for name in range(30)]}
        for n in range(200)
    ]
    own = {"namespaces": [shop.ns.name], "cns": [f"{'y' * 40}-{name}.example.com" for name in range(100)]}
    shop.install(allow=[*many, own])
    jane = shop.user()
    message = until(lambda: jane.creates("site", ["a.com"]), rejected=True)
    assert "may not request a.com. It may request: yyyy" in message
    assert re.search(r"-\d+\.example\.com, and more\. The administrator", message), "it is cut between names"
    assert jane.creates("site", own["cns"]) == ""


def test_a_quota_limits_the_resources_of_a_namespace(shop: Shop) -> None:
    """As docs/installing.md has it. The controller that counts isn't here, so the test writes what it would."""
    count = {"count/vercelcertificates.vercel-operator.io": "1"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": count}}
    shop.ns.kubectl("create", "-f", "-", stdin=json.dumps(quota))
    counted = json.dumps({"status": {"hard": count, "used": dict.fromkeys(count, "0")}})
    shop.ns.kubectl("patch", "resourcequota", "few", "--subresource=status", "--type=merge", "-p", counted)

    def created(name: str) -> str:
        return shop.ns.kubectl("create", "-f", "-", stdin=manifest(name, ["a.com"]), check=False).stderr

    wait_until(lambda: not created("one"))
    assert "exceeded quota: few, requested: count/vercelcertificates.vercel-operator.io=1, used" in created("two")
