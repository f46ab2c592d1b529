"""The trusted certificate authorities and the proxy for requests to Vercel, from the environment."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import httpx

from vercel_certificate_operator.proxies import ProxyError, proxy_for


class NetworkError(ValueError):
    """The environment can't be used. The message is one line for users."""


@dataclass(frozen=True, slots=True)
class Network:
    """Created once and shared by all clients: a TLS context takes 836 KiB and 18 ms."""

    tls: ssl.SSLContext
    proxy: httpx.Proxy | None
    """None: the API is requested directly."""

    @classmethod
    def for_url(cls, url: str, environment: Mapping[str, str] | None = None) -> Self:
        """Returns what the environment sets for requests to a URL.

        ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace the built-in certificate authorities; ``proxies`` says which
        variables set a proxy.

        Args:
            url: the API's.
            environment: variables for the proxy. None: those of the process.

        Raises:
            NetworkError: the certificate authorities can't be read, or the proxy can't be used.
        """
        try:
            tls = httpx.create_ssl_context()
        except OSError as error:
            raise NetworkError(
                f"the certificate authorities of SSL_CERT_FILE or SSL_CERT_DIR can't be read: {error.strerror or error}"
            ) from None
        try:
            proxy = proxy_for(url, os.environ if environment is None else environment)
        except ProxyError as error:
            raise NetworkError(str(error)) from None
        if proxy is None:
            return cls(tls, None)
        return cls(tls, httpx.Proxy(proxy, ssl_context=tls if proxy.startswith("https:") else None))
