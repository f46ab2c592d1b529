"""A forked operator is a process as one that was started by its command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.preloaded import Preloaded
from support.waiting import is_alive, wait_until

LISTENING = "listening on "
EMULATE = ("emulate", "--port", "0", "--token", "test-token-not-a-secret")
HOLDER = """
import sys, time
from pathlib import Path
from support.preloaded import Preloaded
process = Preloaded(("emulate", "--port", "0", "--token", "t"), log=Path(sys.argv[1]), env={})
while "listening on " not in process.output():
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(600)
"""


def emulator(tmp_path: Path) -> Preloaded:
    process = Preloaded(EMULATE, log=tmp_path / "log", env=os.environ)
    wait_until(lambda: LISTENING in process.output() or not process.running)
    assert process.running, process.output()
    return process


def test_it_has_its_own_arguments_and_environment_and_says_what_the_command_says(tmp_path: Path) -> None:
    env = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    for args, more in ((("run", "--log-level", "loud"), {}), (("run",), {"VERCEL_API_URL": "ftp://x"})):
        forked = Preloaded(args, log=tmp_path / args[-1], env={**env, **more})
        status = forked.wait(60)
        command = subprocess.run(
            [sys.executable, "-m", "vercel_certificate_operator", *args],
            env={**env, **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (forked.output(), status) == (command.stderr, command.returncode)
        assert status != 0


def test_it_ends_by_sigterm_with_its_own_exit_status(tmp_path: Path) -> None:
    process = emulator(tmp_path)
    assert process.exit_status is None
    process.signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not process.running


def test_it_can_be_killed_and_paused_alone(tmp_path: Path) -> None:
    killed, paused = emulator(tmp_path), emulator(tmp_path)
    paused.pause()
    killed.signal(signal.SIGKILL)
    assert killed.wait(60) == 128 + signal.SIGKILL
    assert paused.running
    assert os.getsid(paused.pid) == os.getpgid(paused.pid) == paused.pid
    assert paused.kill() == 128 + signal.SIGKILL
    wait_until(lambda: not is_alive(paused.pid))


def test_it_ends_with_its_holder_even_if_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "log")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        assert is_alive(pid)
        holder.kill()
        holder.wait()
        wait_until(lambda: not is_alive(pid))
