"""The emulated Vercel as a separate process."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from control_plane import Process
from support.operator_process import TOKEN, eventually, start_command
from vercel_emulator.client import EmulatorControl

LISTENING = "listening on "


def start_emulator(log: Path, *args: str, preloaded: bool = True) -> Process:
    """Starts ``vercel-certificate-operator emulate``, which accepts ``TOKEN``."""
    return start_command(
        "emulate", "--port", "0", "--token", TOKEN, *args, log=log, env=os.environ, preloaded=preloaded
    )


async def url_of(emulator: Process) -> str:
    """Waits until it listens and returns its URL."""
    await eventually("the emulator listens", lambda: LISTENING in emulator.output() or not emulator.running)
    return emulator.output().split(LISTENING)[1].split()[0]


@asynccontextmanager
async def emulator_process(log: Path, *args: str) -> AsyncIterator[EmulatorControl]:
    """Runs an emulator inside the block."""
    process = start_emulator(log, *args)
    try:
        async with EmulatorControl(await url_of(process)) as control:
            yield control
    finally:
        process.kill()
