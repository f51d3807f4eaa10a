"""Draws a tree for a terminal: the words say everything, colour and line characters only help the eye. Pure."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from kubectl_clx.tree import Branch, State

_COLOURS = {State.OK: "32", State.WORKS: "36", State.WAITS: "33", State.FAILED: "31"}
_WORD = max(len(state) for state in State)
_LEAST_ROOM = 30
"""Columns; where a terminal leaves less, lines are not broken."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What it is drawn on."""

    colour: bool = False
    lines: bool = True  # its encoding has line characters
    width: int = 0  # columns; 0 never breaks a line


@dataclass(frozen=True, kw_only=True)
class _Pen:
    fork: str
    corner: str
    trunk: str
    gap: str = "   "


_DRAWN = _Pen(fork="├─ ", corner="└─ ", trunk="│  ")
_TYPED = _Pen(fork="|- ", corner="`- ", trunk="|  ")


def drawn(branch: Branch, paper: Paper) -> str:
    return "\n".join(_lines(branch, paper, "", "", len(branch.name)))


def _lines(branch: Branch, paper: Paper, first: str, rest: str, column: int) -> Iterator[str]:
    """`first` stands before its own line, `rest` before all that follows; names are `column` wide."""
    pen = _DRAWN if paper.lines else _TYPED
    below = f"{rest}{pen.trunk if branch.children else pen.gap}"
    head = f"{first}{branch.name.ljust(column)}  {branch.state.ljust(_WORD)}  "
    for number, line in enumerate(_broken(branch.text, len(head), paper)):
        yield (
            _coloured(f"{head}{line}".rstrip(), branch.state, len(head), paper)
            if number == 0
            else f"{below}{line}"
        )
    for note in branch.notes:
        yield from (f"{below}{line}" for line in _broken(note, len(below), paper))
    widest = max((len(child.name) for child in branch.children), default=0)
    for child in branch.children:
        is_last = child is branch.children[-1]
        inner = f"{rest}{pen.gap if is_last else pen.trunk}"
        yield from _lines(child, paper, f"{rest}{pen.corner if is_last else pen.fork}", inner, widest)


def _broken(text: str, column: int, paper: Paper) -> list[str]:
    """The text in lines that fit behind `column`."""
    room = paper.width - column
    if room < _LEAST_ROOM:
        return text.splitlines() or [""]
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _coloured(line: str, state: State, behind: int, paper: Paper) -> str:
    if not paper.colour or state not in _COLOURS:
        return line
    at = behind - _WORD - 2
    return f"{line[:at]}\x1b[{_COLOURS[state]}m{line[at : at + len(state)]}\x1b[0m{line[at + len(state) :]}"
