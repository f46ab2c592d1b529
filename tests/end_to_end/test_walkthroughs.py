"""The instructions of the pages, typed as they are: by bash, with kubectl, a real API server and an emulated Vercel.

Only the names of namespaces and Vercel's URL are replaced by those of the test. A step that fails fails the test.
"""

import asyncio
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
import yaml

from control_plane import ControlPlane
from support.operator_process import PATIENCE, TOKEN, Namespace, OperatorProcess, StartOperator
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Injection, TokenGrant

ROOT = Path(__file__).parents[2]
NEW_TOKEN = "new-token-not-a-secret"
BETA_TOKEN = "beta-token-not-a-secret"
PERSONAL = "personal:user"


def steps(page: str, section: str) -> str:
    """Return the commands of a section, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [part] = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```$", part, re.MULTILINE | re.DOTALL)
    assert blocks, f"{page} has no commands under {section}"
    return "\n".join(textwrap.dedent(block) for _, block in blocks)


def blocks(page: str) -> list[str]:
    """Return the blocks of commands on a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [textwrap.dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)]


class Shell:
    """Types commands in an own folder, which has what a clone has."""

    def __init__(self, control_plane: ControlPlane, namespace: str, folder: Path, replaced: dict[str, str]) -> None:
        self.folder, self._replaced = folder, replaced
        for name in ("hack", "examples", "deploy"):
            (folder / name).symlink_to(ROOT / name)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "kubectl").symlink_to(control_plane.assets.kubectl)
        config = yaml.safe_load(control_plane.kubeconfig.read_text())
        config["contexts"][0]["context"]["namespace"] = namespace
        (folder / "kubeconfig.yaml").write_text(yaml.safe_dump(config))
        self.environment = {
            "HOME": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            **control_plane.environment(),
            "KUBECONFIG": str(folder / "kubeconfig.yaml"),
        }

    async def type(self, commands: str, *, strict: bool = True) -> str:
        """Return what the commands print. With ``strict``, each of them, and each part of a pipe, must succeed."""
        for documented, here in self._replaced.items():
            commands = commands.replace(documented, here)
        process = await asyncio.create_subprocess_exec(
            "bash",
            *("-euo", "pipefail") if strict else (),
            *("-c", commands),
            cwd=self.folder,
            env=self.environment,
            stdout=PIPE,
            stderr=STDOUT,
        )
        try:
            async with asyncio.timeout(3 * PATIENCE):
                output, _ = await process.communicate()
        except BaseException:
            process.kill()
            raise
        said = output.decode()
        assert process.returncode == 0 or not strict, f"{commands}\n{said}"
        return said


@pytest.fixture
def other_ns(control_plane: ControlPlane, ns: Namespace) -> Namespace:
    name = f"{ns.name}-other"
    control_plane.kubectl("create", "namespace", name)
    return Namespace(control_plane, name)


@pytest.fixture
def shell(
    control_plane: ControlPlane, ns: Namespace, other_ns: Namespace, vercel: EmulatorControl, tmp_path: Path
) -> Shell:
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "token").write_text(f"{TOKEN}\n")
    replaced = {
        "-n web": f"-n {ns.name}",
        "-n shop": f"-n {other_ns.name}",
        "get vcert -A": f"get vcert -n {ns.name}",
        "--namespace web": f"--namespace {ns.name}",
        "https://api.vercel.com": vercel.url,
        "--token-file ./token": f"--token-file ./token --api-url {vercel.url}",
    }
    return Shell(control_plane, ns.name, folder, replaced)


@pytest.fixture
async def both(start_operator: StartOperator, other_ns: Namespace) -> OperatorProcess:
    """An operator that serves both namespaces."""
    return await start_operator("--namespace", other_ns.name)


async def secret(ns: Namespace, token: str, name: str = "vercel") -> None:
    await ns.run("create", "secret", "generic", name, f"--from-literal=token={token}")


async def live(vercel: EmulatorControl) -> set[str]:
    return {one.id for one in await vercel.certificates(live=True)}


# --- docs/existing-certificates.md ------------------------------------------------------------------------------------


async def test_certificates_that_no_resource_uses_are_found(
    shell: Shell, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await ns.apply("site", ["example.com"])
    used = (await ns.ready("site"))["id"]
    names = [f"site-{number}.example.org" for number in range(120)]  # more than a page has
    found = [await vercel.inject(Injection(cns=[name], scope=PERSONAL)) for name in names]
    said = await shell.type(steps("existing-certificates.md", "Find certificates that no resource uses"))
    assert said.startswith("ID ")
    assert all(one.id in said for one in found)
    assert used not in said


async def test_certificates_are_imported_and_none_is_issued(
    shell: Shell, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await secret(ns, TOKEN)
    names = (["blog.example.com"], ["*.example.com", "example.com"], ["example.org"])
    found = [(await vercel.inject(Injection(cns=list(cns), scope=PERSONAL))).id for cns in names]
    said = await shell.type(steps("existing-certificates.md", "Import certificates"))
    assert [line.split()[1:] for line in said.splitlines()[-2:]] == [[one, "Adopted"] for one in found[:2]]
    assert {item["metadata"]["name"] for item in ns.all()} == {"blog-example-com", "example-com"}
    assert await live(vercel) == set(found)


# --- docs/moving.md ---------------------------------------------------------------------------------------------------


async def test_a_certificate_moves_to_another_namespace(
    shell: Shell, ns: Namespace, other_ns: Namespace, vercel: EmulatorControl, both: OperatorProcess
) -> None:
    for place in (ns, other_ns):
        await secret(place, TOKEN)
    await ns.apply("site", ["example.com"], tokenSecretRef={"name": "vercel"})
    before = (await ns.ready("site"))["id"]
    await shell.type(steps("moving.md", "To another namespace"))
    assert ns.all() == []
    status = other_ns.status("site")
    assert (status["id"], status["origin"]) == (before, "Adopted")
    assert await live(vercel) == {before}


async def test_a_certificate_of_another_team_replaces_it(
    shell: Shell, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await vercel.add_team("team_beta", "beta")
    await vercel.grant(TokenGrant(token=BETA_TOKEN, user="beta", teams=["team_beta"]))
    await secret(ns, TOKEN)
    await secret(ns, BETA_TOKEN, "vercel-beta")
    await ns.apply("site", ["example.com"], team={"slug": "alpha"}, tokenSecretRef={"name": "vercel"})
    await ns.ready("site")
    await shell.type(steps("moving.md", "To another team"))
    [item] = ns.all()
    assert await live(vercel) == {item["status"]["id"]}
    assert item["metadata"]["name"] == "site-beta"


@pytest.fixture
def new_cluster() -> Iterator[ControlPlane]:
    with ControlPlane() as made:
        made.kubectl("apply", "-f", ROOT / "deploy" / "crds")
        yield made


async def test_a_certificate_moves_to_another_cluster(
    shell: Shell,
    control_plane: ControlPlane,
    new_cluster: ControlPlane,
    ns: Namespace,
    vercel: EmulatorControl,
    operator: OperatorProcess,
    tmp_path: Path,
) -> None:
    new_cluster.kubectl("create", "namespace", ns.name)
    there = Namespace(new_cluster, ns.name)
    shell.environment["KUBECONFIG"] = str(_merged(tmp_path, old=control_plane, new=new_cluster))
    flags = ("--namespace", ns.name, "--vercel-api-url", vercel.url)
    its_operator = OperatorProcess(new_cluster.kubeconfig, tmp_path / "new.log", *flags, preloaded=True)
    try:
        await its_operator.serving()
        for place in (ns, there):
            await secret(place, TOKEN)
        await ns.apply("site", ["example.com"], tokenSecretRef={"name": "vercel"})
        before = (await ns.ready("site"))["id"]
        await shell.type(steps("moving.md", "To another cluster"))
        assert ns.all() == []
        assert there.status("site")["id"] == before
        assert await live(vercel) == {before}
        assert "Retained" in {event["reason"] for event in ns.events()}
    finally:
        its_operator.process.kill()


def _merged(folder: Path, **clusters: ControlPlane) -> Path:
    """Return a kubeconfig with a context for each cluster."""
    merged: dict[str, object] = {"apiVersion": "v1", "kind": "Config"}
    parts: dict[str, list[object]] = {"clusters": [], "users": [], "contexts": []}
    for name, cluster in clusters.items():
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        parts["clusters"].append({"name": name, "cluster": config["clusters"][0]["cluster"]})
        parts["users"].append({"name": name, "user": config["users"][0]["user"]})
        parts["contexts"].append({"name": name, "context": {"cluster": name, "user": name}})
    file = folder / "two-clusters.yaml"
    file.write_text(yaml.safe_dump({**merged, **parts}))
    return file


# --- docs/tokens.md ---------------------------------------------------------------------------------------------------


async def test_a_token_is_rotated(
    shell: Shell, ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator
) -> None:
    operator = await start_operator()
    await secret(ns, TOKEN)
    await ns.apply("site", ["example.com"], tokenSecretRef={"name": "vercel"})
    await ns.ready("site")
    await vercel.grant(TokenGrant(token=NEW_TOKEN, user="user"))
    (shell.folder / "token").write_text(f"{NEW_TOKEN}\n")

    replace, _, rest = steps("tokens.md", "Rotate a token").partition("sleep 60\n")
    verify, _, revoke = rest.partition("rm token\n")
    await shell.type(replace)
    await operator.terminate()
    await start_operator()  # it remembers no token, as after the minute that a user waits
    assert (await shell.type(verify)).splitlines()[-1] == "The new token is in use"
    await vercel.revoke(TOKEN)
    assert await shell.type(revoke) == "No token is rejected\n"
    assert ns.condition("site", "Issuing")["reason"] == "Issued"


# --- the pages for trouble --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["runbooks.md", "troubleshooting.md", "reasons.md"])
async def test_each_command_for_trouble_is_understood(
    shell: Shell, ns: Namespace, operator: OperatorProcess, page: str
) -> None:
    """There may be no trouble to find, but kubectl must know what it is asked."""
    await ns.apply("site", ["example.com"])
    await ns.ready("site")
    for block in blocks(page):
        if " edit " in block:  # it opens an editor
            continue
        commands = re.sub(r"\bNAME\b", "site", block).replace("-n NS", f"-n {ns.name}")
        said = await shell.type(commands, strict=False)
        assert not re.search(r"(?im)^error", said), f"{commands}\n{said}"
