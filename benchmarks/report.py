"""Figures as a table and as plots, in ``docs/performance.md``."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import plots
from phases import Figures
from stage import ROOT

WHO = ("operator", "Go", "bare minimum")
FIGURES = ROOT / "benchmarks" / "figures.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- figures: end -->"


def line(figures: Figures) -> str:
    """Return one line for the terminal."""
    found = _row(figures.as_json())
    facts = (f"{name} {text}" for name, text in zip(_COLUMNS[2:], found[2:], strict=True) if text)
    return f"{found[1]:>13} {found[0]:<14} {'; '.join(facts)}"


def save(count: int, figures: list[Figures], *, machine: str) -> None:
    """Replace the figures for this number of resources, and write the page."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    names = ("kopf", "kubernetes", "httpx", "aiohttp", "pydantic")
    known[str(count)] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine,
        "versions": {name: version(name) for name in names},
        "go": _go_version("sigs.k8s.io/controller-runtime"),
        "figures": [one.as_json() for one in figures],
    }
    ordered = dict(sorted(known.items(), key=lambda item: int(item[0])))
    FIGURES.write_text(json.dumps(ordered, indent=1) + "\n")
    write_page(ordered)


def write_page(known: dict[str, Any]) -> None:
    """Write the tables and the plots."""
    folder = PAGE.parent
    for name, title, unit, of in _PLOTS:
        lines = {
            who: [(float(count), of(found)) for count, run in known.items() if (found := _find(run, who, "create"))]
            for who in WHO
        }
        (folder / f"performance-{name}.svg").write_text(plots.plot(title, unit, lines))
    text = "\n".join(_section(int(count), run) for count, run in known.items())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


def _milliseconds(found: dict[str, Any]) -> float:
    return float(found["cpu"] / found["count"] * 1000)


def _megabytes(found: dict[str, Any]) -> float:
    return float(found["peak"])


_PLOTS = (
    ("cpu", "CPU for a new certificate", "ms", _milliseconds),
    ("memory", "Peak memory while certificates are created", "MB", _megabytes),
)
_COLUMNS = ("phase", "who", "requests to Kubernetes", "to Vercel", "CPU", "peak", "time", "rate", "p50", "p99")


def _find(run: dict[str, Any], who: str, phase: str) -> dict[str, Any] | None:
    return next((one for one in run["figures"] if one["who"] == who and one["phase"] == phase), None)


def _section(count: int, run: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    phases = list(dict.fromkeys(one["phase"] for one in run["figures"]))
    rows = [_row(found) for phase in phases for who in WHO if (found := _find(run, who, phase))]
    return "\n".join(
        [
            f"### {count:,} certificates",
            "",
            f"{run['date']}; {run['machine']}; {versions}; controller-runtime {run['go']}.",
            "",
            f"| {' | '.join(_COLUMNS)} |",
            "|---|---|---|---|" + "--:|" * (len(_COLUMNS) - 4),
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


def _row(found: dict[str, Any]) -> list[str]:
    count, seconds = found["count"], found["seconds"]
    waits = ["" if found[name] is None else f"{found[name]:.2f} s" for name in ("p50", "p99")]
    rate = f"{count / seconds:.0f}/s" if seconds and found["p50"] is not None else ""
    return [
        found["phase"],
        found["who"],
        _requests(found["kubernetes"]),
        _requests(found["vercel"]),
        f"{found['cpu']:.2f} s",
        f"{found['peak']:.0f} MB",
        "" if seconds is None else f"{seconds:.1f} s",
        rate,
        *waits,
    ]


def _requests(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"


def _go_version(module: str) -> str:
    lines = (ROOT / "benchmarks" / "peer" / "go.mod").read_text().splitlines()
    return next(text.split()[1] for text in map(str.strip, lines) if text.startswith(module)).removeprefix("v")


if __name__ == "__main__":
    write_page(json.loads(Path(FIGURES).read_text()))
