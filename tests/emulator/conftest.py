"""An emulator and a client of it, for each test."""

import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from vercel_emulator import Emulator, EmulatorControl

TOKEN = "test-token-not-a-secret"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(tokens=(TOKEN,), teams={"team_a": "alpha", "team_b": "beta"}) as emulator:
        yield emulator


@pytest.fixture
async def vercel(emulator: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    """What a client of Vercel sees."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one takes longer to make than most tests
    async with httpx.AsyncClient(base_url=emulator.url, headers=headers, trust_env=False, verify=no_tls) as client:
        yield client


@pytest.fixture
async def control(emulator: Emulator) -> AsyncIterator[EmulatorControl]:
    async with EmulatorControl(emulator.url) as control:
        yield control
