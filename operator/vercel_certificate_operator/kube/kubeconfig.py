"""The address of the Kubernetes API and the credentials, from a kubeconfig or from the pod.

The library reads kubeconfigs. This module checks them first, because the library raises obscure errors for many
mistakes and overlooks others. It finds the files as kubectl does.
"""

import ast
import binascii
import logging
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import kube_config

from vercel_certificate_operator.proxies import ProxyError, checked_proxy, proxy_for

DEFAULT = Path("~/.kube/config")
_LISTS = ("clusters", "contexts", "users")


class NotConfigured(Exception):
    """There is no usable configuration for a cluster. The message is one line for users."""


async def load(kubeconfig: Path | None) -> Configuration:
    """Returns the configuration for the Kubernetes API.

    Args:
        kubeconfig: the file. None: the pod's own account, or else the files of ``KUBECONFIG``, or ``~/.kube/config``.

    Raises:
        NotConfigured: there is no usable configuration.
    """
    configuration = Configuration(host="")
    if kubeconfig is not None:
        await _load_files([kubeconfig], configuration)
    elif (why_not := _load_from_pod(configuration)) is not None:
        files = _found()
        if not any(_exists(file) for file in files):
            missing = ", ".join(map(str, files))
            raise NotConfigured(
                f"there is no kubeconfig {missing}, and the operator does not run in a pod ({why_not.rstrip('.')}). "
                "Set --kubeconfig or KUBECONFIG"
            )
        await _load_files([file for file in files if _exists(file)], configuration)
    # ``proxies`` resolves the environment's proxy once. A session would do it for each request, in a thread.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


def _load_from_pod(configuration: Configuration) -> str | None:
    """Loads the pod's own account. Returns why that is not possible; None if it is done.

    The API server of the pod's own cluster is never requested through a proxy.
    """
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        _check_tls(configuration)
    except (config.ConfigException, OSError) as error:
        return _one_line(error)
    return None


def _found() -> list[Path]:
    """Returns the files that kubectl would read. An empty ``KUBECONFIG`` counts as unset."""
    named = [Path(name) for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    return named or [DEFAULT]


def _exists(file: Path) -> bool:
    return file.expanduser().exists()


async def _load_files(files: Sequence[Path], configuration: Configuration) -> None:
    """Loads kubeconfigs. The first one takes precedence."""
    where = f"kubeconfig {':'.join(map(str, files))}"
    contents = [_read(file) for file in files]
    # As in kubectl, the first file with a current context decides. In the library, the last does.
    context = next((name for content in contents if (name := content.get("current-context"))), None)
    _check_context(contents, context, where)
    try:
        with _errors_of_the_library():
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                os.pathsep.join(str(file.expanduser()) for file in files),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
        _check_server(configuration)
        _check_tls(configuration)
        configuration.proxy = _proxy(configuration)
    except ProxyError as error:
        raise NotConfigured(str(error)) from error
    except binascii.Error as error:
        raise NotConfigured(f"{where} can't be used: its certificate or key data is not base64") from error
    except (config.ConfigException, OSError, ValueError) as error:
        raise NotConfigured(f"{where} can't be used: {_one_line(error)}") from error
    except (TypeError, KeyError, AttributeError) as error:
        raise NotConfigured(f"{where} is not a valid kubeconfig: {_one_line(error)}") from error


def _check_context(contents: Sequence[dict[str, Any]], context: object, where: str) -> None:
    """Raises NotConfigured if no context is current, or the files don't have it."""
    if not context:
        raise NotConfigured(f"{where} has no current context. Choose one: kubectl config use-context NAME")
    names = [entry["name"] for content in contents for entry in content.get("contexts") or []]
    if context not in names:
        there = ", ".join(map(str, names)) or "none"
        raise NotConfigured(f"{where} has no context {context}, which is its current context (it has: {there})")


def _read(file: Path) -> dict[str, Any]:
    """Returns the content of a kubeconfig. Raises NotConfigured if it is not one."""
    try:
        content = yaml.safe_load(file.expanduser().read_text())
    except OSError as error:
        raise NotConfigured(f"kubeconfig {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotConfigured(f"kubeconfig {file} is not text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise NotConfigured(f"kubeconfig {file} is not YAML: {getattr(error, 'problem', error)}{line}") from error
    if content is None:
        raise NotConfigured(f"kubeconfig {file} is empty")
    if not isinstance(content, dict):
        raise NotConfigured(f"kubeconfig {file} is not a kubeconfig: it holds no {', '.join(_LISTS)}")
    for name in _LISTS:
        entries = content.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
            raise NotConfigured(f"kubeconfig {file} is not a kubeconfig: its {name} are not a list of named entries")
    return content


@contextmanager
def _errors_of_the_library() -> Iterator[None]:
    """Raises what the library only logs: it continues without credentials after an exec plugin has failed."""
    logger, errors = logging.getLogger(kube_config.__name__), _Errors()
    logger.addFilter(errors)
    try:
        yield
    finally:
        logger.removeFilter(errors)
    if errors.messages:
        raise config.ConfigException(f"its exec plugin failed: {_readable(errors.messages[0])}")


class _Errors(logging.Filter):
    """Removes errors from a log and keeps their messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        self.messages.append(record.getMessage())
        return False


def _readable(message: str) -> str:
    """Returns a message of the library about an exec plugin, without the Python literal of the plugin's output."""
    message = re.sub(r"\[Errno \d+\] ", "", message.removeprefix("exec: "))
    return re.sub(r"b(['\"]).*\1$", lambda found: ast.literal_eval(found[0]).decode(errors="replace"), message)


def _check_server(configuration: Configuration) -> None:
    server = configuration.host
    if not server:
        raise config.ConfigException("its cluster has no server")
    try:
        parts = urlsplit(server)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise config.ConfigException(f"its server {server!r} is not a URL: expected something like https://host:6443")


def _check_tls(configuration: Configuration) -> None:
    """Checks the certificates. The library would not say which of them it can't use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if configuration.ssl_ca_cert:
        try:
            context.load_verify_locations(configuration.ssl_ca_cert)
        except ssl.SSLError as error:
            raise config.ConfigException("its certificate-authority is not a certificate in PEM format") from error
    if configuration.cert_file:
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(configuration.cert_file, configuration.key_file, password="")
        except ssl.SSLError as error:
            raise config.ConfigException(
                "its client-certificate and client-key are not a certificate and its key in PEM format"
            ) from error


def _proxy(configuration: Configuration) -> str | None:
    if configuration.proxy is not None:
        return checked_proxy("the kubeconfig's proxy-url", configuration.proxy)
    return proxy_for(configuration.host, os.environ)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace("File does not exists: ", "there is no file ")
