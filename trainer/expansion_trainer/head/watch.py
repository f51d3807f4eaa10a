"""Who waits for a fit and is told how far it is."""

from collections.abc import Callable

Watch = Callable[[str], None]
"""Hears what the fit is at, in words."""


def unwatched(_: str) -> None:
    """Nobody waits."""
