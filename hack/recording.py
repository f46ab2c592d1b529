"""Record the demo (``make recording``), and draw the recording (``make generate``).

The recording, ``docs/demo.cast``, is in asciinema's format, version 2: ``asciinema play docs/demo.cast`` plays it
(https://docs.asciinema.org/manual/asciicast/v2/). The picture, ``docs/demo.svg``, depends on nothing but the recording.
So ``make check`` can tell without a control plane whether it is up to date.
"""

import io
import json
import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.text import Text

import demo

DOCS = Path(__file__).parents[1] / "docs"
CAST = DOCS / "demo.cast"
COLUMNS = 118
LONGEST_PAUSE = 1.0
"""Seconds. The renewal takes most of the demo's time, and nothing happens meanwhile."""
HEADER = {"version": 2, "width": COLUMNS, "height": 40, "idle_time_limit": LONGEST_PAUSE, "title": "make demo"}
ID = "demo"
"""The prefix of all ids in the picture. Without it, rich makes up another one each time."""


class Recorder(demo.Screen):
    """Shows the demo, and records when each line appeared."""

    def __init__(self) -> None:
        super().__init__(colour=True)
        self._start = time.monotonic()
        self.events: list[tuple[float, str]] = []

    def say(self, text: str = "") -> None:
        self.events.append((round(time.monotonic() - self._start, 2), text))
        super().say(text)

    def cast(self) -> str:
        """Return the recording. The prompt and the command come first."""
        typed = self.bold("$ make demo")
        lines = [HEADER, *([seconds, "o", f"{text}\r\n"] for seconds, text in [(0.0, typed), *self.events])]
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def svg() -> str:
    """Return the picture: a terminal in which the lines appear as recorded. Lines that are too long end with ``…``."""
    events = [json.loads(line) for line in CAST.read_text(encoding="utf-8").splitlines()[1:]]
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    at, last, appears = 0.0, 0.0, []
    for seconds, _, text in events:
        at += min(seconds - last, LONGEST_PAUSE)
        last = seconds
        appears.append(at)
        console.print(Text.from_ansi(text.removesuffix("\r\n")), no_wrap=True, overflow="ellipsis", crop=True)
    picture = console.export_svg(title="make demo", unique_id=ID)
    return "\n".join(line.rstrip() for line in _adapted(picture, appears).splitlines()) + "\n"


def _adapted(picture: str, appears: list[float]) -> str:
    """Return rich's picture without the fonts that it would load, and with the time at which each line appears."""
    picture, found = re.subn(r" *@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)
    if not found or f"{ID}-line-{len(appears) - 1}" not in picture or "</style>" not in picture:
        raise ValueError("rich draws another picture than before: adapt hack/recording.py")
    moving = ["    @keyframes appear { from { opacity: 0 } }", "    @media (prefers-reduced-motion: no-preference) {"]
    for number, at in enumerate(appears):
        moving.append(f'    [clip-path="url(#{ID}-line-{number})"] {{ animation: appear 0s {at:.2f}s backwards }}')
    style = "\n".join([*moving, "    }", "    </style>"])
    return picture.replace("Fira Code, monospace", "monospace").replace("</style>", style.lstrip(), 1)


def main() -> int:
    recorder = Recorder()
    with ExitStack() as stack:
        shown = demo.Demo(recorder, stack)
        shown.show()
        shown.say_what_next()
    CAST.write_text(recorder.cast(), encoding="utf-8")
    print(f"wrote {CAST.relative_to(DOCS.parent)}; now run 'make generate'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
