"""The way to the Kubernetes API: found as kubectl finds it, and each mistake is one line."""

import base64
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from kubernetes.aio.config import incluster_config

from control_plane.pki import CertificateAuthority
from vercel_certificate_operator.kube.kubeconfig import NotConfigured, load

API = "client.authentication.k8s.io/v1"
CA = CertificateAuthority()
PAIR = CA.server("localhost")
NO_AUTHORITY = " can't be used: its certificate-authority is not a certificate in PEM format"
NO_PAIR = " can't be used: its client-certificate and client-key are not a certificate and its key in PEM format"
NO_PLUGIN = " can't be used: its exec plugin failed: "
BAD_PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("KUBE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def data(content: bytes | str) -> str:
    return base64.b64encode(content if isinstance(content, bytes) else content.encode()).decode()


def content(
    name: str = "x", *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, current: bool = True
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.test:6443", **(cluster or {})}}],
        "users": [{"name": name, "user": user if user is not None else {"token": f"token-of-{name}"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        **({"current-context": name} if current else {}),
    }


def file(folder: Path, text: object, name: str = "config") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return path


def plugin(script: str) -> dict[str, Any]:
    """A user whose credentials come from a program in Python."""
    return {"exec": {"apiVersion": API, "command": sys.executable, "args": ["-c", script]}}


# --- mistakes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " is empty"),
        ("# nothing\n", " is empty"),
        ("a: [b\nc", " is not YAML: expected ',' or ']', but got '<stream end>', line 2"),
        ("\tclusters: []", " is not YAML: found character '\\t' that cannot start any token, line 1"),
        ("some text", " is not a kubeconfig: it holds no clusters, contexts, users"),
        ("[1, 2]", " is not a kubeconfig: it holds no clusters, contexts, users"),
        ("clusters: {a: b}", " is not a kubeconfig: its clusters are not a list of named entries"),
        ("users: [a]", " is not a kubeconfig: its users are not a list of named entries"),
        ("certainly: not", " has no current context. Choose one: kubectl config use-context NAME"),
        (
            content() | {"current-context": "other"},
            " has no context other, which is its current context (it has: ",
        ),
        (content(cluster={"server": "127.0.0.1:6443"}), " can't be used: its server '127.0.0.1:6443' is not a URL"),
        (content(cluster={"server": "host"}), " can't be used: its server 'host' is not a URL"),
        (content(cluster={"server": "https://"}), " can't be used: its server 'https:' is not a URL"),
        (
            content(cluster={"server": "https://host:port"}),
            " can't be used: its server 'https://host:port' is not a URL",
        ),
        (content(cluster={"server": ""}), " can't be used: its cluster has no server"),
        (content(cluster={"server": 1}), " is not a valid kubeconfig: "),
        (
            content(cluster={"certificate-authority-data": "A"}),
            " can't be used: its certificate or key data is not base64",
        ),
        (
            content(cluster={"certificate-authority-data": data("x")}),
            NO_AUTHORITY,
        ),
        (
            content(cluster={"certificate-authority-data": data(BAD_PEM)}),
            NO_AUTHORITY,
        ),
        (
            content(cluster={"certificate-authority": "/no/such/ca"}),
            " can't be used: there is no file /no/such/ca",
        ),
        (
            content(user={"client-certificate-data": data(PAIR.certificate), "client-key-data": data("x")}),
            NO_PAIR,
        ),
        (
            content(user={"client-certificate-data": data(BAD_PEM), "client-key-data": data(PAIR.key)}),
            NO_PAIR,
        ),
        (
            content(
                user={"client-certificate-data": data(PAIR.certificate), "client-key-data": data(CA.server("o").key)}
            ),
            NO_PAIR,
        ),
        (
            content(user=plugin("import sys; sys.exit('no\\nsession')")),
            f"{NO_PLUGIN}process returned 1. no session",
        ),
        (
            content(user=plugin("print('hello')")),
            f"{NO_PLUGIN}failed to decode process",
        ),
        (content(user=plugin("print('{}')")), f"{NO_PLUGIN}malformed response"),
        (
            content(user={"exec": {"apiVersion": API, "command": "no-such-plugin"}}),
            f"{NO_PLUGIN}No such file or directory: 'no-such-plugin'",
        ),
        (content(user={"exec": {"command": "x"}}), f"{NO_PLUGIN}malformed request"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
async def test_a_mistake_is_one_line(
    text: object, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file(tmp_path, text)
    with pytest.raises(NotConfigured) as error:
        await load(path)
    assert str(error.value).startswith(f"kubeconfig {path}{words}")
    assert "\n" not in str(error.value)
    assert not caplog.messages, "and nothing else says it"


async def test_a_key_with_a_password_asks_nobody(tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(PAIR.key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"test-password"),
    )
    user = {"client-certificate-data": data(PAIR.certificate), "client-key-data": data(encrypted)}
    with pytest.raises(NotConfigured, match="its client-certificate and client-key are not"):
        await load(file(tmp_path, content(user=user)))


async def test_a_file_that_can_not_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="can't be read: No such file or directory"):
        await load(tmp_path / "missing")
    with pytest.raises(NotConfigured, match="can't be read: Is a directory"):
        await load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(NotConfigured, match="is not text"):
        await load(tmp_path / "binary")


# --- good ones


async def test_a_whole_kubeconfig_is_read(tmp_path: Path) -> None:
    user = {"client-certificate-data": data(PAIR.certificate), "client-key-data": data(PAIR.key)}
    cluster = {"certificate-authority-data": data(CA.pem), "server": "https://host:6443/path/"}
    configuration = await load(file(tmp_path, content(cluster=cluster, user=user)))
    assert configuration.host == "https://host:6443/path"
    assert configuration.ssl_ca_cert
    assert configuration.cert_file
    assert configuration.proxy is None


async def test_the_token_of_an_exec_plugin_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credential = {
        "apiVersion": API,
        "kind": "ExecCredential",
        "status": {"token": "test-token-not-a-secret"},
    }
    configuration = await load(file(tmp_path, content(user=plugin(f"print({json.dumps(json.dumps(credential))})"))))
    assert configuration.api_key["BearerToken"] == "Bearer test-token-not-a-secret"
    assert "test-token" not in caplog.text


# --- found as kubectl finds it


async def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "")
    with pytest.raises(NotConfigured) as error:
        await load(None)
    assert str(error.value) == (
        "there is no kubeconfig ~/.kube/config, and the operator does not run in a pod (Service host/port is not set). "
        "Set --kubeconfig or KUBECONFIG"
    )
    file(tmp_path / "home", content("home"), ".kube/config")
    assert (await load(None)).host == "https://home.test:6443"
    monkeypatch.delenv("KUBECONFIG")
    assert (await load(None)).host == "https://home.test:6443"


async def test_a_file_that_is_missing_in_a_list_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, missing = file(tmp_path, content("there")), tmp_path / "missing"
    for listed in (f"{missing}:{there}", f"{there}:{missing}", f":{there}:", f"{there}"):
        monkeypatch.setenv("KUBECONFIG", listed)
        assert (await load(None)).host == "https://there.test:6443"
    monkeypatch.setenv("KUBECONFIG", f"{missing}:{missing}2")
    with pytest.raises(NotConfigured, match=f"there is no kubeconfig {missing}, {missing}2"):
        await load(None)


async def test_of_several_files_the_first_with_a_current_context_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = file(tmp_path, content("none", current=False), "none")
    one, two = file(tmp_path, content("one"), "one"), file(tmp_path, content("two"), "two")
    monkeypatch.setenv("KUBECONFIG", f"{none}:{one}:{two}")
    configuration = await load(None)
    assert configuration.host == "https://one.test:6443"
    assert configuration.api_key["BearerToken"] == "Bearer token-of-one"


async def test_one_bad_file_of_a_list_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = file(tmp_path, "a: [", "bad")
    monkeypatch.setenv("KUBECONFIG", f"{file(tmp_path, content())}:{bad}")
    with pytest.raises(NotConfigured, match=f"^kubeconfig {bad} is not YAML"):
        await load(None)


# --- proxies


async def test_the_environment_s_proxy_is_for_a_kubeconfig_s_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(tmp_path, content(cluster={"server": "https://10.1.2.3:6443"}))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert (await load(path)).proxy == "http://proxy:3128"
    monkeypatch.setenv("NO_PROXY", "fd00::/8,10.0.0.0/8,.svc")
    assert (await load(path)).proxy is None
    own = content(cluster={"server": "https://10.1.2.3:6443", "proxy-url": "http://own:3128"})
    assert (await load(file(tmp_path, own))).proxy == "http://own:3128", "the kubeconfig's own has precedence"


async def test_a_proxy_that_can_not_be_used_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = content(cluster={"proxy-url": "socks5://own"})
    with pytest.raises(NotConfigured, match=r"^the kubeconfig's proxy-url is not a proxy that can be used"):
        await load(file(tmp_path, own))
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy")
    with pytest.raises(NotConfigured, match=r"^HTTPS_PROXY is not a proxy that can be used"):
        await load(file(tmp_path, content()))


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is in a pod; the folder of its ServiceAccount."""
    account = tmp_path / "serviceaccount"
    file(account, "test-token-not-a-secret", "token")
    file(account, CA.pem.decode(), "ca.crt")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return account


@pytest.mark.parametrize("no_proxy", ["", "fd00::/8"])
async def test_a_pod_never_reaches_its_api_server_through_a_proxy(
    pod: Path, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    configuration = await load(None)
    assert configuration.host == "https://10.96.0.1:443"
    assert configuration.proxy is None
    assert configuration.client_session_kwargs == {"trust_env": False}


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_a_pod_without_an_account_is_reported(pod: Path, missing: str) -> None:
    (pod / missing).unlink()
    with pytest.raises(
        NotConfigured, match=r"^there is no kubeconfig .* not run in a pod \(Service .* does not exist\)\. Set"
    ):
        await load(None)


async def test_a_pod_whose_authority_is_none_is_reported(pod: Path) -> None:
    (pod / "ca.crt").write_text("x")
    with pytest.raises(NotConfigured, match=r"not run in a pod \(its certificate-authority is not a certificate"):
        await load(None)
