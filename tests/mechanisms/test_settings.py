"""Settings: each bad value is one readable line, and no line shows a token."""

import re
import traceback
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import ValidationError

from vercel_certificate_operator.cli import first_problem, run
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.settings import Settings

TOKEN = "test-token-not-a-secret"
NO_FLAGS = {"vercel_token", "call_timeout", "longest_sleep"}
"""Settings that are a variable of the environment, or a test's."""
SHOWN = {
    "kubeconfig": "the pod's own account, else KUBECONFIG or ~/.kube/config",
    "namespaces": "all namespaces",
    "selector": "all resources",
    "leader_elect": "off",
    "lease_namespace": "the pod's namespace",
    "lease_duration": "15s",
    "listen": "off",
    "metrics_per_certificate": "on",
    "vercel_token_file": "no default token",
    "default_token_namespaces": None,
    "team_id": None,
    "team_slug": None,
    "post_timeout": "2m",
    "drift_interval": "6h",
    "source_poll_interval": "10m",
    "uploads": "on",
}
"""How defaults are shown that are not shown as they are; None: not at all."""


def problem(**given: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        Settings(**given)
    return first_problem(refused.value)


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
        ({"post_timeout": 0.5}, "--post-timeout: must be at least 1s"),
        ({"post_timeout": 601}, "--post-timeout: must be at most 10m"),
        ({"post_timeout": "11m"}, "--post-timeout: must be at most 10m"),
        ({"post_timeout": -1}, "--post-timeout: must be at least 1s"),
        ({"post_timeout": float("inf")}, "--post-timeout: must be at most 10m"),
        (
            {"drift_interval": "soon"},
            "--drift-interval: 'soon' is not a duration: use seconds, or h, m and s, as in 90, 90s, 1h30m or 6h",
        ),
        ({"drift_interval": "9" * 400}, "--drift-interval: must be at most 8760h"),
        ({"lease_duration": "15.5"}, "--lease-duration: must be a whole number of seconds"),
        ({"lease_duration": "4s"}, "--lease-duration: must be at least 5s"),
        ({"max_in_flight": 0}, "--max-in-flight: must be at least 1"),
        ({"issuance_limit": 0}, "--issuance-limit: must be at least 1"),
        ({"issuance_limit": 1001}, "--issuance-limit: must be at most 1000"),
        ({"log_format": "xml"}, "--log-format: Input should be 'text' or 'json'"),
        ({"log_level": "loud"}, "--log-level: Input should be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_bad_value_is_one_readable_line(given: dict[str, Any], line: str) -> None:
    assert problem(**given) == line


def test_a_setting_that_is_none_is_refused() -> None:
    assert problem(vercel_api_ulr="https://api.vercel.com").startswith("vercel_api_ulr: ")


@pytest.mark.parametrize("text", ["", " 5", "5 s", "-5s", "1e3", "inf", "nan", "5d", "1h-30m", "1.5h", "s"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    assert problem(drift_interval=text).startswith(f"--drift-interval: {text!r} is not a duration: ")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90.5", 90.5), ("90s", 90), ("1h30m", 5400), ("6h", 21600), ("2m", 120)]
)
def test_seconds_are_given_as_a_number_or_as_a_duration(text: str, seconds: float) -> None:
    assert Settings.model_validate({"drift_interval": text}).drift_interval == seconds
    if seconds == 90:
        settings = Settings.model_validate({"post_timeout": text, "lease_duration": text})
        assert (settings.post_timeout, settings.lease_duration) == (90.0, 90)


@pytest.mark.parametrize("namespace", ["", " ", "Web", "a_b", "-web", "web/a", "a" * 64])
def test_a_namespace_that_can_not_be_one_is_refused(namespace: str) -> None:
    for field, flag in (("namespaces", "--namespace"), ("default_token_namespaces", "--default-token-namespace")):
        line = problem(**{field: ("web", namespace)})
        assert line.startswith(f"{flag}: {namespace!r} is not the name of a namespace")
        assert "\n" not in line


def test_only_the_default_token_can_be_for_all_namespaces() -> None:
    assert Settings(default_token_namespaces=("*", "web")).default_token_namespaces == ("*", "web")
    assert problem(namespaces=("*",)).startswith("--namespace: '*' is not the name of a namespace")


@pytest.mark.parametrize("token", [{"vercel_token": TOKEN}, {"vercel_token_file": Path("token")}])
def test_who_may_use_a_default_token_has_to_be_said(token: dict[str, Any]) -> None:
    assert problem(**token) == (
        "there is a default token, but no namespace may use it: set --default-token-namespace to the namespaces whose "
        "resources may use it, or to '*' for all of them"
    )
    for namespaces in (("*",), ("web",)):
        assert Settings(**token, default_token_namespaces=namespaces).has_default_token
    assert not Settings(default_token_namespaces=("web",)).has_default_token


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
    assert settings.issuance_limit == 5
    assert settings.namespaces == ()


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().log_level = "debug"  # type: ignore[misc]


def test_the_token_is_not_shown() -> None:
    token = {"vercel_token": TOKEN, "vercel_token_file": Path("token"), "default_token_namespaces": ("*",)}
    settings = Settings.model_validate(token)
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
    assert TOKEN not in first_problem(refused.value)


# --- the command line


def shown_help(name: str) -> str:
    """The help of the option with this name; empty if the help doesn't have it."""
    option = next(option for option in run.params if option.name == name)
    return " ".join(option.get_help_record(click.Context(run)) or ())


@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name not in NO_FLAGS])
def test_each_setting_has_a_flag_whose_help_shows_its_default(field: str) -> None:
    shown = SHOWN.get(field, str(Settings.model_fields[field].default))
    assert re.findall(r"default: (.*)\]$", shown_help(field)) == ([shown] if shown is not None else [])


def test_the_help_shows_no_flag_for_the_token_itself() -> None:
    assert not shown_help("vercel_token")
    assert "VERCEL_TOKEN to the token itself" in shown_help("vercel_token_file")
