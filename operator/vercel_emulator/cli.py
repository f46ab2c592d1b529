"""The ``emulate`` command."""

import asyncio
import errno
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vercel_emulator.durations import parse_duration

if TYPE_CHECKING:
    from vercel_emulator.emulator import Emulator


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Team(click.ParamType[tuple[str, str]]):
    name = "id=slug"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        team, equals, slug = value.partition("=")
        if not equals:
            self.fail(f"{value!r} is not ID=SLUG, like team_1a2b3c=my-team", param, ctx)
        return team, slug


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. An empty one is all addresses, IPv4 and IPv6.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="The port to listen on; 0 takes a free one, and prints it.",
)
@click.option(
    "--token",
    "tokens",
    multiple=True,
    envvar="VERCEL_EMULATOR_TOKEN",
    show_envvar=True,
    help="A bearer token to accept; repeatable (in the environment: separated by spaces). Any word will do.",
)
@click.option(
    "--team",
    "teams",
    type=_Team(),
    multiple=True,
    metavar="ID=SLUG",
    help="A team, like team_1a2b3c=my-team; repeatable. Every token can use it.",
)
@click.option(
    "--lifetime",
    type=_Duration(),
    default="90d",
    show_default=True,
    metavar="DURATION",
    help="How long issued certificates live: 90d, 36h, 1h30m, 45s.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the certificates and the clock in this file over restarts. Without it, a restart loses them.",
)
@click.option(
    "--journal-size",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    help="How many requests the journal keeps.",
)
def emulate(
    host: str,
    port: int,
    tokens: tuple[str, ...],
    teams: tuple[tuple[str, str], ...],
    lifetime: timedelta,
    state: Path | None,
    journal_size: int,
) -> None:
    """Emulate Vercel's certificates API, to try the operator without a Vercel account.

    It answers /v8/certs as Vercel does, and issues for every well-formed domain at once. Its certificates are not
    real. Its control API under /_emulator/ moves its clock, makes it misbehave, and shows the requests it received.
    Everyone who can reach the port can use that API, so listen on an address that only you can reach.

    \b
    For example:
      vercel-certificate-operator emulate --token test-token-not-a-secret
      curl -H 'Authorization: Bearer test-token-not-a-secret' \\
        -d '{"cns": ["example.com"]}' http://127.0.0.1:8080/v8/certs
    """
    if not tokens:
        raise click.UsageError(
            "there is no token to accept: give one with --token, or in VERCEL_EMULATOR_TOKEN "
            "(any word will do, such as test-token-not-a-secret)"
        )
    # Imported here, so that --help and usage errors don't wait for a web server.
    from vercel_emulator.emulator import Emulator
    from vercel_emulator.errors import StateFileError

    if len({team for team, _ in teams}) < len(teams):
        raise click.UsageError("--team has the same team twice: give each id once")
    try:
        emulator = Emulator(
            tokens=tokens,
            teams=dict(teams),
            lifetime=lifetime,
            state=state,
            host=host,
            port=port,
            journal_size=journal_size,
        )
        asyncio.run(_serve(emulator))
    except (StateFileError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(_why_not_listening(error, host, port)) from error


async def _serve(emulator: "Emulator") -> None:
    stopped = asyncio.Event()
    for stop in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(stop, stopped.set)
    async with emulator:
        # click.echo flushes: the process that started this one waits for the line.
        click.echo(f"vercel emulator listening on {emulator.url}")
        await stopped.wait()


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    # asyncio wraps bind's error in another one with the same number.
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: choose another with --port, or 0 for any free port"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user doesn't have: choose one above 1023 with --port"
    return f"can't listen on {host}, port {port} ({error.strerror or error}): see --host and --port"
