"""Tokens, users and teams: who can call, and for which scope."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError
from vercel_emulator.models import DEFAULT_USER, NO_TEAM, PERSONAL, Behaviour, TokenGrant, TokenView, token_name

_TEAM_ID = re.compile(r"team_[A-Za-z0-9]+")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A valid token.

    Attributes:
        name: The token's name (see ``models.token_name``).
        user: The user that it belongs to.
        teams: The ids of the teams that it can use; None for all.
        expires_at: When it expires, in epoch milliseconds; None for never.
    """

    name: str
    user: str
    teams: frozenset[str] | None = None
    expires_at: int | None = None

    def view(self) -> TokenView:
        """Return what the control API shows."""
        teams = None if self.teams is None else sorted(self.teams)
        return TokenView(name=self.name, user=self.user, teams=teams, expires_at=self.expires_at)


class Accounts:
    """The valid tokens and the teams. Both can be changed at any time.

    Attributes:
        tokens: The tokens by name, including expired ones. The tokens themselves are not stored.
        teams: Slugs by team id.
    """

    def __init__(self, tokens: Iterable[str], teams: Mapping[str, str], clock: Clock) -> None:
        """Add the initial tokens and teams.

        Args:
            tokens: Bearer tokens of one user, for all teams.
            teams: Slugs by team id.
            clock: The emulator's clock.

        Raises:
            ValueError: A token or a team is malformed.
        """
        self._clock = clock
        self._initial_tokens = tuple(tokens)
        self._initial_teams = dict(teams)
        self.tokens: dict[str, Token] = {}
        self.teams: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Restore the initial tokens and teams."""
        self.tokens.clear()
        self.teams.clear()
        for team, slug in self._initial_teams.items():
            self.add_team(team, slug)
        for token in self._initial_tokens:
            self.grant(TokenGrant(token=token))

    def grant(self, grant: TokenGrant) -> Token:
        """Make a token valid, or change a valid one.

        Raises:
            ValueError: The token is malformed, or a team does not exist.
        """
        if not _TOKEN.fullmatch(grant.token):
            raise ValueError("a token is printable ASCII without spaces, and not empty")
        if unknown := set(grant.teams or ()) - set(self.teams):
            raise ValueError(f"there is no team {min(unknown)}")
        teams = None if grant.teams is None else frozenset(grant.teams)
        token = Token(name=token_name(grant.token), user=grant.user, teams=teams, expires_at=grant.expires_at)
        self.tokens[token.name] = token
        return token

    def revoke(self, token: str) -> bool:
        """Make a token invalid.

        Args:
            token: The token, or its name.

        Returns:
            Whether it was valid.
        """
        return self.tokens.pop(token_name(token), None) is not None

    def add_team(self, team: str, slug: str) -> None:
        """Add a team, or change its slug.

        Raises:
            ValueError: The id or the slug is malformed, or another team has the slug.
        """
        if not _TEAM_ID.fullmatch(team):
            raise ValueError(f"{team!r} is not a team id: use team_ with letters and digits, like team_1a2b3c")
        if not _SLUG.fullmatch(slug):
            raise ValueError(f"{slug!r} is not a team slug: use lower-case letters, digits and single hyphens")
        if slug in (other_slug for other, other_slug in self.teams.items() if other != team):
            raise ValueError(f"another team's slug is {slug}: choose a different one")
        self.teams[team] = slug

    def remove_team(self, team: str) -> bool:
        """Remove a team. Its certificates remain, but no request reaches them.

        Returns:
            Whether the team existed.
        """
        return self.teams.pop(team, None) is not None

    def knows_scope(self, scope: str) -> bool:
        """Return whether a scope exists: a team, or the personal scope of a token's user."""
        users = {token.user for token in self.tokens.values()} | {DEFAULT_USER}
        return scope in self.teams or scope in {PERSONAL + user for user in users}

    def team_names(self, team_id: str | None, slug: str | None) -> frozenset[str]:
        """Return the names by which a fault can mean the team of a request.

        Args:
            team_id: The query parameter ``teamId``.
            slug: The query parameter ``slug``.

        Returns:
            The team's id and slug, also if there is no such team; ``personal`` if the request names no team.
        """
        named = {name for name in (team_id, slug) if name is not None}
        known = [{team, its_slug} for team, its_slug in self.teams.items() if team == team_id or its_slug == slug]
        return frozenset(named.union(*known) or {NO_TEAM})

    def authenticate(self, authorization: str | None, behaviour: Behaviour) -> Token:
        """Find the token of a request.

        Args:
            authorization: The Authorization header.
            behaviour: The switches, which say how to refuse it.

        Returns:
            The valid token.

        Raises:
            ApiError: There is no token, or it is not valid.
        """
        status = behaviour.unknown_token_status
        code = "unauthorized_request_error" if status == 401 else "forbidden"
        secret = bearer(authorization)
        if secret is None:
            raise ApiError(status, code, "Not authorized: the request has no bearer token.")
        token = self.tokens.get(token_name(secret))
        expired = token is not None and token.expires_at is not None and token.expires_at <= self._clock.now_ms()
        if token is not None and not expired:
            return token
        message = "The token has expired." if expired else "The token is not valid."
        raise ApiError(status, code, message, fields={"invalidToken": True} if behaviour.invalid_token else {})

    def scope(self, token: Token, team_id: str | None, slug: str | None) -> str:
        """Find the scope of a request.

        Args:
            token: The request's token.
            team_id: The query parameter ``teamId``.
            slug: The query parameter ``slug``.

        Returns:
            The id of the team, or the personal scope of the token's user if the request names no team.

        Raises:
            ApiError: 400 if ``teamId`` and ``slug`` are different teams; 403 if the team does not exist or the token
                can't use it.
        """
        if team_id is None and slug is None:
            return PERSONAL + token.user
        by_slug = next((team for team, its_slug in self.teams.items() if its_slug == slug), None)
        team = by_slug if team_id is None else team_id
        if team is None or team not in self.teams or (token.teams is not None and team not in token.teams):
            shown = (team_id if team_id is not None else slug or "")[:100]
            raise ApiError(403, "forbidden", f"The token may not use the team {shown!r}, or there is none.")
        if slug is not None and by_slug != team:
            raise ApiError(400, "bad_request", "`teamId` and `slug` are different teams: give one of them.")
        return team


def bearer(authorization: str | None) -> str | None:
    """Return the token in an Authorization header, or None if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
