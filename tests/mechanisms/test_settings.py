"""Settings: each bad value is one readable line, and no line shows a token."""

import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vercel_certificate_operator.cli import _first_problem
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.settings import Settings

TOKEN = "test-token-not-a-secret"


def problem(**given: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Settings(**given)
    return _first_problem(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.vercel.com",
        "ftp://api.vercel.com",
        "https://",
        "https://:443",
        "https:/api.vercel.com",
        "https://api.vercel.com:port",
        "https://api.vercel.com:99999",
        "https://api.vercel.com:0",
        "https://[::1",
        "https://api vercel.com",
        "https://api.vercel.com\n",
        "not a url",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    line = problem(vercel_api_url=url)
    assert line.startswith("--vercel-api-url: ")
    assert line.endswith("is not a URL: expected something like https://api.vercel.com")
    assert "\n" not in line


@pytest.mark.parametrize(
    "url", ["https://h/?a=b", "https://h/#a", "https://user@h", f"https://user:{TOKEN}@h"], ids=str
)
def test_a_url_with_more_than_a_path_is_refused_and_not_shown(url: str) -> None:
    line = problem(vercel_api_url=url)
    assert line == "--vercel-api-url: the URL may have a path, but no query, fragment, user or password"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.vercel.com", "https://api.vercel.com"),
        ("https://api.vercel.com/", "https://api.vercel.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/vercel/", "http://[::1]:8080/vercel"),
    ],
)
def test_a_url_is_kept_without_its_last_slash(url: str, kept: str) -> None:
    assert Settings(vercel_api_url=url).vercel_api_url == kept


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"team_id": "team_a", "team_slug": "a"},
            "--team-id and --team-slug are both set: name the team by one of them",
        ),
        (
            {"team_id": "acme"},
            "--team-id 'acme' is not a team's id, which begins with team_; use --team-slug?",
        ),
        ({"post_timeout": 0.5}, "--post-timeout: Input should be greater than or equal to 1"),
        ({"post_timeout": 601}, "--post-timeout: Input should be less than or equal to 600"),
        ({"post_timeout": -1}, "--post-timeout: Input should be greater than or equal to 1"),
        ({"post_timeout": float("inf")}, "--post-timeout: Input should be less than or equal to 600"),
        ({"log_format": "xml"}, "--log-format: Input should be 'text' or 'json'"),
        ({"log_level": "loud"}, "--log-level: Input should be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_bad_value_is_one_readable_line(given: dict[str, Any], line: str) -> None:
    assert problem(**given) == line


def test_a_setting_that_is_none_is_refused() -> None:
    assert problem(vercel_api_ulr="https://api.vercel.com").startswith("--vercel-api-ulr: ")


@pytest.mark.parametrize("namespace", ["", " ", "Web", "a_b", "-web", "web/a", "a" * 64])
def test_a_namespace_that_can_not_be_one_is_refused(namespace: str) -> None:
    line = problem(namespaces=("web", namespace))
    assert line.startswith("--namespace")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        ({}, Scope()),
        ({"team_id": "team_a"}, Scope(team_id="team_a")),
        ({"team_slug": "acme"}, Scope(team_slug="acme")),
        ({"team_id": "", "team_slug": ""}, Scope()),
        ({"team_id": "", "team_slug": "acme"}, Scope(team_slug="acme")),
    ],
)
def test_the_scope_of_resources_that_name_no_team(given: dict[str, Any], scope: Scope) -> None:
    assert Settings(**given).scope == scope


def test_the_defaults_work() -> None:
    settings = Settings()
    assert settings.vercel_api_url == "https://api.vercel.com"
    assert settings.post_timeout == 120.0
    assert settings.max_in_flight == 8
    assert settings.namespaces == ()


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().log_level = "debug"  # type: ignore[misc]


def test_the_token_is_not_shown() -> None:
    settings = Settings.model_validate({"vercel_token": TOKEN, "vercel_token_file": Path("token")})
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert TOKEN not in text


@pytest.mark.parametrize(
    "given",
    [
        {"vercel_token": TOKEN, "post_timeout": 0},
        {"vercel_token": TOKEN, "team_id": "team_a", "team_slug": "a"},
        {"vercel_token": [TOKEN]},
        {"vercel_tokne": TOKEN},
    ],
)
def test_no_error_shows_the_token(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(given)
    told = "".join(traceback.format_exception(refused.value))
    assert TOKEN not in told
    assert TOKEN not in _first_problem(refused.value)
