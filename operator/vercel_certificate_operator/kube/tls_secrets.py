"""TLS Secrets whose certificates are uploaded."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.kube.errors import Denied, Gone
from vercel_certificate_operator.kube.secrets import Secrets
from vercel_certificate_operator.vercel import Upload

MOST_KEPT = 2**20
"""Characters of what is remembered of Secrets that were checked: public texts of some kilobytes each."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a Secret held, without its key."""

    version: Hashable
    found: tuple[Source, str, str] | SourceProblem
    """The certificate, and the PEM texts of it and of its chain."""

    @property
    def size(self) -> int:
        if isinstance(self.found, SourceProblem):
            return len(self.found.message) + len(self.found.advice)
        source, cert, ca = self.found
        return len(cert) + len(ca) + sum(map(len, source.cns))


class TlsSecrets:
    """The certificates in TLS Secrets.

    To check one takes some milliseconds, in which nothing else runs. So what was found is remembered until the Secret
    changes: many resources may name it, and each reads it when its annotations change.
    """

    def __init__(self, secrets: Secrets, *, allowed: bool) -> None:
        """
        Args:
            allowed: whether this operator uploads certificates at all.
        """
        self._secrets = secrets
        self._allowed = allowed
        self._checked: dict[tuple[str, str], _Checked] = {}
        """What is remembered of each Secret. What was used last is last."""
        self._size = 0

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
            self._forget((namespace, name))
            return SourceProblem(f"{where} does not exist", "Create it, or correct spec.certificateSecretRef")
        except Denied as error:
            return SourceProblem(
                f"The operator may not read {where}: {error.message}", "Ask the administrator of the operator"
            )
        from vercel_certificate_operator.kube import tls_contents  # with the first Secret: it needs much memory

        version = _version_of(secret)
        before = self._forget((namespace, name))
        if before is not None and before.version == version:
            self._remember((namespace, name), before)
            if isinstance(before.found, SourceProblem):
                return before.found
            source, cert, ca = before.found
            return source, Upload(cert, tls_contents.key_in(secret), ca)
        found = tls_contents.read(secret, where)
        without_key = found if isinstance(found, SourceProblem) else (found[0], found[1].cert, found[1].ca)
        self._remember((namespace, name), _Checked(version, without_key))
        return found

    def _remember(self, which: tuple[str, str], checked: _Checked) -> None:
        self._checked[which] = checked
        self._size += checked.size
        while self._size > MOST_KEPT:
            self._forget(next(iter(self._checked)))

    def _forget(self, which: tuple[str, str]) -> _Checked | None:
        checked = self._checked.pop(which, None)
        if checked is not None:
            self._size -= checked.size
        return checked


def _version_of(secret: Mapping[str, Any]) -> Hashable:
    """Returns which version of which Secret it is. After a restore of etcd, a resourceVersion can come again."""
    metadata, data = secret["metadata"], secret.get("data") or {}
    texts = (hash(data.get("tls.crt")), hash(data.get("ca.crt")))
    return metadata.get("uid"), metadata.get("resourceVersion"), *texts
