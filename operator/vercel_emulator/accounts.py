"""Who may ask, and where they are at home: tokens, users and teams."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vercel_emulator.errors import ApiError
from vercel_emulator.models import DEFAULT_USER, PERSONAL, TokenGrant, TokenView, token_name

_TEAM_ID = re.compile(r"team_[A-Za-z0-9]+")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A valid token. ``teams`` are the ids that it may use; None: all."""

    name: str
    user: str
    teams: frozenset[str] | None = None

    def view(self) -> TokenView:
        """As the control API shows it."""
        return TokenView(name=self.name, user=self.user, teams=None if self.teams is None else sorted(self.teams))


class Accounts:
    """The tokens (by name only: none is kept) and the teams. Both can be changed at any time."""

    def __init__(self, tokens: Iterable[str], teams: Mapping[str, str]) -> None:
        self._initial_tokens = tuple(tokens)
        self._initial_teams = dict(teams)
        self.tokens: dict[str, Token] = {}
        self.teams: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Back to the tokens and teams of the beginning."""
        self.tokens.clear()
        self.teams.clear()
        for team, slug in self._initial_teams.items():
            self.add_team(team, slug)
        for token in self._initial_tokens:
            self.grant(TokenGrant(token=token))

    def grant(self, grant: TokenGrant) -> Token:
        """Make a token valid. Raises ValueError if it can't be one, or for a team that does not exist."""
        if not _TOKEN.fullmatch(grant.token):
            raise ValueError("a token is printable ASCII without spaces, and not empty")
        if unknown := set(grant.teams or ()) - set(self.teams):
            raise ValueError(f"there is no team {min(unknown)}")
        teams = None if grant.teams is None else frozenset(grant.teams)
        token = Token(name=token_name(grant.token), user=grant.user, teams=teams)
        self.tokens[token.name] = token
        return token

    def revoke(self, token: str) -> bool:
        """Make a token (or the one of this name) invalid; False if it was not valid."""
        return self.tokens.pop(token_name(token), None) is not None

    def add_team(self, team: str, slug: str) -> None:
        """Add a team, or give it another slug. Raises ValueError for a malformed id or slug, or one that is taken."""
        if not _TEAM_ID.fullmatch(team):
            raise ValueError(f"{team!r} is not a team's id: it is team_ with letters and digits, like team_1a2b3c")
        if not _SLUG.fullmatch(slug):
            raise ValueError(f"{slug!r} is not a team's slug: it is lower-case letters, digits and single hyphens")
        if slug in (other_slug for other, other_slug in self.teams.items() if other != team):
            raise ValueError(f"the slug {slug} is another team's already")
        self.teams[team] = slug

    def remove_team(self, team: str) -> bool:
        """Remove a team; False if there is none. Its certificates stay, and are out of reach."""
        return self.teams.pop(team, None) is not None

    def knows_scope(self, scope: str) -> bool:
        """Whether a certificate can be at home there."""
        users = {token.user for token in self.tokens.values()} | {DEFAULT_USER}
        return scope in self.teams or scope in {PERSONAL + user for user in users}

    def authenticate(self, authorization: str | None, refusal: int) -> Token:
        """The token of an Authorization header. Raises ApiError with the status ``refusal`` (401 or 403)."""
        secret = bearer(authorization)
        token = None if secret is None else self.tokens.get(token_name(secret))
        if token is not None:
            return token
        reason = "missingToken" if secret is None else "invalidToken"
        message = "The request has no bearer token." if secret is None else "The token is not valid."
        code = "unauthorized_request_error" if refusal == 401 else "forbidden"
        raise ApiError(refusal, code, message, fields={reason: True})

    def scope(self, token: Token, team_id: str | None, slug: str | None) -> str:
        """Where a request is at home: the team of ``teamId`` or ``slug``, else the token's user.

        Raises ApiError: 400 if the two are different teams, 403 if the token may not use the team, or there is none.
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
    """The token in an Authorization header; None if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
