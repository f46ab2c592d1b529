"""The command line."""

import asyncio
import gc
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from pydantic import ValidationError

from vercel_certificate_operator import __version__
from vercel_certificate_operator.core.durations import readable
from vercel_emulator.cli import emulate

_PATH = click.Path(path_type=Path)
_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "fish": FishComplete, "zsh": ZshComplete}
_DURATION = "DURATION"
"""The metavar of options that accept seconds or a duration such as 1h30m."""
_GARBAGE = (10_000, 10, 10)
"""Thresholds of the garbage collector. With Python's default of 700, it takes a tenth of the CPU time."""


class _Setting(click.Option):
    """An option for the field of Settings with its name. The help shows the field's default."""

    def __init__(self, *args: Any, default_text: str = "", **options: Any) -> None:
        """
        Args:
            args: as click has them.
            default_text: describes the default if the field's default is None or empty.
            options: as click has them.
        """
        self._default_text = default_text
        super().__init__(*args, **options | {"show_envvar": True})

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        if text := self._default_text or self._default_of_the_settings():
            extra["default"] = text
        return extra

    def _default_of_the_settings(self) -> str:
        # Imported here, so that only the help of ``run`` waits for it.
        from vercel_certificate_operator.settings import Settings

        value = Settings.model_fields[self.name or ""].default
        match value:
            case bool():
                return "on" if value else "off"
            case int() | float() if self.metavar == _DURATION:
                return readable(timedelta(seconds=value))
            case int() | str():
                return str(value)
        return ""


def _no_token_here(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError(
            "there is no option --vercel-token, because all users of this machine can read command lines. Write the "
            "token to a file and set --vercel-token-file, or set the variable VERCEL_TOKEN",
            ctx,
        )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vercel-certificate-operator")
def main() -> None:
    """Manage TLS certificates at Vercel from Kubernetes.

    A VercelCertificate resource lists its names. The operator issues the certificate through Vercel's REST API,
    reports it in the resource's status, renews it before it expires, and removes it with the resource.
    """


@main.command()
@click.option(
    "--kubeconfig",
    cls=_Setting,
    type=_PATH,
    default_text="the pod's own account, else KUBECONFIG or ~/.kube/config",
    help="Kubeconfig file.",
)
@click.option(
    "--namespace",
    "namespaces",
    cls=_Setting,
    multiple=True,
    envvar="VERCEL_OPERATOR_NAMESPACES",
    default_text="all namespaces",
    help="Serve only this namespace; repeatable. The variable takes several, separated by spaces.",
)
@click.option(
    "--selector",
    cls=_Setting,
    envvar="VERCEL_OPERATOR_SELECTOR",
    default_text="all resources",
    help="Serve only resources with these labels, such as 'shard=a' or 'team in (web,shop)'.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    cls=_Setting,
    default=None,
    envvar="VERCEL_OPERATOR_LEADER_ELECT",
    help="Elect a leader by a Lease. Required for several replicas, of which only the leader makes changes.",
)
@click.option(
    "--lease-name",
    cls=_Setting,
    envvar="VERCEL_OPERATOR_LEASE_NAME",
    help="Name of the leader election Lease. Replicas of one installation share it.",
)
@click.option(
    "--lease-namespace",
    cls=_Setting,
    envvar="VERCEL_OPERATOR_LEASE_NAMESPACE",
    default_text="the pod's namespace",
    help="Namespace of the leader election Lease.",
)
@click.option(
    "--lease-duration",
    cls=_Setting,
    envvar="VERCEL_OPERATOR_LEASE_DURATION",
    metavar=_DURATION,
    help="How long standbys wait before replacing an unresponsive leader. Must be the same for all replicas.",
)
@click.option(
    "--listen",
    cls=_Setting,
    envvar="VERCEL_OPERATOR_LISTEN",
    metavar="[HOST]:PORT",
    default_text="off",
    help="Serve HTTP: /livez and /readyz for probes, /metrics for Prometheus.",
)
@click.option(
    "--metrics-per-certificate/--no-metrics-per-certificate",
    cls=_Setting,
    default=None,
    envvar="VERCEL_OPERATOR_METRICS_PER_CERTIFICATE",
    help="Export series for each certificate, four or five each.",
)
@click.option(
    "--vercel-api-url",
    cls=_Setting,
    envvar="VERCEL_API_URL",
    metavar="URL",
    help="Base URL of Vercel's REST API.",
)
@click.option(
    "--vercel-token-file",
    cls=_Setting,
    type=_PATH,
    envvar="VERCEL_TOKEN_FILE",
    default_text="no default token",
    help="File with the default token, for resources without spec.tokenSecretRef. It is read again when it changes. "
    "Alternatively, set the variable VERCEL_TOKEN to the token itself; the file takes precedence.",
)
@click.option("--vercel-token", hidden=True, expose_value=False, is_flag=False, flag_value="", callback=_no_token_here)
@click.option(
    "--default-token-namespace",
    "default_token_namespaces",
    cls=_Setting,
    multiple=True,
    envvar="VERCEL_DEFAULT_TOKEN_NAMESPACES",
    metavar="NAMESPACE|'*'",
    help="Namespace whose resources may use the default token, which gives them power over all certificates of its "
    "team; repeatable. '*' allows all namespaces. Required if there is a default token.",
)
@click.option("--team-id", cls=_Setting, envvar="VERCEL_TEAM_ID", help="Id of the team of resources without spec.team.")
@click.option(
    "--team-slug", cls=_Setting, envvar="VERCEL_TEAM_SLUG", help="Slug of that team in URLs, instead of its id."
)
@click.option(
    "--post-timeout",
    cls=_Setting,
    envvar="VERCEL_POST_TIMEOUT",
    metavar=_DURATION,
    help="How long Vercel may take to issue a certificate.",
)
@click.option(
    "--max-in-flight",
    cls=_Setting,
    type=int,
    envvar="VERCEL_MAX_IN_FLIGHT",
    metavar="N",
    help="Maximum number of concurrent requests to Vercel per token.",
)
@click.option(
    "--issuance-limit",
    cls=_Setting,
    type=int,
    envvar="VERCEL_OPERATOR_ISSUANCE_LIMIT",
    metavar="N",
    help="Maximum number of issuances per resource and week, apart from those that a user requests.",
)
@click.option(
    "--uploads/--no-uploads",
    cls=_Setting,
    default=None,
    envvar="VERCEL_OPERATOR_UPLOADS",
    help="Upload certificates from Secrets that allow it (spec.certificateSecretRef).",
)
@click.option(
    "--source-poll-interval",
    cls=_Setting,
    envvar="VERCEL_OPERATOR_SOURCE_POLL_INTERVAL",
    metavar=_DURATION,
    help="How often to read the Secrets whose certificates are uploaded.",
)
@click.option(
    "--drift-interval",
    cls=_Setting,
    envvar="VERCEL_DRIFT_INTERVAL",
    metavar=_DURATION,
    help="How often to list the certificates at Vercel, to find out what has changed there.",
)
@click.option(
    "--log-format", cls=_Setting, type=click.Choice(["text", "json"]), envvar="LOG_FORMAT", help="Format of the log."
)
@click.option(
    "--log-level",
    cls=_Setting,
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="LOG_LEVEL",
    help="Least severe level to log. With debug, each decision is logged with its rule.",
)
def run(**options: Any) -> None:
    """Run the operator.

    A flag takes precedence over its environment variable. A DURATION is a number of seconds, or something like 90s,
    1h30m or 6h.
    """
    # Imported here, so that --help and the emulator do not wait for kopf and kubernetes.
    from vercel_certificate_operator import app, log
    from vercel_certificate_operator.leadership import LeadershipLost
    from vercel_certificate_operator.settings import Settings
    from vercel_certificate_operator.wiring import CannotStart

    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "VERCEL_TOKEN" in os.environ:
        given["vercel_token"] = os.environ["VERCEL_TOKEN"]  # see _no_token_here
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise click.UsageError(first_problem(error)) from None
    log.set_up(settings.log_format, settings.log_level)
    gc.freeze()  # the modules stay: the garbage collector needn't look at them again and again
    gc.set_threshold(*_GARBAGE)
    try:
        asyncio.run(app.run(settings))
    except CannotStart as error:
        raise click.ClickException(str(error)) from None
    except LeadershipLost:
        sys.exit(1)  # the log says why
    except KeyboardInterrupt:
        sys.exit(130)


def first_problem(error: ValidationError) -> str:
    """Returns the first error in the settings as one line with the flag concerned."""
    problem = error.errors(include_url=False, include_input=False)[0]
    limits = problem.get("ctx", {})
    field = str(problem["loc"][0]) if problem["loc"] else ""
    option = next((option for option in run.params if option.name == field), None)
    is_duration = isinstance(option, click.Option) and option.metavar == _DURATION
    match problem["type"]:
        case "greater_than_equal":
            text = f"must be at least {_limit(limits['ge'], is_duration)}"
        case "less_than_equal":
            text = f"must be at most {_limit(limits['le'], is_duration)}"
        case "int_from_float":
            text = f"must be a whole number{' of seconds' if is_duration else ''}"
        case _:
            text = problem["msg"].removeprefix("Value error, ")
    if not field:
        return text
    return f"{option.opts[0] if option is not None else field}: {text}"


def _limit(value: float, is_duration: bool) -> str:
    """Returns a limit as a user can write it: a number, or a duration in the largest unit that it fills."""
    if not is_duration:
        return f"{value:g}"
    unit, size = next((unit, size) for unit, size in (("h", 3600), ("m", 60), ("s", 1)) if value % size == 0)
    return f"{value / size:.0f}{unit}"


@main.command()
@click.argument("shell", type=click.Choice(sorted(_SHELLS)))
def completion(shell: str) -> None:
    """Print a script that completes commands and options.

    For bash, for example:

        source <(vercel-certificate-operator completion bash)
    """
    name = "vercel-certificate-operator"
    complete = _SHELLS[shell](main, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE")
    click.echo(complete.source())


main.add_command(emulate)
