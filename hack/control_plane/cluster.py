"""A kube-apiserver with its etcd, for as long as a ``with`` block lasts."""

import base64
import http.client
import json
import os
import random
import secrets
import select
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from control_plane import audit, binaries, kubectl, pki
from control_plane.processes import Process, temporary_folder

START_TIMEOUT = 60.0
"""Seconds. On an idle machine, a server takes 1 or 2."""
ATTEMPTS = 3
"""Another process may take a free port before the server does. Then the start is repeated with other ports."""
LOCAL = "127.0.0.1"


class ControlPlaneError(Exception):
    """A server can't be started. The message has the last lines of its log."""


class ControlPlane:
    """An API server with RBAC and an audit log, for this process only.

    It is ready after about 2 s. It uses free ports and a temporary folder. At the end of the block, or when this Python
    process ends in any other way, the servers are killed and the folder is removed. The methods block; they may be
    called from any thread (``asyncio.to_thread``).

    There is no scheduler and no kubelet. Only with ``controller_manager=True`` are deleted namespaces removed and
    garbage is collected.
    """

    _etcd: Process

    def __init__(self, *, controller_manager: bool = False, audit_level: str = "Metadata") -> None:
        """Prepare a control plane. Nothing is started yet.

        Args:
            controller_manager: Also run kube-controller-manager.
            audit_level: How much of a request is logged: Metadata, Request or RequestResponse.
        """
        self._with_controller_manager = controller_manager
        self._audit_level = audit_level
        self._authority = pki.CertificateAuthority()
        self._name = secrets.token_hex(8)
        self._token = secrets.token_hex(16)
        self._tls = ssl.create_default_context(cadata=self._authority.pem.decode())
        self._etcd_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._connections: deque[http.client.HTTPSConnection] = deque()
        """To the API server, idle."""

    def __enter__(self) -> Self:
        """Start the servers.

        Raises:
            UnavailableError: There are no programs to start.
            ControlPlaneError: A server doesn't start.
        """
        self.assets = binaries.find(controller_manager=self._with_controller_manager)
        for attempt in range(ATTEMPTS):
            with ExitStack() as stack:
                self._stack = stack
                try:
                    self._start()
                except _PortTakenError as error:
                    if attempt == ATTEMPTS - 1:
                        raise ControlPlaneError(str(error)) from None
                else:
                    self._stack = stack.pop_all()
                    break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- ways in ---

    @property
    def url(self) -> str:
        """The API server's URL, such as ``https://127.0.0.1:12345``."""
        return f"https://{LOCAL}:{self._port}"

    @property
    def token(self) -> str:
        """The bearer token of ``admin``, who may do everything."""
        return self._token

    @property
    def ca_file(self) -> Path:
        """The certificate authority that verifies the API server's certificate, PEM."""
        return self.folder / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file of ``admin``, who may do everything."""
        return self.folder / "admin.kubeconfig"

    def kubeconfig_for(self, user: str, groups: Sequence[str] = (), *, namespace: str = "default") -> Path:
        """Return a kubeconfig file with a client certificate for a user, who has only the rights that RBAC grants."""
        pair = self._authority.client(user, groups)
        credentials = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        return self._write_kubeconfig(user, credentials, namespace)

    def kubeconfig_for_service_account(self, name: str, namespace: str, *, seconds: int = 3600) -> Path:
        """Return a kubeconfig file with a token for a ServiceAccount.

        Args:
            name: The ServiceAccount, which must exist.
            namespace: Its namespace.
            seconds: How long the token is valid, at least 600.

        Raises:
            KubectlError: There is no such ServiceAccount.
        """
        made = self.kubectl("create", "token", name, f"--namespace={namespace}", f"--duration={seconds}s")
        return self._write_kubeconfig(f"{namespace}.{name}", {"token": made.stdout.strip()}, namespace)

    def kubectl(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002  # as subprocess.run has it
        check: bool = True,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as admin. Output and input are text.

        Args:
            args: The arguments.
            input: The standard input.
            check: Raise an error if kubectl fails.
            timeout: Seconds.

        Raises:
            KubectlError: kubectl failed, and ``check`` is True.
            subprocess.TimeoutExpired: It took longer than ``timeout``.
        """
        return kubectl.run(self.assets.kubectl, args, self.environment(), input=input, check=check, timeout=timeout)

    def define(self, definitions: Path) -> None:
        """Install CustomResourceDefinitions, and wait until the API server serves what they define.

        Args:
            definitions: A file, or a folder of files.

        Raises:
            KubectlError: They are refused, or not served in time.
        """
        self.kubectl("apply", "--server-side", "-f", definitions)
        self.wait_until_established("-f", definitions)

    def wait_until_established(self, *what: str | Path) -> None:
        """Wait up to 30 s until the API server serves what definitions define.

        ``kubectl wait`` fails at once if a definition has no conditions yet (``"conditions": null``): then it is run
        again.

        Args:
            what: The definitions, as arguments of kubectl.

        Raises:
            KubectlError: They are not served in time, or kubectl failed otherwise.
        """
        deadline = time.monotonic() + 30.0
        while True:
            done = self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *what, check=False)
            if done.returncode == 0:
                return
            if "accessor error" not in done.stderr or time.monotonic() > deadline:
                raise kubectl.KubectlError(done)
            time.sleep(0.1)

    def get(self, path: str, *, timeout: float = 30) -> bytes:
        """Get a path such as ``/api/v1/namespaces`` as admin, without a process as ``kubectl get --raw`` needs one.

        Args:
            path: The path and the query.
            timeout: Seconds.

        Raises:
            OSError: There is no successful response (a urllib.error.HTTPError, if it has another status).
        """
        return self._request(path, None, timeout)

    def post(self, path: str, body: Mapping[str, object], *, timeout: float = 30) -> bytes:
        """Post an object as admin, without a process as ``kubectl create`` needs one.

        Args:
            path: The path of the collection.
            body: The object.
            timeout: Seconds.

        Raises:
            OSError: There is no successful response (a urllib.error.HTTPError, if it has another status).
        """
        return self._request(path, json.dumps(body).encode(), timeout)

    def _request(self, path: str, body: bytes | None, timeout: float) -> bytes:
        """Send a request. Connections are kept: a handshake takes as long as ten requests."""
        connection = self._idle_connection() or http.client.HTTPSConnection(LOCAL, self._port, context=self._tls)
        connection.timeout = timeout  # for the case that it is not connected yet
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request("POST" if body is not None else "GET", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException as error:
            connection.close()
            if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
                raise urllib.error.URLError(str(error)) from error
            raise
        self._connections.append(connection)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise urllib.error.HTTPError(self.url + path, answer.status, answer.reason, answer.headers, None)
        return content

    def _idle_connection(self) -> http.client.HTTPSConnection | None:
        """Return a connection that the API server has not closed."""
        while True:
            try:
                connection = self._connections.pop()
            except IndexError:
                return None
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()  # there is something to read although nothing was requested: its end

    def _forget_connections(self) -> None:
        while self._connections:
            self._connections.pop().close()

    def environment(self) -> dict[str, str]:
        """Return the variables that make kubectl admin here and leave the user's own settings and cache alone."""
        return kubectl.environment(self.kubeconfig, self.folder / "kubectl-cache")

    @property
    def audit(self) -> audit.Audit:
        """The requests that the API server has served."""
        return audit.Audit(self.folder / "audit.log", self._fence)

    # --- faults ---

    def stop_apiserver(self, *, grace: float = 0.0) -> None:
        """Stop the API server. With 0 seconds of grace it is killed, so open connections break."""
        self._apiserver.stop(grace) if grace else self._apiserver.kill()
        self._forget_connections()

    def start_apiserver(self) -> None:
        """Start the API server again with the same port and data, and wait until it is ready.

        Raises:
            ControlPlaneError: It doesn't start.
        """
        self._apiserver = self._run(self._apiserver_command())
        self._wait_for(self._apiserver, self._is_ready)

    def pause_etcd(self) -> None:
        """Pause etcd. The API server's reads and writes hang until ``resume_etcd``."""
        self._etcd.pause()

    def resume_etcd(self) -> None:
        """Let etcd go on."""
        self._etcd.resume()

    def compact(self) -> None:
        """Make etcd drop all revisions but the current one.

        The API server still serves watches from its own cache. For a watch to fail with 410 ("too old resource
        version"), stop the API server before the compaction and start it afterwards.
        """
        revision = self._etcd_call("kv/range", {"key": _base64(b"\0")})["header"]["revision"]
        self._etcd_call("kv/compaction", {"revision": revision, "physical": True})

    def save_etcd(self, folder: Path) -> None:
        """Save etcd's data to a folder that doesn't exist. The servers are restarted.

        Raises:
            ControlPlaneError: A server doesn't start again.
        """
        self._with_etcd_stopped(lambda data: shutil.copytree(data, folder))

    def restore_etcd(self, folder: Path) -> None:
        """Restore etcd's data from a folder. Everything since then is lost, and resourceVersions start there again.

        Raises:
            ControlPlaneError: A server doesn't start again.
        """

        def replace(data: Path) -> None:
            shutil.rmtree(data)
            shutil.copytree(folder, data)

        self._with_etcd_stopped(replace)

    def _with_etcd_stopped(self, act: Callable[[Path], object]) -> None:
        self.stop_apiserver()
        self._etcd.stop()
        act(self.folder / "etcd")
        self._etcd = self._run(self._etcd_command())
        self._wait_for(self._etcd, self._is_our_etcd)
        self.start_apiserver()

    # --- the servers ---

    def _start(self) -> None:
        self.folder = self._stack.enter_context(temporary_folder("control-plane-"))
        self._port, self._etcd_port, self._etcd_peer_port = free_ports(3)
        self._write_files()
        self._etcd = self._run(self._etcd_command())
        self._stack.callback(lambda: self._etcd.kill())
        self._wait_for(self._etcd, self._is_our_etcd)
        self._apiserver = self._run(self._apiserver_command())
        self._stack.callback(lambda: self._apiserver.kill())
        self._stack.callback(self._forget_connections)
        self._wait_for(self._apiserver, self._is_ready)
        if self.assets.controller_manager:
            manager = self._run(self._controller_manager_command(self.assets.controller_manager))
            self._stack.callback(manager.kill)

    def _run(self, command: Sequence[str | Path]) -> Process:
        # Fewer garbage collections: a tenth less CPU, and some memory that a short run has.
        environment = {"GOGC": "400", **os.environ}
        return Process(command, log=self.folder / f"{Path(command[0]).name}.log", env=environment)

    def _wait_for(self, process: Process, ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        problem = "it does not answer"
        while time.monotonic() < deadline:
            status = process.exit_status
            if status is not None:
                said = process.last_lines()
                if "address already in use" in said:
                    raise _PortTakenError(f"{process.name} finds no free port:\n{said}")
                raise ControlPlaneError(f"{process.name} has ended with status {status}. Its log ends with:\n{said}")
            try:
                ready()
            except OSError as error:  # also what urllib raises
                problem = str(error)
                time.sleep(0.02)
            else:
                return
        said = process.last_lines()
        raise ControlPlaneError(
            f"{process.name} is not ready after {START_TIMEOUT:g} s ({problem}). Its log ends with:\n{said}"
        )

    def _is_our_etcd(self) -> None:
        """Return if our etcd answers.

        Raises:
            OSError: It doesn't answer yet, or the port belongs to another etcd.
        """
        members = self._etcd_call("cluster/member/list", {}, timeout=2)["members"]
        if [member["name"] for member in members] != [self._name]:
            raise OSError("another etcd answers")

    def _is_ready(self) -> None:
        """Return if the API server is ready.

        Raises:
            OSError: It isn't, or it has not created its first namespace yet.
        """
        self.get("/readyz", timeout=2)
        self.get("/api/v1/namespaces/default", timeout=2)

    def _fence(self) -> str | None:
        path = f"/version?{audit.FENCE}={secrets.token_hex(8)}"
        try:
            self.get(path)
        except ConnectionRefusedError:
            return None
        return path

    def _etcd_call(self, path: str, body: Mapping[str, object], *, timeout: float = 30) -> Any:
        # By the JSON gateway, https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/
        url = f"http://{LOCAL}:{self._etcd_port}/v3/{path}"
        with self._etcd_http.open(urllib.request.Request(url, json.dumps(body).encode()), timeout=timeout) as answer:
            return json.load(answer)

    def _etcd_command(self) -> list[str | Path]:
        client, peer = f"http://{LOCAL}:{self._etcd_port}", f"http://{LOCAL}:{self._etcd_peer_port}"
        return [
            self.assets.etcd,
            f"--name={self._name}",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",  # nothing here outlives the run
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self._name}={peer}",
        ]

    def _apiserver_command(self) -> list[str | Path]:
        return [
            self.assets.kube_apiserver,
            f"--etcd-servers=http://{LOCAL}:{self._etcd_port}",
            f"--bind-address={LOCAL}",
            f"--advertise-address={LOCAL}",
            "--endpoint-reconciler-type=none",  # nobody looks for it by its Service
            f"--secure-port={self._port}",
            f"--tls-cert-file={self.folder / 'server.crt'}",
            f"--tls-private-key-file={self.folder / 'server.key'}",
            f"--client-ca-file={self.ca_file}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-account-key-file={self.folder / 'tokens.pub'}",
            f"--service-account-signing-key-file={self.folder / 'tokens.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",  # no controller makes the ServiceAccount "default"
            f"--audit-policy-file={self.folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.folder / 'audit.log'}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=0",  # one file, whatever its size
        ]

    def _controller_manager_command(self, program: Path) -> list[str | Path]:
        kubeconfig = self.kubeconfig_for("system:kube-controller-manager", ["system:masters"])
        return [
            program,
            f"--kubeconfig={kubeconfig}",
            "--controllers=namespace-controller,garbage-collector-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ]

    def _write_files(self) -> None:
        self.ca_file.write_bytes(self._authority.pem)
        server = self._authority.server("localhost", "kubernetes.default.svc")
        (self.folder / "server.crt").write_bytes(server.certificate)
        (self.folder / "server.key").write_bytes(server.key)
        private, public = pki.token_keys()
        (self.folder / "tokens.key").write_bytes(private)
        (self.folder / "tokens.pub").write_bytes(public)
        (self.folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        (self.folder / "audit-policy.yaml").write_text(yaml.safe_dump(audit.policy(self._audit_level)))
        self._write_kubeconfig("admin", {"token": self._token}, "default")

    def _write_kubeconfig(self, user: str, credentials: Mapping[str, str], namespace: str) -> Path:
        cluster = {"server": self.url, "certificate-authority-data": _base64(self._authority.pem)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "control-plane", "cluster": cluster}],
            "users": [{"name": user, "user": dict(credentials)}],
            "contexts": [{"name": user, "context": {"cluster": "control-plane", "user": user, "namespace": namespace}}],
            "current-context": user,
        }
        path = self.folder / f"{user.replace('/', '_').replace(':', '_')}.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path


class _PortTakenError(Exception):
    pass


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens, outside the range that the kernel uses for outgoing connections.

    A server that is restarted could lose a port of that range: even a client that tries to connect to the server may
    get that very port, and is then connected to itself.
    """
    try:
        highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except FileNotFoundError:  # not Linux
        highest = 32768
    ports: list[int] = []
    for port in random.sample(range(10000, max(highest, 11000)), 1000):
        with socket.socket() as candidate:
            try:
                candidate.bind((LOCAL, port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise ControlPlaneError("no free port was found")
