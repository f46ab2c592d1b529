"""Tidy up after the process that started this one, however that ends.

``supervisor.py run FD COMMAND…`` runs a command; its process id is written to the file descriptor FD, and the exit
status is the command's (128 + n after signal n). ``supervisor.py remove FOLDER`` removes a folder at the end.

The holder keeps the write end of the pipe that is standard input here. The kernel closes it when the holder is gone,
be it by SIGKILL; then the command's process group is killed, or the folder removed. PR_SET_PDEATHSIG alone would not
do: it goes by the holder's *thread*, and removes no folder. It is the second net, for the case that this supervisor
itself is killed.

Started as ``python -I -S``: it needs nothing but the standard library, and little of that, to be quick.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
HOLDER = 0  # standard input: ends when the holder does


def main() -> int:
    # What is sent to a whole session or container must not end this process before it has done its work.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.argv[1] == "run":
        return run(int(sys.argv[2]), sys.argv[3:])
    return remove(Path(sys.argv[2]))


def run(pid_to: int, command: list[str]) -> int:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_in_child)
    os.write(pid_to, b"%d" % process.pid)
    os.close(pid_to)
    while process.poll() is None:
        readable, _, _ = select.select([HOLDER, woken], [], [])
        if woken in readable:
            os.read(woken, 512)
        elif not os.read(HOLDER, 512):
            break
    try:  # also when the command has ended by itself: it may have left children
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        pass
    status = process.wait()
    return status if status >= 0 else 128 - status


def _in_child() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def remove(folder: Path) -> int:
    while os.read(HOLDER, 512):
        pass
    # The holder's other processes are being killed at this very moment, and may still write.
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return 0
        time.sleep(0.1)
    return 1


if __name__ == "__main__":
    sys.exit(main())
