"""Draw the dashboard for the documentation, from the answers of a real Prometheus: ``make dashboard-picture``.

``collect`` runs an API server, an emulated Vercel, the operator and a Prometheus (which must be on PATH), creates some
certificates and some trouble for three minutes, and prints what Prometheus answers to the queries of the dashboard.
``draw`` draws the panels of its first three rows with matplotlib. That has a virtual environment of its own, because
nothing else needs it. It is no screenshot of Grafana, but titles, queries, places and units are the dashboard's.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "helm" / "vercel-certificate-operator" / "files" / "dashboard.json"
ROWS = 3
"""How many rows of the dashboard are drawn. The fourth is about the operator's inside."""
SECONDS = 180
VARIABLES = {"$job": ".*", "$namespace": ".*", "$__rate_interval": "10s"}
TOKEN = "picture-token-not-a-secret"  # noqa: S105  # the emulator accepts what it is told to
DAY = 86400.0
Json = dict[str, Any]


def panels() -> list[Json]:
    """Return the panels of the first rows, and the headings of these rows."""
    found: list[Json] = []
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        if panel["type"] == "row" and sum(one["type"] == "row" for one in found) == ROWS:
            break
        found.append(panel)
    return found


# --- collect ----------------------------------------------------------------------------------------------------------


def collect() -> None:
    """Print the panels, each with the answers to its queries."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        sys.exit("prometheus is not on PATH (Debian: apt-get install prometheus)")
    with ExitStack() as stack:
        url, start = asyncio.run(_stage(stack, prometheus))
        end = time.time()
        for panel in (found := panels()):
            for target in panel.get("targets", []):
                expr = target["expr"]
                for variable, value in VARIABLES.items():
                    expr = expr.replace(variable, value)
                if target.get("instant"):
                    target["result"] = _ask(url, "query", query=expr, time=str(end))
                else:
                    times = {"start": str(start), "end": str(end), "step": "1"}
                    target["result"] = _ask(url, "query_range", query=expr, **times)
        json.dump({"end": end, "panels": found}, sys.stdout)


def _ask(url: str, what: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{what}?{urllib.parse.urlencode(query)}", timeout=30) as answer:  # noqa: S310
        return json.load(answer)["data"]["result"]


async def _stage(stack: ExitStack, prometheus: str) -> tuple[str, float]:
    """Run everything for some minutes; Prometheus's URL, and when the operator started."""
    import yaml

    from control_plane import ControlPlane, Process, temporary_folder
    from control_plane.cluster import free_ports
    from vercel_emulator.client import EmulatorControl
    from vercel_emulator.models import Fault

    folder = stack.enter_context(temporary_folder("dashboard-picture-"))
    control_plane = stack.enter_context(ControlPlane())
    control_plane.kubectl("apply", "-f", ROOT / "deploy" / "crds")
    vercel_port, operator_port, prometheus_port = free_ports(3)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("VERCEL_", "KUBECONFIG"))},
        "VERCEL_TOKEN": TOKEN,
    }

    def start(name: str, *command: str | Path) -> None:
        process = Process(list(map(str, command)), log=folder / f"{name}.log", env=environment)
        stack.callback(process.stop)

    ours = (sys.executable, "-m", "vercel_certificate_operator")
    start("emulator", *ours, "emulate", f"--port={vercel_port}", f"--token={TOKEN}")
    vercel_url, url = f"http://127.0.0.1:{vercel_port}", f"http://127.0.0.1:{prometheus_port}"
    job = {
        "job_name": "vercel-certificate-operator",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{operator_port}"]}],
    }
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    start(
        "prometheus",
        prometheus,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{prometheus_port}",
    )
    start(
        "operator",
        *(*ours, "run", f"--kubeconfig={control_plane.kubeconfig}", f"--vercel-api-url={vercel_url}"),
        *(f"--listen=127.0.0.1:{operator_port}", "--default-token-namespace=*", "--drift-interval=20"),
    )
    await _until_it_answers(f"{url}/-/ready", f"http://127.0.0.1:{operator_port}/readyz", f"{vercel_url}/_emulator/")
    begin = time.time()

    def apply(namespace: str, name: str, **spec: Any) -> Json:
        metadata = {"name": name, "namespace": namespace}
        spec = {"cns": [f"{name}.{namespace}.example.com"], **spec}
        return {"apiVersion": "vercel-operator.io/v1", "kind": "VercelCertificate", "metadata": metadata, "spec": spec}

    async def create(*objects: Json) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", input=text)

    async with EmulatorControl(vercel_url) as vercel:
        for delay, call in ((0.15, "list"), (1.2, "issue")):
            await vercel.add_fault(Fault(call=call, action="answer", delay=delay, times=None))
        namespaces = ("web", "shop", "blog")
        await create(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces))
        for wave, (lifetime, count) in enumerate(((90 * DAY, 12), (90.0, 3), (30 * DAY, 9), (60 * DAY, 9))):
            await vercel.behave(lifetime=lifetime)
            await create(*(apply(namespaces[n % 3], f"site-{wave}-{n}") for n in range(count)))
            await asyncio.sleep(18)
        # The oldest fault that matches is used.
        await vercel.clear_faults()
        await vercel.add_fault(Fault(call="issue", cns=["preview.web.example.com"], status=449, times=None))
        await vercel.add_fault(Fault(call="issue", cns=["old.shop.example.com"], status=402, times=None))
        await vercel.add_fault(Fault(call="issue", action="answer", delay=1.2, times=None))
        await create(
            apply("web", "preview"),
            apply("shop", "old"),
            apply("blog", "legacy", tokenSecretRef={"name": "vercel", "key": "token"}),
            apply("blog", "paused", suspend=True),
        )
        await asyncio.sleep(25)
        await vercel.clear_faults()
        limited = await vercel.add_fault(Fault(call="issue", status=429, headers={"Retry-After": "20"}, times=None))
        await create(*(apply("shop", f"new-{n}") for n in range(6)))
        await asyncio.sleep(25)
        await vercel.remove_fault(limited.id)
        await asyncio.sleep(max(0.0, begin + SECONDS - time.time()))
    return url, begin


async def _until_it_answers(*urls: str) -> None:
    for url in urls:
        for _ in range(600):
            try:
                await asyncio.to_thread(urllib.request.urlopen, url, timeout=5)
                break
            except OSError:
                await asyncio.sleep(0.1)
        else:
            sys.exit(f"{url} does not answer")


# --- draw -------------------------------------------------------------------------------------------------------------

BACKGROUND, PANEL, TEXT, DIM = "#111217", "#1a1d23", "#d8d9da", "#8e9299"
NAMED = {"True": "#73bf69", "False": "#f2495c", "Unknown": "#f2cc0c"}
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#b877d9", "#f2495c", "#8ab8ff", "#c8f2c2", "#ffa6b0")
UNIT = 0.46
"""Inches of a column; a line of the grid is two thirds of that."""


def draw(results: Path, picture: Path) -> None:
    """Draw what ``collect`` printed."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "dashboard", "font.size": 7.5, "text.color": TEXT, "axes.labelcolor": TEXT})
    from matplotlib import pyplot as plt

    content = json.loads(results.read_text(encoding="utf-8"))
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in content["panels"])
    figure = plt.figure(figsize=(24 * UNIT, lines * UNIT * 0.62), facecolor=BACKGROUND)
    kinds: dict[str, Callable[..., None]] = {
        "stat": _stat,
        "timeseries": _curves,
        "state-timeline": _bands,
        "table": _table,
    }
    for panel in content["panels"]:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        bottom, height = 1 - (place["y"] + place["h"]) / lines, place["h"] / lines
        if panel["type"] == "row":
            figure.text(left + 0.004, bottom + height * 0.35, panel["title"], fontsize=10, weight="bold")
            continue
        frame = figure.add_axes((left + 0.002, bottom + 0.0025, width - 0.004, height - 0.005), facecolor=PANEL)
        frame.set(xticks=[], yticks=[])
        frame.spines[:].set_visible(False)
        figure.text(left + 0.007, bottom + height - 0.0065, panel["title"], va="top", fontsize=8, weight="bold")
        inside = (left + 0.035, bottom + height * 0.24, width - 0.048, height * 0.58)
        kinds[panel["type"]](figure, frame, inside, panel, content["end"])
    figure.savefig(picture, facecolor=BACKGROUND, metadata={"Date": None})


def _stat(_figure: Any, frame: Any, _inside: Any, panel: Json, end: float) -> None:
    [target] = panel["targets"]
    value = float(target["result"][0]["value"][1]) if target["result"] else 0.0
    defaults = panel["fieldConfig"]["defaults"]
    text = _from_now(value / 1000 - end) if defaults.get("unit") == "dateTimeFromNow" else f"{value:g}"
    colour = TEXT
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = {"green": COLOURS[0], "text": TEXT, "red": COLOURS[5], "orange": COLOURS[3]}.get(
                step["color"], step["color"]
            )
    frame.text(0.5, 0.38, text, ha="center", va="center", fontsize=19 if len(text) < 6 else 11, color=colour)


def _series(panel: Json) -> list[tuple[str, list[float], list[float]]]:
    """Return name, times and values of each curve. Curves that are always 0 are left out."""
    found = []
    for target in panel["targets"]:
        for one in target["result"]:
            name = target["legendFormat"]
            for label, value in one["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            points = [(at, float(value)) for at, value in one["values"] if value not in ("NaN", "+Inf", "-Inf")]
            if any(value for _, value in points) or panel["type"] == "state-timeline":
                found.append((name, [at for at, _ in points], [value for _, value in points]))
    return found


def _curves(figure: Any, _frame: Any, inside: Any, panel: Json, _end: float) -> None:
    axes = figure.add_axes(inside, facecolor=PANEL)
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    series = sorted(_series(panel))
    if "stacking" in custom and series:
        series.sort(key=lambda one: (one[0] not in NAMED, one[0] != "True", one[0]))
        moments = sorted({at for _, times, _ in series for at in times})
        moments = [moments[0] + second for second in range(int(moments[-1] - moments[0]) + 1)]
        layers = [[dict(zip(times, ys, strict=True)).get(at, 0.0) for at in moments] for _, times, ys in series]
        colours = [NAMED.get(name, colour) for (name, _, _), colour in zip(series, COLOURS * 3, strict=False)]
        axes.stackplot(moments, layers, labels=[name for name, _, _ in series], colors=colours, alpha=0.55)
    else:
        for (name, times, values), colour in zip(series, COLOURS * 3, strict=False):
            axes.plot(*_with_gaps(times, values), label=name, color=colour, linewidth=1)
    axes.set_ylim(bottom=0)
    if panel["fieldConfig"]["defaults"].get("unit") == "percentunit":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _plain(axes, (at for _, times, _ in series for at in times))
    if series:
        columns = 4 if panel["gridPos"]["w"] > 8 else 3
        style: Json = {"frameon": False, "fontsize": 6, "labelcolor": TEXT, "handlelength": 1.2, "columnspacing": 1.0}
        axes.legend(loc="upper left", bbox_to_anchor=(-0.06, -0.13), ncols=columns, borderaxespad=0.0, **style)


def _with_gaps(times: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Return a curve that is interrupted where Prometheus had no value for some seconds."""
    xs, ys = [times[0]], [values[0]]
    for before, at, value in zip(times, times[1:], values[1:], strict=False):
        if at - before > 3:
            xs.append(before + 1)
            ys.append(float("nan"))
        xs.append(at)
        ys.append(value)
    return xs, ys


def _bands(figure: Any, _frame: Any, inside: Any, panel: Json, _end: float) -> None:
    axes = figure.add_axes(inside, facecolor=PANEL)
    series = sorted(_series(panel))
    for row, (_, times, values) in enumerate(series):
        changes = [n for n in range(len(values)) if not n or values[n] != values[n - 1]]
        for first, after in zip(changes, [*changes[1:], len(values) - 1], strict=True):
            colour = COLOURS[5] if values[first] else COLOURS[0]
            axes.barh(row, times[after] - times[first], left=times[first], align="center", height=0.6, color=colour)
    for row, (name, times, _) in enumerate(series):
        axes.text(times[0], row + 0.36, name, fontsize=6, color=TEXT)
    axes.set(yticks=[], ylim=(-0.6, max(len(series), 2) - 0.2))
    _plain(axes, (at for _, times, _ in series for at in times))


def _plain(axes: Any, times: Iterable[float]) -> None:
    axes.spines[:].set_visible(False)
    axes.grid(color="#2c3038", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(colors=DIM, labelsize=6, length=0)
    moments = sorted(times)
    if moments:
        ticks = [at for at in range(int(moments[0]) // 60 * 60, int(moments[-1]) + 60, 60) if at >= moments[0]]
        axes.set_xticks(ticks, [datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at in ticks])
        axes.set_xlim(moments[0], moments[-1])


def _table(_figure: Any, frame: Any, _inside: Any, panel: Json, end: float) -> None:
    rows: dict[tuple[str, ...], Json] = {}
    for letter, target in zip("ABC", panel["targets"], strict=False):
        for one in target["result"]:
            key = tuple(one["metric"].get(label, "") for label in ("namespace", "name"))
            rows.setdefault(key, {}).update(one["metric"] | {f"Value #{letter}": float(one["value"][1])})
    organize = next(one["options"] for one in panel["transformations"] if one["id"] == "organize")
    columns = sorted(organize["renameByName"], key=lambda column: organize["indexByName"][column])
    ordered = sorted(rows.values(), key=lambda row: (row.get("Value #A", 0) if "Value #A" in columns else 0, str(row)))
    places = [0.02 + 0.245 * number for number in range(len(columns))]
    for column, x in zip(columns, places, strict=True):
        frame.text(x, 0.81, organize["renameByName"][column], fontsize=7, color=COLOURS[6])
        for line, row in enumerate(ordered[:8]):
            value = row.get(column, "")
            text = _from_now(value / 1000 - end) if isinstance(value, float) else str(value)
            frame.text(x, 0.73 - 0.085 * line, text, fontsize=7)
    frame.set(xlim=(0, 1), ylim=(0, 1))


def _from_now(seconds: float) -> str:
    for size, unit in ((DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if abs(seconds) >= 2 * size:
            return f"in {seconds / size:.0f} {unit}" if seconds > 0 else f"{-seconds / size:.0f} {unit} ago"
    return f"in {seconds:.0f} seconds" if seconds > 0 else f"{-seconds:.0f} seconds ago"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("collect", help="print the answers of Prometheus")
    draw_parser = commands.add_parser("draw", help="draw them")
    draw_parser.add_argument("results", type=Path)
    draw_parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    if options.command == "collect":
        collect()
    else:
        draw(options.results, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
