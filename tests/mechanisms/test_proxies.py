"""Which proxy a URL is requested through. What is expected is what Go's httpproxy says."""

import pytest

from vercel_certificate_operator.proxies import ProxyError, proxy_for

PROXY = "http://proxy:3128"


def is_direct(url: str, no_proxy: str) -> bool:
    return proxy_for(url, {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}) is None


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://api.vercel.com", {}, None),
        ("https://api.vercel.com", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://api.vercel.com", {"https_proxy": PROXY}, PROXY),
        (
            "https://api.vercel.com",
            {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"},
            "http://lower:1",
        ),
        ("https://api.vercel.com", {"HTTPS_PROXY": "http://upper:1", "https_proxy": ""}, "http://upper:1"),
        ("https://api.vercel.com", {"HTTPS_PROXY": " proxy:3128 "}, PROXY),
        ("https://api.vercel.com", {"HTTPS_PROXY": "https://user:secret@proxy"}, "https://user:secret@proxy"),
        ("https://api.vercel.com", {"HTTP_PROXY": PROXY}, None),
        ("http://api.vercel.com", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://api.vercel.com", {"HTTPS_PROXY": PROXY}, None),
        # Go does not know ALL_PROXY.
        ("https://api.vercel.com", {"ALL_PROXY": PROXY}, PROXY),
        ("https://api.vercel.com", {"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, PROXY),
    ],
)
def test_the_proxy_of_the_environment(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, environment) == proxy


@pytest.mark.parametrize(
    "url", ["https://localhost:8443", "https://LOCALHOST", "http://127.0.0.1:1", "https://127.8.9.1", "https://[::1]:1"]
)
def test_loopback_never_goes_through_a_proxy(url: str) -> None:
    assert is_direct(url, "")


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("*", ["https://api.vercel.com", "https://10.0.0.1"], []),
        (
            "10.0.0.0/8",
            ["https://10.1.2.3:6443", "https://[::ffff:10.0.0.1]"],
            ["https://11.0.0.1", "https://ten.test"],
        ),
        ("10.1.2.3/8", ["https://10.9.9.9"], ["https://11.0.0.1"]),
        ("fd00::/8", ["https://[fd00:1::2]:6443"], ["https://[fe80::1]", "https://10.0.0.1"]),
        ("10.0.0.1", ["https://10.0.0.1", "https://10.0.0.1:6443"], ["https://10.0.0.2"]),
        ("fd00::1", ["https://[fd00::1]:6443", "https://[fd00:0::1]"], ["https://[fd00::2]"]),
        ("10.0.0.1:6443", ["https://10.0.0.1:6443"], ["https://10.0.0.1"]),
        ("[fd00::1]:443", ["https://[fd00::1]"], ["https://[fd00::1]:6443"]),
        (".svc", ["https://kubernetes.default.svc"], ["https://svc", "https://api.svc.test"]),
        ("*.svc", ["https://kubernetes.default.svc"], ["https://svc"]),
        (
            "vercel.com",
            ["https://vercel.com", "https://api.vercel.com", "https://API.Vercel.Com"],
            ["https://xvercel.com"],
        ),
        ("VERCEL.COM", ["https://api.vercel.com"], []),
        ("vercel.com:443", ["https://api.vercel.com"], ["https://api.vercel.com:8443", "http://api.vercel.com"]),
        ("vercel.com:80", ["http://api.vercel.com"], ["https://api.vercel.com"]),
        ("müller.example", ["https://xn--mller-kva.example", "https://a.müller.example"], ["https://muller.example"]),
        (" 10.0.0.0/8 , .svc,,", ["https://10.0.0.1", "https://a.svc"], ["https://api.vercel.com"]),
        ("10.0.0.0/8 .svc", [], ["https://10.0.0.1", "https://a.svc"]),
        (
            "10.0.0.0/33,10.0.0.0/255.0.0.0,10.0.0.0/8:443,/8,:443,[fd00::1],[",
            [],
            ["https://10.0.0.1", "https://[fd00::1]"],
        ),
        ("1", [], ["https://10.0.0.1"]),
    ],
)
def test_what_no_proxy_excepts(no_proxy: str, direct: list[str], proxied: list[str]) -> None:
    assert [url for url in direct if not is_direct(url, no_proxy)] == []
    assert [url for url in proxied if is_direct(url, no_proxy)] == []


@pytest.mark.parametrize(
    "proxy", ["socks5://proxy:1080", "ftp://proxy", "http://proxy:port", "http://:3128", "http://", "http://user:pw@"]
)
def test_a_proxy_that_can_not_be_used_is_an_error_that_shows_no_password(proxy: str) -> None:
    with pytest.raises(ProxyError) as error:
        proxy_for("https://api.vercel.com", {"https_proxy": proxy})
    expected = "https_proxy is not a proxy that can be used: expected something like http://proxy:3128"
    assert str(error.value) == expected
    assert proxy_for("https://api.vercel.com", {"https_proxy": proxy, "no_proxy": "vercel.com"}) is None
