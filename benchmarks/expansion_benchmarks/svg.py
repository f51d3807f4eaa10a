"""Line plots as small SVG files that read well on light and dark pages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from pathlib import Path

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 62, 210, 34, 48
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#57606a", "#0550ae", "#1f2328")
INK = "#24292f"


@dataclass(frozen=True, kw_only=True)
class Line:
    name: str  # "" keeps it out of the legend
    xs: Sequence[float]
    ys: Sequence[float]
    dashed: bool = False
    dots_only: bool = False
    colour: int | None = None  # None: the next one


@dataclass(frozen=True, kw_only=True)
class Plot:
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    span_x: tuple[float, float]
    span_y: tuple[float, float]
    log_x: bool = False

    def place(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.span_x
        across = (log10(x / low) / log10(high / low)) if self.log_x else (x - low) / (high - low)
        up = (y - self.span_y[0]) / (self.span_y[1] - self.span_y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def write(plot: Plot, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [*_frame(plot), *_axes(plot), *_lines(plot), "</svg>", ""]
    path.write_text("\n".join(parts), encoding="utf-8")


def _frame(plot: Plot) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield _text(LEFT, 20, plot.title, "start", 14)
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, plot.x, "middle")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<g transform="rotate(-90 16 {middle:.0f})">{_text(16, middle, plot.y, "middle")}</g>'
    yield '<defs><clipPath id="in">'
    yield f'<rect x="{LEFT}" y="{TOP - 4}" width="{WIDTH - LEFT - RIGHT + 4}" height="{HEIGHT - TOP - BOTTOM + 8}"/></clipPath></defs>'


def _axes(plot: Plot) -> Iterator[str]:
    for x in plot.lines[0].xs if plot.log_x else ticks(*plot.span_x):
        left, _ = plot.place(x, plot.span_y[0])
        yield _stroke([(left, TOP), (left, HEIGHT - BOTTOM)], "#d0d7de", 0.6)
        yield _text(left, HEIGHT - BOTTOM + 16, f"{x:g}", "middle")
    for y in ticks(*plot.span_y):
        _, up = plot.place(plot.span_x[0], y)
        yield _stroke([(LEFT, up), (WIDTH - RIGHT, up)], "#d0d7de", 0.6)
        yield _text(LEFT - 6, up + 4, f"{y:g}", "end")


def _lines(plot: Plot) -> Iterator[str]:
    following = 0
    entries = 0
    for line in plot.lines:
        colour = COLOURS[(following if line.colour is None else line.colour) % len(COLOURS)]
        following += line.colour is None
        points = [plot.place(x, y) for x, y in zip(line.xs, line.ys, strict=True)]
        if not line.dots_only:
            dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
            yield f'<g clip-path="url(#in)"{dashes}>{_stroke(points, colour, 2)}</g>'
        if line.dots_only or plot.log_x:
            yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points)
        if line.name:
            yield from _entry(line, entries, colour)
            entries += 1


def _entry(line: Line, number: int, colour: str) -> Iterator[str]:
    """In the legend."""
    left, up = WIDTH - RIGHT + 14, TOP + 10 + 20 * number
    if line.dots_only:
        yield f'<circle cx="{left + 10}" cy="{up - 4}" r="4" fill="{colour}"/>'
    else:
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        yield f"<g{dashes}>{_stroke([(left, up - 4), (left + 20, up - 4)], colour, 2)}</g>"
    yield _text(left + 26, up, line.name, "start")


def ticks(low: float, high: float) -> list[float]:
    """Between five and ten round numbers."""
    step: float = 10 ** floor(log10((high - low) / 5))
    while (high - low) / step > 10:
        step *= 2 if f"{step:e}"[0] in "15" else 2.5
    first = -floor(-low / step)
    return [round(step * k, 10) for k in range(first, floor(high / step + 1e-9) + 1)]


def _text(x: float, y: float, words: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(words)}</text>'


def _stroke(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
