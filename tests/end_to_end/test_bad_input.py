"""Whatever a user gets wrong is answered with one line that says what to do."""

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from control_plane import ControlPlane
from support.operator_process import start_command


def run(
    *args: str, env: dict[str, str] | None = None, command: str = "run", preloaded: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs a command of the operator until it ends. Its output and its errors are one text.

    Args:
        preloaded: as in ``OperatorProcess``. Two tests start Python; for all of them it would take half a minute.
    """
    clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    whole = {**clean, "HOME": "/nonexistent", "VERCEL_DEFAULT_TOKEN_NAMESPACES": "*", **(env or {})}
    with tempfile.NamedTemporaryFile() as log:
        process = start_command(command, *args, log=Path(log.name), env=whole, preloaded=preloaded)
        try:
            status = process.wait(60)
        finally:
            process.kill()
        output = Path(log.name).read_text()
    return subprocess.CompletedProcess(process.name, status, output, output)


def one_line(completed: subprocess.CompletedProcess[str]) -> str:
    """The error, which is the last line and the only one that is an error."""
    assert completed.returncode not in (0, 128 + signal.SIGKILL)
    assert "Traceback" not in completed.stderr
    errors = [line for line in completed.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, completed.stderr
    return errors[0]


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["--team-id", "team_a", "--team-slug", "a"], {}, "both set: name the team by one of them"),
        (["--team-id", "alpha"], {}, "begins with team_"),
        (["--team-id", "team_a"], {"VERCEL_TEAM_SLUG": "a"}, "both set"),
        (["--vercel-api-url", "api.vercel.com"], {}, "is not a URL: expected something like https://"),
        (["--vercel-api-url", "https://"], {}, "is not a URL"),
        ([], {"VERCEL_API_URL": "ftp://x"}, "is not a URL"),
        (["--post-timeout", "0"], {}, "--post-timeout: "),
        (["--post-timeout", "soon"], {}, "--post-timeout"),
        (["--vercel-token-file", "/no/such/file"], {}, "/no/such/file can't be read: No such file"),
        ([], {"VERCEL_TOKEN": ""}, "VERCEL_TOKEN is empty"),
        ([], {"VERCEL_TOKEN": "two words"}, "VERCEL_TOKEN does not hold a token"),
        (["--kubeconfig", "/no/such/config"], {"VERCEL_TOKEN": "t"}, "kubeconfig /no/such/config can't be read"),
        ([], {"VERCEL_TOKEN": "t"}, "Set --kubeconfig or KUBECONFIG"),
        (["--log-level", "loud"], {}, "--log-level"),
        (
            [],
            {"VERCEL_TOKEN": "t", "VERCEL_DEFAULT_TOKEN_NAMESPACES": ""},
            "set --default-token-namespace to the names",
        ),
        (["--default-token-namespace", "w*"], {}, "--default-token-namespace: 'w*' is not the name of a namespace"),
        (["--namespace", "Web"], {}, "--namespace: 'Web' is not the name of a namespace"),
        (["--namespaces", "web"], {}, "'--namespace'"),
        (
            ["--vercel-token", "two words"],
            {},
            "there is no option --vercel-token, because all users of this machine can read",
        ),
        (["--vercel-token"], {}, "there is no option --vercel-token, because all users of this machine can read"),
        (["--namespaces:", "web"], {}, "'--namespace'"),
        (["--lease-duration", "15.5"], {}, "--lease-duration: must be a whole number of seconds"),
        (
            [],
            {"KUBECONFIG": "", "VERCEL_TOKEN": "t"},
            "there is no kubeconfig ~/.kube/config, and the operator does not run",
        ),
        (
            [],
            {"KUBECONFIG": "/no/a:/no/b", "VERCEL_TOKEN": "t"},
            "there is no kubeconfig /no/a, /no/b, and the operator",
        ),
        (
            ["--drift-interval", "soon"],
            {},
            "'soon' is not a duration: use seconds, or h, m and s, as in 90, 90s, 1h30m",
        ),
    ],
)
def test_a_bad_setting_is_one_line_that_says_what_to_do(args: list[str], env: dict[str, str], words: str) -> None:
    error = one_line(run(*args, env=env))
    assert words in error
    assert "two words" not in error


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("\n")
    assert f"{file} is empty" in one_line(run("--vercel-token-file", str(file), preloaded=False))


def kubeconfig(folder: Path, *, server: str = "http://127.0.0.1:9", user: object = None, **cluster: str) -> Path:
    file = folder / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "x", "user": user or {"token": "x"}}],
    }
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a: [", "is not YAML"),
        ("certainly: not\n", "has no current context. Choose one: kubectl config use-context NAME"),
    ],
)
def test_a_kubeconfig_that_is_not_one_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """tests/mechanisms/test_kubeconfig.py has all that can be wrong with one."""
    file = tmp_path / "config"
    file.write_text(text)
    error = one_line(run("--kubeconfig", str(file), env={"VERCEL_TOKEN": "t"}))
    assert f"kubeconfig {file} {words}" in error


def test_an_authority_that_is_none_is_reported(tmp_path: Path) -> None:
    authority = {"certificate-authority-data": "bm9uZQ=="}
    file = kubeconfig(tmp_path, server="https://127.0.0.1:9", **authority)
    error = one_line(run("--kubeconfig", str(file), env={"VERCEL_TOKEN": "t"}))
    assert "its certificate-authority is not a certificate in PEM format" in error


def test_an_exec_plugin_that_fails_is_reported(tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}
    file = kubeconfig(tmp_path, user={"exec": plugin})
    error = one_line(run("--kubeconfig", str(file), env={"VERCEL_TOKEN": "t"}))
    assert error == f"Error: kubeconfig {file} can't be used: its exec plugin failed: process returned 1"


def test_a_server_without_a_scheme_is_reported(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, server="127.0.0.1:6443")
    error = one_line(run("--kubeconfig", str(file), env={"VERCEL_TOKEN": "t"}))
    assert "its server '127.0.0.1:6443' is not a URL: expected something like https://host:6443" in error


def test_a_client_certificate_that_is_none_is_reported(tmp_path: Path) -> None:
    user = {"client-certificate-data": "bm9uZQ==", "client-key-data": "bm9uZQ=="}
    file = kubeconfig(tmp_path, server="https://127.0.0.1:9", user=user)
    error = one_line(run("--kubeconfig", str(file), env={"VERCEL_TOKEN": "t"}))
    assert "its client-certificate and client-key are not a certificate and its key in PEM format" in error


def test_of_a_list_of_kubeconfigs_some_may_be_missing(tmp_path: Path) -> None:
    paths = f"/no/such/config:{kubeconfig(tmp_path)}"
    error = one_line(run("--drift-interval", "6h", env={"VERCEL_TOKEN": "t", "KUBECONFIG": paths}))
    assert "can't connect to 127.0.0.1:9" in error


def test_an_api_server_that_is_not_there_is_reported(tmp_path: Path) -> None:
    error = one_line(run("--kubeconfig", str(kubeconfig(tmp_path)), env={"VERCEL_TOKEN": "t"}))
    assert error == (
        "Error: the Kubernetes API can't be used: listing vercelcertificates in all namespaces: can't connect to "
        "127.0.0.1:9: Connection refused. Check the server of the kubeconfig, and that the operator can reach it"
    )


def test_a_port_that_is_taken_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = str(kubeconfig(tmp_path))
        error = one_line(run("--kubeconfig", config, "--listen", address, env={"VERCEL_TOKEN": "t"}))
    assert error == f"Error: --listen: can't listen on {address}: Address already in use"


def test_a_host_to_listen_on_that_is_none_is_reported(tmp_path: Path) -> None:
    config = str(kubeconfig(tmp_path))
    error = one_line(run("--kubeconfig", config, "--listen", "192.0.2.1:8080", env={"VERCEL_TOKEN": "t"}))
    assert error == "Error: --listen: can't listen on 192.0.2.1:8080: Cannot assign requested address"


def test_a_token_that_the_api_server_rejects_is_reported(control_plane: ControlPlane, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, server=control_plane.url, **{"certificate-authority": str(control_plane.ca_file)})
    error = one_line(run("--kubeconfig", str(file), env={"VERCEL_TOKEN": "t"}))
    assert "the API server rejects the operator's credentials" in error
    assert "Unauthorized (HTTP 401). Check the kubeconfig's user, or the pod's ServiceAccount" in error


def test_missing_rights_are_named(control_plane: ControlPlane, crd: None) -> None:
    nobody = control_plane.kubeconfig_for("nobody")
    error = one_line(run("--kubeconfig", str(nobody), env={"VERCEL_TOKEN": "t"}))
    assert "may not list VercelCertificates" in error


def test_a_token_never_shows_in_help_or_settings() -> None:
    completed = run("--help", env={"VERCEL_TOKEN": "visible-token-not-a-secret"}, preloaded=False)
    assert completed.returncode == 0
    assert "visible-token" not in completed.stdout
