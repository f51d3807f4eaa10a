"""Draws the diagrams of docs/how-it-works.md: boxes and arrows, no data in them. `make diagrams` writes them."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

INK, QUIET, LINE = "#24292f", "#57606a", "#8c959f"
OLD, NEW, PLAIN = "#ddf4ff", "#dafbe1", "#f6f8fa"


@dataclass(frozen=True, kw_only=True)
class Box:
    x: int
    y: int
    wide: int
    high: int
    lines: Sequence[str]  # the first one is bold
    fill: str = PLAIN


@dataclass(frozen=True, kw_only=True)
class Arrow:
    start: tuple[int, int]
    end: tuple[int, int]
    words: str = ""
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Diagram:
    wide: int
    high: int
    boxes: Sequence[Box]
    arrows: Sequence[Arrow] = ()
    notes: Sequence[tuple[int, int, str]] = ()


GROWING = Diagram(
    wide=760,
    high=250,
    boxes=(
        Box(x=10, y=85, wide=100, high=60, lines=("picture", "JPEG bytes")),
        Box(x=160, y=70, wide=150, high=90, lines=("backbone", "frozen: never", "trained here"), fill=OLD),
        Box(x=360, y=85, wide=120, high=60, lines=("bottleneck", "1280 numbers")),
        Box(x=530, y=20, wide=150, high=90, lines=("1000 old rows", "copied", "bit by bit"), fill=OLD),
        Box(x=530, y=120, wide=150, high=60, lines=("5 new rows", "fitted"), fill=NEW),
    ),
    arrows=(
        Arrow(start=(110, 115), end=(160, 115)),
        Arrow(start=(310, 115), end=(360, 115)),
        Arrow(start=(480, 105), end=(530, 70)),
        Arrow(start=(480, 125), end=(530, 150)),
        Arrow(start=(680, 70), end=(720, 105)),
        Arrow(start=(680, 150), end=(720, 115)),
    ),
    notes=(
        (722, 114, "best"),
        (
            10,
            215,
            "A row turns a bottleneck into one number, its logit. The highest logit of all 1005 is the answer.",
        ),
        (10, 235, "Backbone and old rows stay as they are, so every old logit is what it always was."),
    ),
)
STEAL = Diagram(
    wide=760,
    high=230,
    boxes=(
        Box(
            x=10,
            y=20,
            wide=330,
            high=70,
            lines=("an old picture, answered as before", "every new logit is below", "the best old one"),
            fill=OLD,
        ),
        Box(
            x=10,
            y=110,
            wide=330,
            high=70,
            lines=("an old picture, stolen", "some new logit is above", "the best old one"),
            fill=NEW,
        ),
        Box(
            x=440,
            y=110,
            wide=300,
            high=70,
            lines=(
                "the offset",
                "one number, added to every new logit:",
                "lower it, and the answer comes back",
            ),
        ),
    ),
    arrows=(Arrow(start=(340, 145), end=(440, 145)),),
    notes=(
        (
            10,
            210,
            "Old logits are what they always were: only a new one above all of them can change an old answer.",
        ),
    ),
)
CHAIN = Diagram(
    wide=760,
    high=270,
    boxes=(
        Box(x=10, y=30, wide=170, high=70, lines=("pretrained", "1000 categories"), fill=OLD),
        Box(x=290, y=30, wide=170, high=70, lines=("version 1", "1005 categories"), fill=OLD),
        Box(x=570, y=30, wide=170, high=70, lines=("version 1 of the next", "1105 categories"), fill=OLD),
        Box(
            x=290,
            y=150,
            wide=170,
            high=70,
            lines=("its pack", "sums, and up to 10", "bottlenecks of each"),
            fill=NEW,
        ),
        Box(x=570, y=150, wide=170, high=70, lines=("its pack", "grows along"), fill=NEW),
    ),
    arrows=(
        Arrow(start=(180, 65), end=(290, 65), words="5 new ones"),
        Arrow(start=(460, 65), end=(570, 65), words="100 more"),
        Arrow(start=(375, 100), end=(375, 150)),
        Arrow(start=(655, 100), end=(655, 150)),
        Arrow(start=(460, 185), end=(570, 90), dashed=True),
    ),
    notes=(
        (
            10,
            245,
            "The second step reads the first one's pack and not one of its pictures. All 105 added rows are solved",
        ),
        (10, 262, "again together; the pretrained 1000 are still the same bits."),
    ),
)
DIAGRAMS = {"growing": GROWING, "steal": STEAL, "chain": CHAIN}


def drawn(diagram: Diagram) -> str:
    parts = [*_start(diagram), *map(_box, diagram.boxes), *map(_arrow, diagram.arrows)]
    notes = [_text(x, y, words, "start", QUIET) for x, y, words in diagram.notes]
    return "\n".join([*parts, *notes, "</svg>", ""])


def _start(diagram: Diagram) -> Iterator[str]:
    size = f"0 0 {diagram.wide} {diagram.high}"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">'
    yield f'<rect width="{diagram.wide}" height="{diagram.high}" fill="#ffffff"/>'
    yield '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    yield f'<path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker></defs>'


def _box(box: Box) -> str:
    frame = f'<rect x="{box.x}" y="{box.y}" width="{box.wide}" height="{box.high}" rx="6" fill="{box.fill}" stroke="{LINE}"/>'
    first = box.y + box.high / 2 - 8 * (len(box.lines) - 1) + 4
    words = [
        _text(box.x + box.wide / 2, first + 16 * number, line, "middle", INK, bold=number == 0)
        for number, line in enumerate(box.lines)
    ]
    return "\n".join([frame, *words])


def _arrow(arrow: Arrow) -> str:
    (x, y), (to_x, to_y) = arrow.start, arrow.end
    dashes = ' stroke-dasharray="5 4"' if arrow.dashed else ""
    line = f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{LINE}" stroke-width="1.5" marker-end="url(#tip)"{dashes}/>'
    if not arrow.words:
        return line
    return f"{line}\n{_text((x + to_x) / 2, (y + to_y) / 2 - 8, arrow.words, 'middle', QUIET)}"


def _text(x: float, y: float, words: str, anchor: str, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(words)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    folder = parser.parse_args().docs
    for name, diagram in DIAGRAMS.items():
        (folder / f"{name}.svg").write_text(drawn(diagram), encoding="utf-8")


if __name__ == "__main__":
    main()
