"""The operator's settings, from flags and the environment, and all their defaults.

A flag takes precedence over its environment variable, which takes precedence over the default.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.durations import parse_duration
from vercel_certificate_operator.core.selector import Selector

ALL_NAMESPACES = "*"
"""In ``default_token_namespaces``: every namespace may use the default token."""


def _api_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} is not a URL: expected something like https://api.vercel.com")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("the URL may have a path, but no query, fragment, user or password")
    return text.rstrip("/")


def _namespace(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not the name of a namespace: lower-case letters, digits and hyphens")
    return text


def _lease_name(text: str) -> str:
    label = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(\.{label})*", text):
        raise ValueError(f"{text!r} is not the name of a Lease: lower-case letters, digits, hyphens and dots")
    return text


def _default_token_namespace(text: str) -> str:
    return text if text == ALL_NAMESPACES else _namespace(text)


def _seconds(value: object) -> object:
    """Returns the seconds of ``90``, ``90s`` or ``1h30m``. Leaves other types as they are, for Pydantic to check."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    try:
        return parse_duration(value).total_seconds()
    except ValueError:
        raise ValueError(
            f"{value!r} is not a duration: use seconds, or h, m and s, as in 90, 90s, 1h30m or 6h"
        ) from None


def _selector(value: object) -> object:
    return Selector.parse(value) if isinstance(value, str) else value


class Address(NamedTuple):
    """An address to listen on."""

    host: str | None
    """None: on all addresses of the machine."""
    port: int

    def __str__(self) -> str:
        """Returns it as a user writes it, such as ``:8080``."""
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]*):([0-9]{1,5})", value)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{value!r} is not an address to listen on: expected something like :8080 or 127.0.0.1:8080")
    return Address(match[1].strip("[]") or None, int(match[2]))


Namespace = Annotated[str, AfterValidator(_namespace)]
Seconds = BeforeValidator(_seconds)


class Settings(BaseModel):
    """The settings of ``run``, with all their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kubeconfig: Path | None = None
    namespaces: tuple[Namespace, ...] = ()
    """Namespaces to serve; none: all of them."""
    selector: Annotated[Selector, BeforeValidator(_selector)] = Selector()
    """Labels of the resources to serve. Others are not seen."""
    leader_elect: bool = False
    """Whether only the holder of a Lease makes changes, so that there can be several replicas."""
    lease_name: Annotated[str, AfterValidator(_lease_name)] = "vercel-certificate-operator"
    lease_namespace: Namespace | None = None
    """None: the pod's own."""
    lease_duration: Annotated[int, Seconds, Field(ge=5, le=600)] = 15
    """Seconds after which another replica takes the Lease of a leader that has not renewed it."""
    listen: Annotated[Address | None, BeforeValidator(_address)] = None
    """The address of the HTTP server for probes and metrics. None: there is no server."""
    metrics_per_certificate: bool = True
    """Whether there are metrics of each certificate, or of all together only."""
    vercel_api_url: Annotated[str, AfterValidator(_api_url)] = "https://api.vercel.com"
    vercel_token_file: Path | None = None
    vercel_token: SecretStr | None = None
    default_token_namespaces: tuple[Annotated[str, AfterValidator(_default_token_namespace)], ...] = ()
    """Namespaces whose resources may use the default token. ``*`` stands for all of them; none: nobody may."""
    team_id: str | None = None
    team_slug: str | None = None
    post_timeout: Annotated[float, Seconds, Field(ge=1, le=600)] = 120.0
    """Seconds that a POST to Vercel may take."""
    call_timeout: Annotated[float, Field(ge=1)] = 30.0
    """Seconds that any other request to Vercel may take. There is no flag for it."""
    max_in_flight: Annotated[int, Field(ge=1, le=100)] = 8
    """Maximum number of concurrent requests to Vercel per token."""
    uploads: bool = True
    """Whether certificates may be uploaded from Secrets."""
    source_poll_interval: Annotated[float, Seconds, Field(ge=1, le=86400)] = 600.0
    """Seconds between two reads of a Secret whose certificate is uploaded."""
    issuance_limit: Annotated[int, Field(ge=1, le=1000)] = 5
    """Issuances per resource and week without a request of the user."""
    drift_interval: Annotated[float, Seconds, Field(ge=1, le=365 * 86400)] = 6 * 3600.0
    """Seconds between two lists of a scope that show what has changed at Vercel."""
    longest_sleep: Annotated[float, Field(ge=1)] = 3600.0
    """Seconds after which a resource is reconciled again in any case: the wall clock may have been set meanwhile.

    There is no flag for it.
    """
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def one_team(self) -> Self:
        """Requires that at most one of a team's id and slug is set."""
        if self.team_id and self.team_slug:
            raise ValueError("--team-id and --team-slug are both set: name the team by one of them")
        if self.team_id and not self.team_id.startswith("team_"):
            raise ValueError(
                f"--team-id {self.team_id!r} is not a team's id, which begins with team_; use --team-slug?"
            )
        return self

    @model_validator(mode="after")
    def default_token_is_for_somebody(self) -> Self:
        """Requires namespaces that may use the default token, if there is one."""
        if self.has_default_token and not self.default_token_namespaces:
            raise ValueError(
                "there is a default token, but no namespace may use it: set --default-token-namespace to the "
                "namespaces whose resources may use it, or to '*' for all of them"
            )
        return self

    @property
    def has_default_token(self) -> bool:
        """Whether there is a default token."""
        return self.vercel_token_file is not None or self.vercel_token is not None

    @property
    def scope(self) -> Scope:
        """The scope of resources without ``spec.team``."""
        return Scope(team_id=self.team_id or None, team_slug=self.team_slug or None)
