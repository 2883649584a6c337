"""Pictures of how costs grow, as SVG: both axes are logarithmic, so that a straight line up is
growth in proportion, and a level one is none.
"""

from collections.abc import Sequence

import pygal
from pygal.style import CleanStyle

from bench.figure import Growth


def render(curves: Sequence[Growth]) -> bytes:
    """One picture: CPU of a change over the size of each axis, as multiples of its smallest."""
    chart = pygal.XY(
        title="CPU of one endpoint's change, as a multiple of that in the smallest mesh",
        x_title="how many times the smallest",
        y_title="times the CPU seconds",
        logarithmic=True,
        xrange=(1, 100),
        js=[],
        style=CleanStyle,
        width=900,
        height=500,
    )
    for curve in curves:
        first = curve.rows[0]
        chart.add(
            curve.axis.value,
            [
                {
                    "value": (
                        curve.size(row) / curve.size(first),
                        row.server.cpu_seconds / first.server.cpu_seconds,
                    ),
                    "label": f"{curve.size(row):,}: {row.server.cpu_seconds * 1000:.1f} ms",
                }
                for row in curve.rows
            ],
        )
    rendered: bytes = chart.render()
    return rendered
