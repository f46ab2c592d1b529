"""The main job in one screen: a VercelCertificate gets Ready, is issued again before it expires, and is deleted.

With --more, another one reports a missing DNS record meanwhile, and a third one is uploaded from a Secret.

``make demo`` runs this. A real API server, an emulated Vercel and the operator are started as processes of their own
on free ports, with all that they write in temporary folders. All of it is gone afterwards, however this ends.
"""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, TypeVar

from control_plane import (
    ControlPlane,
    ControlPlaneError,
    Process,
    Progress,
    UnavailableError,
    binaries,
    elapsed,
    temporary_folder,
)
from control_plane.pki import CertificateAuthority

ROOT = Path(__file__).parents[1]
EXAMPLE = "example-com"  # the name in examples/example-com.yaml
SHOP = "shop.example.org"
"""The name whose DNS record is missing."""
TOKEN = "demo-token-not-a-secret"  # noqa: S105  # the emulator accepts what it is told to
LIFETIME = 30.0
"""Seconds that a certificate lives here. It is renewed after two thirds: 10 s are left to a machine that is slow."""
PATIENCE = 60.0
"""Seconds after which a step has failed. Each takes a few where nothing else is going on."""

T = TypeVar("T")


class DemoError(Exception):
    """A step has failed. The message says what and why, with the end of the log that tells."""


class Stopped(BaseException):  # like KeyboardInterrupt, it is no error
    """SIGTERM or SIGHUP was received."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen:
    """What the user reads."""

    def __init__(self, *, colour: bool | None = None) -> None:
        """:param colour: whether to use colours; None: on a terminal, unless NO_COLOR is set"""
        self._colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") if colour is None else colour

    def say(self, text: str = "") -> None:
        """A line."""
        print(text, flush=True)

    def detail(self, text: str) -> None:
        """Lines that belong to a step."""
        for line in text.rstrip().splitlines():
            self.say(f"   {line}".rstrip())

    def command(self, *command: str) -> None:
        """A command that is run, as the user would type it."""
        self.detail(self.bold(f"$ {shlex.join(command)}"))

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._colour else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._colour else text

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A part of the demo, with the time that it took."""
        self.say(self.bold(title))
        start = time.monotonic()
        yield
        self.detail(self.dim(f"({elapsed(time.monotonic() - start)})"))


class Demo:
    """The steps, and what runs while they do."""

    def __init__(self, screen: Screen, stack: ExitStack) -> None:
        self.screen = screen
        self.stack = stack
        self.folder = stack.enter_context(temporary_folder("vercel-certificate-operator-demo-"))
        self.processes: list[Process] = []

    # --- the steps ---

    def show(self, *, more: bool = False) -> None:
        """Steps 1 to 5.

        :param more: a missing DNS record and an upload too
        :raises DemoError: a step has failed
        """
        with self.screen.step("1. Set-up: the virtual environment and the control plane"):
            assets = binaries.find()
            self.screen.detail(f"Python {sys.version.split()[0]} and kubectl in {_short(Path(sys.prefix))}")
            self.screen.detail(f"etcd and kube-apiserver in {_short(assets.folder)}")
        with self.screen.step("2. Start an API server, an emulated Vercel and the operator"):
            self.start()
        with self.screen.step("3. Create a VercelCertificate; the operator issues the certificate"):
            self.kubectl("apply", "-f", "deploy/crds/")
            self.ask_for_it()
            self.kubectl("get", "vcert")
            first = self.show_status()
        if more:
            with self.screen.step("3a. A DNS record is missing for another resource; its message says which"):
                self.show_a_missing_record()
            with self.screen.step("3b. A third resource names a Secret; the operator uploads the certificate"):
                self.show_an_upload()
        with self.screen.step(
            f"4. The certificate is valid for {LIFETIME:g} s; the operator renews it before it expires"
        ):
            self.wait_for_another(first)
            self.show_status()
            self.wait("waiting for the Events", lambda: len(self.events()) > 1)
            self.kubectl("events", "--for", f"vcert/{EXAMPLE}")
            self.wait("waiting for the old one's removal at Vercel", self.only_the_new_one_is_left)
        with self.screen.step("5. Delete the resource; the operator removes the certificate at Vercel"):
            self.show_what_vercel_has()
            self.kubectl("delete", "vcert", "--all", f"--timeout={PATIENCE:g}s")
            if left := self.show_what_vercel_has():
                raise DemoError(f"Vercel still has {', '.join(left)}.\n{self.log('operator')}")

    def say_what_next(self) -> None:
        """Step 6."""
        self.screen.say(self.screen.bold("6. What to do next"))
        self.screen.detail("make demo KEEP=1   run the demo again and leave everything up, to try things")
        self.screen.detail("make test          run the tests on such an API server")
        self.screen.detail("README.md          install the operator in a cluster")

    def keep_until_ctrl_c(self) -> None:
        """Step 6, with a certificate to play with.

        :raises DemoError: one of the processes ends
        """
        self.screen.say(self.screen.bold("6. The resource is created again; everything stays up until Ctrl-C"))
        self.ask_for_it()
        self.screen.say(self.screen.bold("Type in another terminal:"))
        self.screen.detail(
            f"""
export KUBECONFIG={self.control_plane.kubeconfig} PATH={Path(sys.prefix) / "bin"}:$PATH
kubectl get vcert -o wide --watch
kubectl events --for vcert/{EXAMPLE} --watch
kubectl explain vcert.spec
kubectl delete vcert {EXAMPLE}
curl -H 'Authorization: Bearer {TOKEN}' {self.vercel_url}/v8/certs
""".strip()
        )
        self.screen.detail(f"tail -f {' '.join(str(process.log) for process in self.processes)}")
        try:
            while True:
                time.sleep(0.2)
                self.check_processes()
        except KeyboardInterrupt:  # what it has been waiting for
            self.screen.say()

    def start(self) -> None:
        """Start the processes; each is on its own."""
        with Progress("starting the API server", stream=sys.stdout):
            self.control_plane = self.stack.enter_context(ControlPlane())
        emulator = self.start_process(
            "emulator", "emulate", "--port=0", f"--token={TOKEN}", f"--lifetime={LIFETIME:g}s"
        )
        self.vercel_url = self.wait("starting the emulated Vercel", lambda: _url_in(emulator.output()))
        token_file = self.folder / "vercel-token"  # the folder is readable by this user only
        token_file.write_text(f"{TOKEN}\n")
        self.start_process(
            "operator",
            "run",
            f"--kubeconfig={self.control_plane.kubeconfig}",
            f"--vercel-api-url={self.vercel_url}",
            f"--vercel-token-file={token_file}",
            "--default-token-namespace=*",
            "--issuance-limit=1000",  # certificates live for seconds here
        )
        self.screen.detail(f"API server {self.control_plane.url}, emulated Vercel {self.vercel_url}")

    def ask_for_it(self) -> None:
        """Apply the example and wait until it is Ready."""
        self.kubectl("apply", "-f", f"examples/{EXAMPLE}.yaml")
        self.kubectl("wait", "--for=condition=Ready", f"vcert/{EXAMPLE}", f"--timeout={PATIENCE:g}s")

    def show_a_missing_record(self) -> None:
        """A domain is not configured; then it is."""
        self.control("PUT", f"domains/{SHOP}", "{}")
        manifest = f"""
apiVersion: vercel-operator.io/v1
kind: VercelCertificate
metadata: {{name: shop}}
spec: {{cns: [{SHOP}]}}
"""
        self.kubectl("apply", "-f", "-", stdin=manifest.lstrip())
        timeout = f"--timeout={PATIENCE:g}s"
        self.kubectl("wait", f"--for=jsonpath={{.status.domains[0].name}}={SHOP}", "vcert/shop", timeout)
        self.kubectl("get", "vcert", "shop", "-o", "jsonpath={.status.conditions[1].message}")
        self.control("DELETE", f"domains/{SHOP}")
        self.kubectl("annotate", "vcert", "shop", "vercel-operator.io/renew=now")
        self.kubectl("wait", "--for=condition=Ready", "vcert/shop", timeout)

    def show_an_upload(self) -> None:
        """A company's own certificate authority has issued a certificate."""
        authority = CertificateAuthority()
        pair = authority.server("www.example.net")
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        certificate.write_bytes(pair.certificate + authority.pem)
        key.write_bytes(pair.key)
        self.kubectl("create", "secret", "tls", "www-tls", f"--cert={certificate}", f"--key={key}")
        self.kubectl("annotate", "secret", "www-tls", "vercel-operator.io/allow-upload=true")
        self.kubectl("apply", "-f", "examples/from-a-secret.yaml")
        self.kubectl("wait", "--for=condition=Ready", "vcert/www", f"--timeout={PATIENCE:g}s")
        self.kubectl("get", "vcert", "www", "-o", "wide")

    def control(self, method: str, path: str, body: str | None = None) -> None:
        """Change what the emulated Vercel sees, and show how."""
        url = f"{self.vercel_url}/_emulator/{path}"
        self.screen.command("curl", "-X", method, url, *(("-d", body) if body is not None else ()))
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, (body or "").encode() or None, headers, method=method)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE):
            pass

    def only_the_new_one_is_left(self) -> bool:
        return sum("example.com" in certificate["cns"] for certificate in self.certificates()["certs"]) == 1

    def show_status(self) -> dict[str, Any]:
        columns = "ID:.status.id,EXPIRES:.status.expiresAt"
        self.kubectl("get", "vcert", EXAMPLE, "-o", f"custom-columns={columns}")
        return self.status()

    def wait_for_another(self, first: dict[str, Any]) -> None:
        what = f"waiting for the renewal at {first.get('renewalTime')}"
        self.wait(what, lambda: self.status().get("expiresAt", "") > first["expiresAt"], LIFETIME + PATIENCE)

    def show_what_vercel_has(self) -> list[str]:
        """Ask the emulated Vercel itself, and show that; the ids of its certificates."""
        self.screen.command("curl", "-H", f"Authorization: Bearer {TOKEN}", f"{self.vercel_url}/v8/certs")
        content = self.certificates()
        self.screen.detail(json.dumps(content))
        return [certificate["id"] for certificate in content["certs"]]

    def certificates(self) -> dict[str, Any]:
        """Vercel's list."""
        url = f"{self.vercel_url}/v8/certs"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=PATIENCE) as answer:
            content: dict[str, Any] = json.load(answer)
        return content

    # --- what they are made of ---

    def kubectl(self, *args: str, stdin: str = "") -> None:
        """Run kubectl as the user would, and show the command, what it reads, and its output.

        :raises DemoError: it fails, or one of the processes ends meanwhile
        """
        self.screen.command("kubectl", *args)
        self.screen.detail(stdin)
        with tempfile.TemporaryFile("w+") as given:
            given.write(stdin)
            given.seek(0)
            said = self._kubectl(given, *args)
        self.screen.detail(said)

    def _kubectl(self, given: IO[str], *args: str) -> str:
        with subprocess.Popen(
            [self.control_plane.assets.kubectl, *args],
            env={**os.environ, **self.control_plane.environment()},
            cwd=ROOT,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                self.wait(f"kubectl {args[0]}", lambda: process.poll() is not None, 2 * PATIENCE)
            except BaseException:
                process.kill()
                raise
            said = process.stdout.read() if process.stdout else ""
        if process.returncode:
            raise DemoError(f"kubectl {args[0]} has failed: {said}\n{self.log('operator')}")
        return said

    def status(self) -> dict[str, Any]:
        """The example's status."""
        path = f"/apis/vercel-operator.io/v1/namespaces/default/vercelcertificates/{EXAMPLE}"
        status: dict[str, Any] = json.loads(self.control_plane.get(path)).get("status", {})
        return status

    def events(self) -> list[Any]:
        """The events that regard the example."""
        events = json.loads(self.control_plane.get("/apis/events.k8s.io/v1/namespaces/default/events"))["items"]
        return [event for event in events if event["regarding"].get("name") == EXAMPLE]

    def start_process(self, name: str, *args: str) -> Process:
        """Start ``vercel-certificate-operator …`` as a process that ends with this one."""
        # The user's own VERCEL_TOKEN and the like must not get into this.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("VERCEL_", "KUBECONFIG"))}
        process = Process(
            [sys.executable, "-m", "vercel_certificate_operator", *args],
            log=self.folder / f"{name}.log",
            env={**environment, "PYTHONUNBUFFERED": "1"},
            cwd=self.folder,
        )
        self.stack.callback(process.stop)
        self.processes.append(process)
        return process

    def wait(self, what: str, look: Callable[[], T | None], timeout: float = PATIENCE) -> T:
        """Look until there is something (that is true); seconds.

        :raises DemoError: it takes too long, or one of the processes ends meanwhile
        """
        with Progress(what, stream=sys.stdout):
            deadline = time.monotonic() + timeout
            while not (found := look()):
                self.check_processes()
                if time.monotonic() > deadline:
                    raise DemoError(f"{what}: not done after {elapsed(timeout)}.\n{self.log('operator')}")
                time.sleep(0.05)
            return found

    def check_processes(self) -> None:
        """:raises DemoError: one has ended"""
        for process in self.processes:
            if not process.running:
                name = process.log.stem
                raise DemoError(f"The {name} has ended with status {process.exit_status}.\n{self.log(name)}")

    def log(self, name: str) -> str:
        """The end of a log, with a heading."""
        lines = "".join(process.last_lines(15) for process in self.processes if process.log.stem == name)
        return f"The {name}'s log ends with:\n{lines}" if lines else f"The {name}'s log is empty."


def _url_in(output: str) -> str | None:
    found = re.search(r"listening on (http://\S+)", output)
    return found[1] if found else None


def _short(path: Path) -> str:
    """A path as people write it: relative to here, or with ~."""
    for base, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return prefix + str(path.relative_to(base))
    return str(path)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    parser.add_argument("--more", action="store_true", help="show a missing DNS record and an upload too")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with ExitStack() as stack:
            try:
                return run(stack, keep=options.keep, more=options.more)
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not end the clearing up
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except Stopped as stopped:
        status = 128 + stopped.number
    print("\nStopped; nothing is left behind.", file=sys.stderr)
    return status


def run(stack: ExitStack, *, keep: bool, more: bool) -> int:
    """All of the demo; the exit status."""
    try:
        demo = Demo(Screen(), stack)
        demo.show(more=more)
        if keep:
            demo.keep_until_ctrl_c()
        else:
            demo.say_what_next()
    except (DemoError, ControlPlaneError, UnavailableError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
