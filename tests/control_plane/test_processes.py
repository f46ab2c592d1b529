"""Nothing outlives the process that has started it, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from control_plane import Process
from support.waiting import is_alive, wait_until

HACK = Path(__file__).parents[2] / "hack"

HOLDER = """
import threading, time
from control_plane import ControlPlane

def start():
    control_plane = ControlPlane().__enter__()
    print(control_plane.folder, flush=True)

# In a thread that ends: what it has started must not end with it.
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(600)
"""


def processes_about(folder: str) -> dict[int, str]:
    """Process ids and programs of what has the folder in its command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended in between
        if any(folder in argument for argument in command):
            found[int(path.parent.name)] = Path(command[0]).name
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_of_a_control_plane_whose_holder_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(HACK)}
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=environment, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        folder = holder.stdout.readline().strip()
        assert folder, "the control plane did not start"
        started = processes_about(folder)
        assert {"etcd", "kube-apiserver"} <= set(started.values())
        holder.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, started)) and not Path(folder).exists())


def test_the_command_ends_even_if_its_supervisor_is_killed(tmp_path: Path) -> None:
    process = Process(["sleep", "600"], log=tmp_path / "log")
    supervisor = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not is_alive(process.pid))
    assert not process.running


def test_children_of_the_command_end_with_it(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "sleep 600 & echo $!; exec sleep 600"], log=tmp_path / "log")
    wait_until(lambda: process.output().endswith("\n"))
    child = int(process.output())
    assert is_alive(child)
    process.kill()
    wait_until(lambda: not is_alive(child))


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    process = Process(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], log=tmp_path / "log")
    wait_until(process.output)
    assert process.stop(grace=0.1) == 128 + signal.SIGKILL
    assert not is_alive(process.pid)


def test_the_exit_status_and_the_output_are_the_commands_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of an earlier run\n")
    process = Process(["sh", "-c", "echo out; echo err >&2; exit 3"], log=log)
    assert process.wait(30) == 3
    assert process.output() == "out\nerr\n"
    assert log.read_text() == "of an earlier run\nout\nerr\n"


def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/program can't be started"):
        Process(["/no/such/program"], log=tmp_path / "log")


WRITER = """
import threading, time

def write():
    while True:
        print(end=".", flush=True)
        time.sleep(0.0005)

for _ in range(3):
    threading.Thread(target=write).start()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_paused_command_stands_still_at_once_on_a_busy_machine(tmp_path: Path) -> None:
    busy = [Process([sys.executable, "-c", "while True: pass"], log=tmp_path / "busy") for _ in range(6)]
    writer = Process([sys.executable, "-c", WRITER], log=tmp_path / "log")
    try:
        for _ in range(20):
            wait_until(writer.output)
            writer.pause()
            written = writer.output()
            time.sleep(0.03)  # threads that were not stopped would write meanwhile
            assert writer.output() == written
            writer.log.write_bytes(b"")
            writer.resume()
    finally:
        for process in (*busy, writer):
            process.kill()
