"""Line plots as SVG, by hand: two axes, three lines. A library for that would be the project's largest dependency."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 130, 40, 48
COLOURS = ("#1f6feb", "#d1242f", "#6e7781")
TICKS = 5
NAMESPACE = "http://www.w3.org/2000/svg"

Point = tuple[float, float]


def plot(title: str, unit: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return an SVG with one line for each name, through its points. Both axes start at 0."""
    points = [point for line in lines.values() for point in line]
    right = _round_up(max((x for x, _ in points), default=1))
    top = _round_up(max((y for _, y in points), default=1))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(point: Point) -> Point:
        return LEFT + point[0] / right * wide, TOP + high - point[1] / top * high

    parts = [
        f'<svg xmlns="{NAMESPACE}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for number in range(TICKS + 1):
        value = top * number / TICKS
        y = place((0, value))[1]
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + wide}" y2="{y:.1f}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.4g}</text>')
        x = place((right * number / TICKS, 0))[0]
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + high + 18}" text-anchor="middle">{right * number / TICKS:,.0f}</text>'
        )
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">certificates</text>')
    parts.append(f'<text x="{LEFT - 6}" y="{TOP - 8}" text-anchor="end">{escape(unit)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, sorted(line)))
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in line:
            x, y = place(point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        y = TOP + 10 + 18 * number
        parts.append(f'<rect x="{LEFT + wide + 14}" y="{y - 9}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + wide + 32}" y="{y + 1}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """Return the next number of which a fifth is easy to read."""
    scale = 1.0
    while value > 10 * scale:
        scale *= 10
    while value and value <= scale:
        scale /= 10
    return next(step * scale for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * scale >= value)
