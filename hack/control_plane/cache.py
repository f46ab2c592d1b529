"""The cache for programs that are downloaded or built, and its lock.

It is ``$XDG_CACHE_HOME/vercel-certificate-operator/control-plane/`` (``~/.cache`` by default). Each version of a
program has its own folder there. A file gets a temporary name first and is renamed when it is complete, so an
interrupted run leaves nothing half-written. A lock keeps two processes from building at the same time; the kernel
releases it however its holder ends.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control_plane.progress import Progress


class UnavailableError(Exception):
    """A program can't be provided on this machine. The message says what was tried and what to do."""


def folder() -> Path:
    """Return the cache folder. It may not exist yet.

    Raises:
        UnavailableError: Neither XDG_CACHE_HOME nor a home folder says where caches go.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG base directory specification: relative paths are ignored
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            raise UnavailableError(
                "There is no home folder to cache the control plane in: set XDG_CACHE_HOME."
            ) from None
    return base / "vercel-certificate-operator" / "control-plane"


def is_program(path: Path) -> bool:
    """Return whether ``path`` is a file that this user may execute."""
    return path.is_file() and os.access(path, os.X_OK)


@contextmanager
def locked() -> Iterator[None]:
    """Hold the cache's lock, and first remove the temporary files of a run that was killed.

    Raises:
        UnavailableError: The cache folder can't be written.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        lock = (folder() / ".lock").open("w")
    except OSError as error:
        raise UnavailableError(
            f"The control plane can't be cached: {error}. Set XDG_CACHE_HOME to another folder."
        ) from None
    with lock:
        with Progress("waiting for another process that downloads or builds the control plane"):
            while not _try_lock(lock.fileno()):
                time.sleep(0.2)
        for leftover in (*folder().glob(".*.tmp"), *folder().glob("*/.*.tmp")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name, which becomes ``path`` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.rename(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
