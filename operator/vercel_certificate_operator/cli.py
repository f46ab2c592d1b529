"""The command line."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from vercel_certificate_operator import __version__
from vercel_emulator.cli import emulate

_PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vercel-certificate-operator")
def main() -> None:
    """Manage TLS certificates at Vercel from Kubernetes.

    A VercelCertificate resource lists its names; the operator issues the certificate through Vercel's REST API,
    reports it in the resource's status, renews it in time, and removes it with the resource.
    """


@main.command()
@click.option(
    "--kubeconfig",
    type=_PATH,
    help="Kubeconfig file. Default: the pod's own account, else KUBECONFIG or ~/.kube/config.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="VERCEL_OPERATOR_NAMESPACES",
    show_envvar=True,
    help="Serve this namespace only; repeatable (in the variable: separated by spaces). Default: all namespaces.",
)
@click.option(
    "--selector",
    envvar="VERCEL_OPERATOR_SELECTOR",
    show_envvar=True,
    help="Serve resources with these labels only, such as 'shard=a' or 'team in (web,shop)'. Others are not seen.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    default=None,
    envvar="VERCEL_OPERATOR_LEADER_ELECT",
    show_envvar=True,
    help="Work only while holding a Lease, so that several replicas can run and one works. Default: off.",
)
@click.option(
    "--lease-name",
    envvar="VERCEL_OPERATOR_LEASE_NAME",
    show_envvar=True,
    help="One for each set of replicas. Default: vercel-certificate-operator.",
)
@click.option(
    "--lease-namespace",
    envvar="VERCEL_OPERATOR_LEASE_NAMESPACE",
    show_envvar=True,
    help="Default: the pod's own.",
)
@click.option(
    "--lease-duration",
    type=int,
    envvar="VERCEL_OPERATOR_LEASE_DURATION",
    show_envvar=True,
    metavar="SECONDS",
    help="How long a leader that is not heard of is waited for. The same for all replicas. Default: 15.",
)
@click.option(
    "--listen",
    envvar="VERCEL_OPERATOR_LISTEN",
    show_envvar=True,
    metavar="[HOST]:PORT",
    help="Answer there by HTTP: /livez and /readyz for probes, /metrics for Prometheus. Default: off.",
)
@click.option(
    "--metrics-per-certificate/--no-metrics-per-certificate",
    default=None,
    envvar="VERCEL_OPERATOR_METRICS_PER_CERTIFICATE",
    show_envvar=True,
    help="Whether /metrics has series of each certificate: three to five of them. Default: on.",
)
@click.option(
    "--vercel-api-url",
    envvar="VERCEL_API_URL",
    show_envvar=True,
    help="Default: https://api.vercel.com.",
    metavar="URL",
)
@click.option(
    "--vercel-token-file",
    type=_PATH,
    envvar="VERCEL_TOKEN_FILE",
    show_envvar=True,
    help="File with the default token, for resources without spec.tokenSecretRef. Read again when it changes. "
    "Or set VERCEL_TOKEN to the token itself; the file wins.",
)
@click.option("--team-id", envvar="VERCEL_TEAM_ID", show_envvar=True, help="Team of resources without spec.team.")
@click.option("--team-slug", envvar="VERCEL_TEAM_SLUG", show_envvar=True, help="The same, by its slug in URLs.")
@click.option(
    "--post-timeout",
    type=float,
    envvar="VERCEL_POST_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="How long Vercel may take to issue a certificate. Default: 120.",
)
@click.option(
    "--default-token-namespace",
    "default_token_namespaces",
    multiple=True,
    envvar="VERCEL_DEFAULT_TOKEN_NAMESPACES",
    show_envvar=True,
    help="Namespace whose resources may use the default token, and so have power over all certificates of its team; "
    "repeatable. Default: all namespaces.",
)
@click.option(
    "--max-in-flight",
    type=int,
    envvar="VERCEL_MAX_IN_FLIGHT",
    show_envvar=True,
    help="Calls to Vercel at a time, per token. Default: 8.",
)
@click.option(
    "--drift-interval",
    type=float,
    envvar="VERCEL_DRIFT_INTERVAL",
    show_envvar=True,
    metavar="SECONDS",
    help="How often the certificates at Vercel are listed to see what has changed there. Default: 21600.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    envvar="LOG_FORMAT",
    show_envvar=True,
    help="Default: text.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="LOG_LEVEL",
    show_envvar=True,
    help="Default: info.",
)
def run(**options: Any) -> None:
    """Run the operator.

    Flags beat environment variables, which beat defaults.
    """
    # Imported here, so that --help and the emulator don't wait for kopf and kubernetes.
    from vercel_certificate_operator import app, log
    from vercel_certificate_operator.leadership import LeadershipLost
    from vercel_certificate_operator.settings import Settings
    from vercel_certificate_operator.wiring import CannotStart

    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "VERCEL_TOKEN" in os.environ:
        given["vercel_token"] = os.environ["VERCEL_TOKEN"]  # no flag: command lines are there for everybody to read
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise click.UsageError(_first_problem(error)) from None
    log.set_up(settings.log_format, settings.log_level)
    try:
        asyncio.run(app.run(settings))
    except CannotStart as error:
        raise click.ClickException(str(error)) from None
    except LeadershipLost:
        sys.exit(1)  # the log says why
    except KeyboardInterrupt:
        sys.exit(130)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = f"--{str(problem['loc'][0]).replace('_', '-')}: " if problem["loc"] else ""
    return where + problem["msg"].removeprefix("Value error, ")


main.add_command(emulate)
