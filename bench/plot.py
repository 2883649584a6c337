"""Pictures of how costs grow, as SVG: both axes are logarithmic, so that a straight line up is
growth in proportion, and a level one is none.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import svg

from bench.figure import Growth

WIDTH: Final = 900
HEIGHT: Final = 500
LEFT: Final = 70
BOTTOM: Final = 60
TOP: Final = 50
RIGHT: Final = 170
COLOURS: Final = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94")
TITLE: Final = "CPU of one endpoint's change, as a multiple of that in the smallest mesh"

Point = tuple[float, float, str]
"""Multiples of the smallest mesh's size and cost, and the words to show beside them."""


def render(curves: Sequence[Growth]) -> bytes:
    """One picture: CPU of a change over the size of each axis, as multiples of its smallest."""
    lines = [(curve.axis.value, list(_points(curve))) for curve in curves]
    widest = _decades(max(x for _, points in lines for x, _, _ in points))
    highest = _decades(max(y for _, points in lines for _, y, _ in points))

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + math.log10(x) / widest * (WIDTH - LEFT - RIGHT)
        up = math.log10(max(y, 1.0)) / highest * (HEIGHT - TOP - BOTTOM)
        return round(right, 1), round(HEIGHT - BOTTOM - up, 1)

    elements: list[svg.Element] = [
        svg.Rect(width=WIDTH, height=HEIGHT, fill="white"),
        _text(LEFT, TOP / 2, TITLE, size=16),
        _text(LEFT, HEIGHT - 15, "how many times the smallest"),
        _text(10, TOP - 8, "times the CPU"),
    ]
    for decade in range(widest + 1):
        x, bottom = place(10**decade, 1)
        elements += [_rule(x, bottom, x, TOP), _text(x - 5, bottom + 20, f"{10**decade:,}")]
    for decade in range(highest + 1):
        _, y = place(1, 10**decade)
        elements += [_rule(LEFT, y, WIDTH - RIGHT, y), _text(30, y + 5, f"{10**decade:,}")]
    for number, (name, points) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        places = [place(x, y) for x, y, _ in points]
        corners = [svg.Point(x, y) for x, y in places]
        elements.append(svg.Polyline(points=corners, stroke=colour, stroke_width=2, fill="none"))
        for (x, y), (_, _, words) in zip(places, points, strict=True):
            told = svg.Title(elements=[svg.Text(text=words)])
            elements.append(svg.Circle(cx=x, cy=y, r=4, fill=colour, elements=[told]))
        elements.append(_text(WIDTH - RIGHT + 15, TOP + 20 * (number + 1), name, fill=colour))
    drawn = svg.SVG(viewBox=svg.ViewBoxSpec(0, 0, WIDTH, HEIGHT), elements=elements)
    return str(drawn).encode()


def _points(curve: Growth) -> Iterator[Point]:
    first = curve.rows[0]
    for row in curve.rows:
        cost = row.server.cpu_seconds
        yield (
            curve.size(row) / curve.size(first),
            cost / first.server.cpu_seconds,
            f"{curve.size(row):,} {curve.axis}: {cost * 1000:.1f} ms of CPU",
        )


def _decades(most: float) -> int:
    return max(1, math.ceil(math.log10(most)))


def _text(x: float, y: float, text: str, *, size: int = 13, fill: str = "#333") -> svg.Text:
    return svg.Text(x=x, y=y, text=text, font_size=size, fill=fill, font_family="sans-serif")


def _rule(x1: float, y1: float, x2: float, y2: float) -> svg.Line:
    return svg.Line(x1=x1, y1=y1, x2=x2, y2=y2, stroke="#ddd")
