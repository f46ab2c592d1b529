"""Containers, as Kubernetes would start them under Pod Security "restricted", by docker or podman."""

import json
import re
import secrets
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from support.waiting import wait_until

MEMORY = 256 * 1024 * 1024
RESTRICTED = (
    "--network=host",  # the control plane and the emulator listen on loopback alone
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--security-opt=label=disable",  # or SELinux keeps the container from what is mounted
    f"--memory={MEMORY}",
    "--env=no_proxy=127.0.0.1",  # podman hands the host's proxies on
)
PYTHON = "/opt/vercel-certificate-operator/bin/python3"


class Image:
    """An image that is there already."""

    def __init__(self, engine: str, tag: str) -> None:
        self.engine = engine
        self.tag = tag
        # Podman would give the user a name, which in a pod nobody does (nor does docker).
        self._restricted = (*RESTRICTED, *(["--passwd=false"] if engine == "podman" else []))
        self.about: dict[str, Any] = json.loads(self.ask("image", "inspect", tag))[0]
        self.config: dict[str, Any] = self.about["Config"]

    def ask(self, *args: str | Path, status: int = 0) -> str:
        """What the engine answers, ending with this exit status."""
        done = subprocess.run([self.engine, *args], capture_output=True, text=True, check=False)
        assert done.returncode == status, f"{self.engine} {' '.join(map(str, args))}\n{done.stdout}{done.stderr}"
        return done.stdout

    def run(self, *args: str, entrypoint: str | None = None, status: int = 0) -> str:
        """What a container of its own writes, ending with this exit status."""
        instead = [f"--entrypoint={entrypoint}"] if entrypoint else []
        return self.ask("run", "--rm", "--pull=never", *self._restricted, *instead, self.tag, *args, status=status)

    def python(self, script: str, python: str = PYTHON) -> Any:
        """The JSON that a script writes in a container of its own; the image needs no shell for this."""
        return json.loads(self.run("-c", script, entrypoint=python))

    def start(self, *args: str, folder: Path | None = None) -> "Container":
        """A container that runs; ``folder`` is ``/etc/operator`` in it."""
        name = f"vercel-certificate-operator-test-{secrets.token_hex(4)}"
        mount = [f"--volume={folder}:/etc/operator:ro"] if folder else []
        self.ask("run", "--detach", "--pull=never", f"--name={name}", *self._restricted, *mount, self.tag, *args)
        return Container(self, name)


class Container:
    """A container that runs, or has run."""

    def __init__(self, image: Image, name: str) -> None:
        self._image = image
        self.name = name

    @property
    def state(self) -> dict[str, Any]:
        """Running, ExitCode, StartedAt and so on."""
        state: dict[str, Any] = json.loads(self._image.ask("container", "inspect", self.name))[0]["State"]
        return state

    def logs(self) -> str:
        done = subprocess.run(
            [self._image.engine, "logs", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def line(self, pattern: str) -> re.Match[str]:
        """The first match in its logs, as soon as there is one."""
        wait_until(lambda: re.search(pattern, self.logs()) or not self.state["Running"])
        found = re.search(pattern, self.logs())
        assert found, f"it has ended with {self.state['ExitCode']}, and said\n{self.logs()}"
        return found

    def python(self, script: str) -> Any:
        """The JSON that a script writes, run beside the process."""
        return json.loads(self._image.ask("exec", self.name, PYTHON, "-c", script))

    def started(self) -> datetime:
        """When its process was started."""
        # to the microsecond: Python 3.11 takes nine digits, but podman writes fewer where they end with zeros
        digits = re.sub(r"(\.\d{1,6})\d*", r"\1", str(self.state["StartedAt"]))
        return datetime.fromisoformat(digits)

    def stop(self, grace: int = 60) -> int:
        """What a kubelet does: the image's stop signal, SIGKILL after ``grace`` seconds; the exit status."""
        self._image.ask("stop", "-t", str(grace), self.name)
        status: int = self.state["ExitCode"]
        return status

    def remove(self) -> None:
        self._image.ask("rm", "--force", self.name)
