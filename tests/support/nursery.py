"""Forks processes that have the operator's modules already; see preloaded.py, whose other side this is.

It is run as a file of its own: it imports nothing but those modules.
"""

import ctypes
import json
import os
import runpy
import select
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MODULE = "vercel_certificate_operator"
IMPORTS = ("vercel_certificate_operator.app", "vercel_certificate_operator.cli", "vercel_emulator.emulator")
LARGEST = 1024 * 1024
"""Bytes of a request."""


def fork_on_request(requests: socket.socket) -> None:
    """Forks a process for each request. Returns in the new process, never in this one."""
    holders: dict[int, int] = {}  # where the exit status of a process is written
    me = os.getpid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        readable = select.select([requests.fileno(), woken], [], [])[0]
        if woken in readable:
            os.read(woken, 512)
            _report(holders)
        if requests.fileno() not in readable:
            continue
        content, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 2)
        if not content:
            os._exit(0)  # the holder has ended; so do all that were forked
        output, status = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (woken, wake, status, *holders.values()):
                os.close(descriptor)
            requests.close()
            _become(json.loads(content), output, me)
            return
        os.close(output)
        holders[pid] = status
        os.write(status, b"%d\n" % pid)


def _report(holders: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        descriptor = holders.pop(pid)
        try:
            os.write(descriptor, b"%d\n" % (code if code >= 0 else 128 - code))
        except BrokenPipeError:
            pass  # nobody wants to know
        os.close(descriptor)


def _become(request: dict[str, object], output: int, parent: int) -> None:
    """Makes the forked process what a new one would be."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before that
        os._exit(1)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(str(request["cwd"]))
    environment, args = request["env"], request["args"]
    assert isinstance(environment, dict)
    assert isinstance(args, list)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = args


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    for module in IMPORTS:
        __import__(module)
    fork_on_request(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
