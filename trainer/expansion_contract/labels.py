"""Names of categories: which are acceptable, which are the same, and what the thousand ImageNet ones are called."""

import re
import unicodedata
from functools import cache
from importlib.resources import files

_SPACE = re.compile(r"[\s_\-]+")


def normalised(name: str) -> str:
    """Two names that differ only in case, Unicode form or in spaces, '_' and '-' are one category to a person."""
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", name)).strip().casefold()


def problem_with(name: str) -> str | None:
    """Why a folder cannot be a category; None if it can. Any script is welcome, control characters and paths are not."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name:
        return "it is a path, not a name"
    if any(unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"} for character in name):
        return "it contains control characters"
    if not normalised(name):
        return "nothing of it can be read"
    if len(name.encode()) > 253:
        return "it is longer than 253 bytes"
    return None


@cache
def imagenet() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1000 ImageNet categories, in the order of every Keras classifier's outputs.

    Source: Keras' imagenet_class_index.json (Apache-2.0). Two names stand twice (crane, maillot): only ids are unique.
    """
    lines = files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines()
    return tuple((line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines)


@cache
def imagenet_names() -> frozenset[str]:
    """The normalised names of what every ImageNet classifier already knows."""
    return frozenset(normalised(name) for _, name in imagenet())
