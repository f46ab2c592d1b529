"""What the operator imports, since that is most of its memory."""

import subprocess
import sys

LOADED = """
import sys
import vercel_certificate_operator.cli, vercel_certificate_operator.process
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def modules(code: str) -> set[str]:
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_what_only_the_kubernetes_client_without_asyncio_needs_is_not_loaded() -> None:
    loaded = modules(LOADED)
    assert "kubernetes" in loaded
    assert not loaded & {"requests", "urllib3", "oauthlib", "requests_oauthlib", "websocket", "cryptography"}


def test_it_is_loaded_for_whoever_uses_it() -> None:
    code = "import vercel_certificate_operator, kubernetes; print(kubernetes.config.load_kube_config.__module__)"
    assert modules(code) == {"kubernetes.config.kube_config"}
