"""The emulated Vercel as a process of its own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from control_plane import Process
from support.operator_process import TOKEN, eventually
from vercel_emulator.client import EmulatorControl

LISTENING = "listening on "


@asynccontextmanager
async def emulator_process(log: Path, *args: str) -> AsyncIterator[EmulatorControl]:
    """``vercel-certificate-operator emulate``, which knows ``TOKEN``, for as long as the block lasts."""
    command = (sys.executable, "-m", "vercel_certificate_operator", "emulate", "--port", "0", "--token", TOKEN, *args)
    process = Process(command, log=log)
    try:
        await eventually("the emulator listens", lambda: LISTENING in process.output() or not process.running)
        url = process.output().split(LISTENING)[1].split()[0]
        async with EmulatorControl(url) as control:
            yield control
    finally:
        process.kill()
