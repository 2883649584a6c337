"""As much of pygal as the benchmark draws with."""

from collections.abc import Sequence

from pygal.style import Style

class XY:
    def __init__(
        self,
        *,
        title: str,
        x_title: str,
        y_title: str,
        logarithmic: bool,
        xrange: tuple[float, float],
        js: Sequence[str],
        style: type[Style],
        width: int,
        height: int,
    ) -> None: ...
    def add(self, title: str, values: Sequence[dict[str, object]]) -> None: ...
    def render(self) -> bytes: ...
