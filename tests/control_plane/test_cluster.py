"""The control plane as tests use it: who may do what, what is counted, and the faults that it can be given."""

import json
import secrets
import socket
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from control_plane import ControlPlane, ControlPlaneError, KubectlError, Process, cluster
from support.waiting import wait_until

Kubectl = partial[CompletedProcess[str]]


def test_requests_are_counted_exactly(control_plane: ControlPlane, kubectl: Kubectl, namespace: str) -> None:
    before = control_plane.audit.mark()
    with control_plane.audit.recording() as requests:
        kubectl("create", "configmap", "counted")
        for value in range(5):
            kubectl("patch", "configmap", "counted", "--patch", json.dumps({"data": {"key": str(value)}}))
        kubectl("get", "configmap", "counted")
    kubectl("delete", "configmap", "counted")

    mine = requests.matching(resource="configmaps", namespace=namespace, user="admin", user_agent="kubectl/")
    assert [request.verb for request in mine.writes()] == ["create", *["patch"] * 5]
    assert len(mine.matching(verb="patch", subresource="", name="counted", code=200)) == 5
    assert not mine.matching(subresource="status")
    assert [request.code for request in mine.matching(verb="create")] == [201]
    later = control_plane.audit.since(before).matching(namespace=namespace, verb="delete")
    assert [request.name for request in later] == ["counted"]


def test_a_watch_is_counted_once_when_it_starts(control_plane: ControlPlane, kubectl: Kubectl, namespace: str) -> None:
    def watches(mark: int) -> int:
        return len(control_plane.audit.since(mark).matching(verb="watch", resource="secrets", namespace=namespace))

    before = control_plane.audit.mark()
    watcher = Process(
        [control_plane.assets.kubectl, "get", "secrets", "--namespace", namespace, "--watch"],
        log=control_plane.folder / "watcher.log",
        env=control_plane.environment(),
    )
    wait_until(lambda: watches(before) == 1)
    during = control_plane.audit.mark()
    watcher.kill()
    wait_until(lambda: watch_has_ended(control_plane, namespace))
    assert watches(before) == 1
    assert watches(during) == 0


def watch_has_ended(control_plane: ControlPlane, namespace: str) -> bool:
    events = map(json.loads, (control_plane.folder / "audit.log").read_text().splitlines())
    return any(
        event["verb"] == "watch"
        and event["stage"] == "ResponseComplete"
        and event.get("objectRef", {}).get("namespace") == namespace
        for event in events
    )


def test_a_user_may_do_what_rbac_says_and_no_more(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("create", "role", "reader", "--verb=list", "--resource=configmaps")
    kubectl("create", "rolebinding", "readers", "--role=reader", "--group=readers")
    jane: list[str | Path] = ["--kubeconfig", control_plane.kubeconfig_for("jane", ["readers"], namespace=namespace)]
    control_plane.kubectl(*jane, "get", "configmaps")
    with pytest.raises(KubectlError, match='User "jane" cannot list resource "secrets"'):
        control_plane.kubectl(*jane, "get", "secrets")


def test_a_service_account_comes_with_its_own_token(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("create", "serviceaccount", "robot")
    kubeconfig = control_plane.kubeconfig_for_service_account("robot", namespace)
    who = control_plane.kubectl("--kubeconfig", kubeconfig, "auth", "whoami", "-o", "json")
    assert json.loads(who.stdout)["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"


def test_the_api_server_comes_back_with_its_port_and_data(
    control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path
) -> None:
    kubectl("create", "configmap", "kept")
    kept = json.loads(kubectl("get", "configmap", "kept", "-o", "json").stdout)["metadata"]
    watch = f"/api/v1/namespaces/{kept['namespace']}/configmaps?watch=1&resourceVersion={kept['resourceVersion']}"
    kubectl("create", "configmap", "later")
    mark, url = control_plane.audit.mark(), control_plane.url
    control_plane.stop_apiserver()
    try:
        assert kubectl("get", "configmaps", check=False).returncode != 0
        assert not control_plane.audit.since(mark)
        control_plane.compact()
    finally:
        control_plane.start_apiserver()
    assert control_plane.url == url
    assert kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}").stdout == kept["uid"]
    # A watch from before the compaction is told that its past is gone: "410 Gone", as a client has to cope with.
    assert '"code":410' in control_plane.kubectl("get", "--raw", watch, check=False).stdout


def test_requests_hang_while_etcd_is_paused(control_plane: ControlPlane, kubectl: Kubectl) -> None:
    name = f"hanging-{secrets.token_hex(4)}"
    control_plane.pause_etcd()
    try:
        hanging = kubectl("create", "configmap", name, "--request-timeout=500ms", check=False)
        said = ("Timeout", "deadline", "in the time allotted")  # it depends on which of the two gives up first
        assert any(words in hanging.stderr for words in said), hanging.stderr
    finally:
        control_plane.resume_etcd()
    wait_until(lambda: kubectl("create", "configmap", f"{name}-later", check=False).returncode == 0)


def test_a_port_that_somebody_takes_is_not_insisted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        asked = []

        def taken(count: int) -> list[int]:
            asked.append(count)
            return [somebody.getsockname()[1]] * count

        monkeypatch.setattr(cluster, "free_ports", taken)
        with pytest.raises(ControlPlaneError, match="address already in use"), ControlPlane():
            pytest.fail("it has started")
        assert len(asked) == cluster.ATTEMPTS


def test_a_server_that_does_not_start_is_reported_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("kube-apiserver", "etcd", "kubectl"):
        (tmp_path / name).write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(ControlPlaneError, match=r"etcd has ended with status 1.*\n.*the disk is full"), ControlPlane():
        pytest.fail("it has started")
