"""The operator's settings, from flags and the environment.

One precedence: a flag beats its environment variable, which beats the default.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from vercel_certificate_operator.core.certificate import Scope


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


Namespace = Annotated[str, AfterValidator(_namespace)]


class Settings(BaseModel):
    """Everything that ``run`` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kubeconfig: Path | None = None
    namespaces: tuple[Namespace, ...] = ()
    """Namespaces to serve; none: all of them."""
    vercel_api_url: Annotated[str, AfterValidator(_api_url)] = "https://api.vercel.com"
    vercel_token_file: Path | None = None
    vercel_token: SecretStr | None = None
    default_token_namespaces: tuple[Namespace, ...] = ()
    """Namespaces whose resources may use the default token; none: all of them."""
    team_id: str | None = None
    team_slug: str | None = None
    post_timeout: Annotated[float, Field(ge=1, le=600)] = 120.0
    """Seconds that a POST to Vercel may take."""
    max_in_flight: Annotated[int, Field(ge=1, le=100)] = 8
    """Calls to Vercel at a time, per token."""
    drift_interval: Annotated[float, Field(ge=1)] = 6 * 3600.0
    """Seconds between two listings of a scope that show what has changed at Vercel."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def one_team(self) -> Self:
        """A team is named by its id or by its slug."""
        if self.team_id and self.team_slug:
            raise ValueError("--team-id and --team-slug are both set: name the team by one of them")
        if self.team_id and not self.team_id.startswith("team_"):
            raise ValueError(
                f"--team-id {self.team_id!r} is not a team's id, which begins with team_; use --team-slug?"
            )
        return self

    @property
    def scope(self) -> Scope:
        """Where certificates of resources without ``spec.team`` live."""
        return Scope(team_id=self.team_id or None, team_slug=self.team_slug or None)
