"""``make worlds``: explores small worlds for a while, and says how many states there were."""

import argparse
import sys
import time
from collections.abc import Callable

from small_worlds.explore import Explorer
from small_worlds.worlds import WORLDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="make worlds", description=__doc__.partition(": ")[2])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each world")
    parser.add_argument("--only", default="", help="worlds whose names contain this")
    options = parser.parse_args()
    found = 0
    for name, make in WORLDS.items():
        if options.only not in name:
            continue
        explorer = Explorer(make())
        violation = explorer.explore(seconds=options.seconds, progress=_progress(name))
        print(f"{name}: {_figures(explorer)}", flush=True)
        if violation is not None:
            print(violation, flush=True)
            found += 1
    print(f"{found} violations" if found else "no violation")
    return 1 if found else 0


def _figures(explorer: Explorer) -> str:
    how = "complete" if explorer.complete else f"complete to depth {explorer.depth - 1}"
    return (
        f"{len(explorer.states)} states, {explorer.transitions} transitions, {how}; "
        f"{explorer.healthy_steps} steps of healthy worlds"
    )


def _progress(name: str) -> Callable[[Explorer], None]:
    said = time.monotonic()

    def report(explorer: Explorer) -> None:
        nonlocal said
        if time.monotonic() - said >= 60.0:
            said = time.monotonic()
            print(f"{name}, so far: {_figures(explorer)}", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
