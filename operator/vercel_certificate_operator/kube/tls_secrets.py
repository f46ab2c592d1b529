"""TLS Secrets whose certificates are uploaded."""

from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.kube.errors import Denied, Gone
from vercel_certificate_operator.kube.secrets import Secrets
from vercel_certificate_operator.vercel import Upload


class TlsSecrets:
    """The certificates in TLS Secrets."""

    def __init__(self, secrets: Secrets, *, allowed: bool) -> None:
        """
        Args:
            allowed: whether this operator uploads certificates at all.
        """
        self._secrets = secrets
        self._allowed = allowed

    async def source(self, namespace: str, name: str) -> Source | SourceProblem:
        """Returns what a Secret holds, or why it can't be uploaded. Raises KubeError if it can't be read for now."""
        found = await self.read(namespace, name)
        return found if isinstance(found, SourceProblem) else found[0]

    async def read(self, namespace: str, name: str) -> tuple[Source, Upload] | SourceProblem:
        """Returns what a Secret holds, with its key; see ``source``."""
        where = f"Secret {namespace}/{name}"
        if not self._allowed:
            return SourceProblem(
                "This operator uploads no certificates: its administrator turned that off",
                "Ask the administrator, or remove spec.certificateSecretRef",
                read=False,
            )
        try:
            secret = await self._secrets.get(namespace, name)
        except Gone:
            return SourceProblem(f"{where} does not exist", "Create it, or correct spec.certificateSecretRef")
        except Denied as error:
            return SourceProblem(
                f"The operator may not read {where}: {error.message}", "Ask the administrator of the operator"
            )
        from vercel_certificate_operator.kube import tls_contents  # with the first Secret: it needs much memory

        return tls_contents.read(secret, where)
