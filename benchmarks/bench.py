"""What the operator costs, beside the same controller in Go and the bare minimum of requests.

``make bench`` runs this (``N=5000``, ``N="1000 5000 10000"``). Requests are counted from the API server's audit log
and from the emulator's journal. Nothing passes or fails by a time: machines differ, so compare within one run. The
figures go to ``benchmarks/figures.json``, and from there, with the plots, to ``docs/performance.md``.
"""

import argparse
import asyncio
import hashlib
import platform
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import report
from control_plane import cache, golang
from phases import BareCourse, Course, Figures
from stage import ROOT, Stage

PEER = ROOT / "benchmarks" / "peer"
PHASES = ("takeover", "names", "backlog", "tenants")
"""Those that can be left out."""


def build_peer() -> Path:
    """Return the controller in Go. It is built once for each state of its source."""
    sources = sorted(path for path in PEER.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    with cache.locked():
        program = cache.folder() / f"bench-peer-{digest}" / "peer"
        if not cache.is_program(program):
            command: list[str | Path] = [golang.program(), "build", "-o"]
            with cache.whole(program.parent) as temporary:
                log = cache.folder() / ".bench-peer.log.tmp"
                what = [*command, temporary / "peer", "."]
                golang.run("building the Go peer", what, log, env=golang.environment(), cwd=PEER)
    return program


def measure(count: int, who: str, phases: set[str], python: Path, profile: Path | None) -> list[Figures]:
    """Measure one of the three for one number of resources.

    Args:
        python: runs the operator.
        profile: where the operator writes a profile of itself.
    """
    found: list[Figures] = []

    def note(figures: Figures) -> None:
        found.append(figures)
        print(report.line(figures), flush=True)

    with ExitStack() as stack:
        stage = Stage(stack, python)
        if who == "bare minimum":
            asyncio.run(BareCourse(stage, count, note).run())
        elif who == "Go":
            program = build_peer()
            asyncio.run(
                Course(stage, who, count, lambda *flags: stage.peer(program, *flags), note, phases.__contains__).run()
            )
        else:
            start = lambda *flags: stage.operator(*flags, profile=profile)  # noqa: E731
            asyncio.run(Course(stage, who, count, start, note, phases.__contains__).run())
    return found


def python_version(python: Path) -> str:
    """Return the version of the Python that runs the operator."""
    command = [str(python), "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("counts", type=int, nargs="*", default=[1000], help="certificates (default 1000)")
    parser.add_argument("--who", action="append", choices=report.WHO, help="measure only this one; writes nothing")
    parser.add_argument(
        "--phase", action="append", choices=PHASES, help="of the optional phases, only these; writes nothing"
    )
    parser.add_argument("--short", action="store_true", help="none of the optional phases; writes nothing")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the operator here; its times are then wrong")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        help="runs the operator; with the packages of the image alone, it needs as much memory as there",
    )
    options = parser.parse_args()
    partial = options.who or options.phase or options.short or options.profile
    phases = set() if options.short else set(options.phase or PHASES)
    for count in options.counts or [1000]:
        began, figures = time.monotonic(), []
        for who in options.who or report.WHO:
            figures += measure(count, who, phases, options.python, options.profile)
        print(f"{count}: {time.monotonic() - began:.0f} s", flush=True)
        if not partial:
            report.save(count, figures, machine=f"{platform.machine()}, Python {python_version(options.python)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
