"""The emulator as a process of its own: its command line, its end, and its state file."""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from vercel_emulator import Emulator, EmulatorControl, Fault
from vercel_emulator.cli import emulate
from vercel_emulator.errors import StateFileError
from vercel_emulator.models import ClockChange

TOKEN = "test-token-not-a-secret"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
CERTS = "/v8/certs"
BODY = {"cns": ["example.com"]}


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process and its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "vercel_emulator", "--port", "0", "--token", TOKEN, *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("vercel emulator listening on http://127.0.0.1:")
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_emulator_at_once_even_while_a_request_hangs(stop: signal.Signals) -> None:
    async with running() as (process, url), EmulatorControl(url) as control:
        fault = await control.add_fault(Fault(action="hang"))
        async with httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as vercel:
            request = asyncio.create_task(vercel.get(CERTS))
            await control.wait_for_fault(fault.id)

            process.send_signal(stop)

            async with asyncio.timeout(5):
                assert await process.wait() == 0
            with pytest.raises(httpx.TransportError):
                await request


async def test_what_was_answered_survives_sigkill(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    answered: list[dict[str, object]] = []
    async with (
        running("--state", str(state)) as (process, url),
        httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as vercel,
    ):

        async def go_on_issuing() -> None:
            while True:
                try:
                    answered.append((await vercel.post(CERTS, json=BODY)).json())
                except httpx.TransportError:
                    return
                if len(answered) >= 30 and process.returncode is None:
                    process.kill()

        await asyncio.gather(*(go_on_issuing() for _ in range(4)))

    async with (
        running("--state", str(state)) as (process, url),
        httpx.AsyncClient(base_url=url, headers=HEADERS, trust_env=False) as vercel,
    ):
        for certificate in answered:
            assert (await vercel.get(f"{CERTS}/{certificate['id']}")).json() == certificate


async def test_removals_and_the_clock_survive_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    async with Emulator(tokens=(TOKEN,), state=state) as emulator, EmulatorControl(emulator.url) as control:
        kept, removed = (emulator.state.issue([name]) for name in ("kept.example", "removed.example"))
        emulator.state.remove(removed.id, scope=removed.scope)
        await control.move_clock(ClockChange(offset=1000))
    async with Emulator(tokens=(TOKEN,), state=state) as emulator:
        assert emulator.state.all() == [kept, removed]
        assert emulator.state.live() == [kept]
        assert emulator.clock.offset == 1000
        assert emulator.state.issue(["new.example"]).id not in {kept.id, removed.id}
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["state.json"]
    assert TOKEN not in state.read_text()


async def test_a_state_file_that_can_no_longer_be_written_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    async with Emulator(tokens=(TOKEN,), state=folder / "state.json") as emulator:
        (folder / "state.json").unlink()
        folder.rmdir()
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(emulator.url + CERTS, json=BODY, headers=HEADERS)
        assert response.status_code == 500
        assert "state file" in response.json()["error"]["message"]
        with pytest.raises(StateFileError):
            await emulator.stop()


def test_usage_errors_are_one_line_each(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text('{"not": "ours"}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        token = ["--token", TOKEN]
        for arguments, says in (
            ([], "VERCEL_EMULATOR_TOKEN"),
            (["--token", ""], "not empty"),
            (["--token", "two words"], "without spaces"),
            ([*token, "--port", str(port)], f"port {port} of 127.0.0.1 is taken: choose another"),
            ([*token, "--port", "70000"], "70000"),
            ([*token, "--port", "x"], "'x'"),
            ([*token, "--host", "192.0.2.1"], "--host"),
            ([*token, "--lifetime", "soon"], "90d"),
            ([*token, "--lifetime", "0s"], "no time at all"),
            ([*token, "--lifetime", "999999d"], "too long"),
            ([*token, "--team", "alpha"], "ID=SLUG"),
            ([*token, "--team", "alpha=beta"], "team_"),
            ([*token, "--team", "team_a=No Slug"], "slug"),
            ([*token, "--team", "team_a=a", "--team", "team_a=b"], "twice"),
            ([*token, "--team", "team_a=a", "--team", "team_b=a"], "slug is a"),
            ([*token, "--state", str(tmp_path)], "directory"),
            ([*token, "--state", str(tmp_path / "none" / "x")], "state file"),
            ([*token, "--state", str(garbage)], "not a state file"),
        ):
            result = CliRunner().invoke(emulate, arguments, env={"VERCEL_EMULATOR_TOKEN": None})

            assert result.exit_code in {1, 2}, (arguments, result.output)
            last = result.output.strip().splitlines()[-1]
            assert last.startswith("Error: "), (arguments, result.output)
            assert says in last, (arguments, result.output)
            assert "Traceback" not in result.output
    assert garbage.read_text() == '{"not": "ours"}'


def test_help_lists_every_option() -> None:
    result = CliRunner().invoke(emulate, ["--help"])

    assert result.exit_code == 0
    for option in ("--host", "--port", "--token", "--team", "--lifetime", "--state", "VERCEL_EMULATOR_TOKEN"):
        assert option in result.output


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_it_listens_on_ipv6(host: str) -> None:
    async with (
        Emulator(tokens=(TOKEN,), host=host) as emulator,
        httpx.AsyncClient(base_url=emulator.url, headers=HEADERS, trust_env=False) as vercel,
        EmulatorControl(emulator.url) as control,
    ):
        assert emulator.url.startswith("http://[::1]:")
        assert (await vercel.post(CERTS, json=BODY)).status_code == 200
        assert len(await control.certificates()) == 1


async def test_without_a_host_it_listens_on_ipv4_and_ipv6() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as free:
        port = free.getsockname()[1]
    async with Emulator(tokens=(TOKEN,), host="", port=port):
        for address in ("127.0.0.1", "[::1]"):
            async with EmulatorControl(f"http://{address}:{port}") as control:
                assert await control.certificates() == []


async def test_a_stopped_emulator_refuses_connections_and_comes_back_as_it_was() -> None:
    async with (
        Emulator(tokens=(TOKEN,)) as emulator,
        httpx.AsyncClient(base_url=emulator.url, headers=HEADERS, trust_env=False) as vercel,
    ):
        certificate = (await vercel.post(CERTS, json=BODY)).json()
        await emulator.stop()
        with pytest.raises(httpx.ConnectError):
            await vercel.get(CERTS)

        await emulator.start()

        assert (await vercel.get(CERTS)).json()["certs"] == [certificate]
        assert emulator.journal.counts["list"] == 1


async def test_while_it_is_stopped_no_other_program_gets_its_port() -> None:
    """Its clients go on with the same URL."""
    async with Emulator(tokens=(TOKEN,)) as emulator:
        address = ("127.0.0.1", int(emulator.url.rpartition(":")[2]))
        await emulator.stop()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        with socket.socket() as client:
            assert client.connect_ex(address) == errno.ECONNREFUSED
        await emulator.start()
        with socket.create_connection(address):
            pass
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(address)
