"""Which proxy is used for a URL: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

They are read as kubectl and other Go programs read them (golang.org/x/net/http/httpproxy), because what works for those
should work here. The HTTP libraries of Python differ: none of them knows address ranges such as ``10.0.0.0/8``, and
httpx rejects those of IPv6. In two points this goes beyond Go: ALL_PROXY counts if there is no other, as in curl, and a
proxy that can't be used is an error.

Pure: the environment is an argument.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ProxyError(ValueError):
    """The environment names a proxy that can't be used. The message is one line, for users."""


def proxy_for(url: str, environment: Mapping[str, str]) -> str | None:
    """Returns the URL of the proxy for a URL; None if no proxy is used.

    Hosts named ``localhost`` and loopback addresses are always requested directly.

    Args:
        url: http or https.
        environment: the variables by name. Names in lower case take precedence.

    Raises:
        ProxyError: the proxy is not an http:// or https:// URL.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    variable, proxy = _first(environment, f"{scheme.upper()}_PROXY", "ALL_PROXY")
    _, exceptions = _first(environment, "NO_PROXY")
    if not proxy or _is_local(host) or _is_excepted(host, parts.port or _DEFAULT_PORTS.get(scheme), exceptions):
        return None
    return checked_proxy(variable, proxy)


def checked_proxy(name: str, proxy: str) -> str:
    """Returns the URL of a proxy.

    Args:
        name: of what sets it, for the message.
        proxy: what it is set to. ``proxy:3128`` is what many write, and means http.

    Raises:
        ProxyError: it is not an http:// or https:// URL.
    """
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # The value isn't shown: it may hold a password.
        raise ProxyError(f"{name} is not a proxy that can be used: expected something like http://proxy:3128")
    return url


def _first(environment: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Returns the first variable that is set and not empty, and its value; two empty strings if there is none."""
    for name in names:
        for variable in (name.lower(), name):
            if value := environment.get(variable, "").strip():
                return variable, value
    return "", ""


def _is_local(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_excepted(host: str, port: int | None, exceptions: str) -> bool:
    host, address = _ascii(host), _address(host)
    return any(_matches(entry.strip().lower(), host, address, port) for entry in exceptions.split(","))


def _matches(entry: str, host: str, address: Address | None, port: int | None) -> bool:
    """Returns whether one entry of NO_PROXY matches a host."""
    if entry == "*":
        return True
    if (network := _network(entry)) is not None:
        return address is not None and address in network
    name, entry_port = _split_port(entry)
    if not name or (entry_port and entry_port != str(port)):
        return False
    if (one := _address(name)) is not None:
        return one == address
    if address is not None:
        return False
    # A domain stands for itself and everything below it; with "." or "*." in front, only for what is below it.
    domain = _ascii(name[1:] if name.startswith("*.") else name)
    return host.endswith(domain) if domain.startswith(".") else host == domain or host.endswith(f".{domain}")


def _split_port(entry: str) -> tuple[str, str]:
    """Returns the host and the port of ``host:port`` or ``[IPv6]:port``. Anything else is a host without a port."""
    name, colon, port = entry.rpartition(":")
    if colon and name.startswith("[") and name.endswith("]"):
        return name[1:-1], port
    return (name, port) if colon and ":" not in name else (entry, "")


def _network(entry: str) -> Network | None:
    """Returns the address range in CIDR notation; None if it is something else."""
    if not entry.rpartition("/")[2].isdecimal() or "/" not in entry:
        return None
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _address(host: str) -> Address | None:
    """Returns the IP address; None if it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _ascii(name: str) -> str:
    """Returns a name in its ASCII form: ``müller.example`` is ``xn--mller-kva.example``."""
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name
