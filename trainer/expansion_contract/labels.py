"""Names of categories: which are acceptable, which are the same, and what the thousand ImageNet ones are called."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_SPACE = re.compile(r"[\s_\-]+")
_JOINERS = "\u200c\u200d"
"""Zero width joiner and non-joiner: Persian, the scripts of India and composed emoji need them."""


def normalised(name: str) -> str:
    """Two names that differ only in case, Unicode form, unseen characters or in spaces, '_' and '-' are one category to a person."""
    seen = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", seen)).strip().casefold()


def words(name: str) -> tuple[str, ...]:
    """The words of a name, each in the singular as far as English spelling shows it: 'Leopards' and 'leopard' are one."""
    return tuple(_singular(word) for word in normalised(name).split(" "))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def key(name: str) -> str:
    """Of names that differ in case, plural and spaces only: 'sea horses' and 'Seahorse' have the same."""
    return "".join(words(name))


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The names of some categories, to find those that another name may mean. Categories are numbered as they were given."""

    names: tuple[str, ...]  # the first name of each category
    _by_key: dict[str, list[int]]
    _by_word: dict[str, list[tuple[int, frozenset[str]]]]

    @classmethod
    def of(cls, names: Iterable[Iterable[str]]) -> "Vocabulary":
        """`names`: all names of each category."""
        by_key: dict[str, list[int]] = defaultdict(list)
        by_word: dict[str, list[tuple[int, frozenset[str]]]] = defaultdict(list)
        firsts = []
        for index, own in enumerate(map(tuple, names)):
            firsts.append(own[0] if own else "")
            for name in own:
                by_key[key(name)].append(index)
                for word in (parts := frozenset(words(name))):
                    by_word[word].append((index, parts))
        return cls(tuple(firsts), dict(by_key), dict(by_word))

    def same(self, name: str) -> tuple[int, ...]:
        """Categories of this very name."""
        return tuple(sorted(set(self._by_key.get(key(name), ()))))

    def related(self, name: str) -> tuple[int, ...]:
        """Categories all of whose words are in this name, or that have all of its words: 'giant panda' to 'panda'."""
        mine = frozenset(words(name))
        candidates = (candidate for word in mine for candidate in self._by_word.get(word, ()))
        found = {index for index, its in candidates if mine <= its or its <= mine}
        return tuple(sorted(found - set(self.same(name))))


def problem_with(name: str) -> str | None:
    """Why a folder cannot be a category; None if it can. Any script is welcome, control characters and paths are not."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name:
        return "it is a path, not a name"
    if any(unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"} for character in name):
        return "it contains control characters"
    if unseen := [character for character in name if _is_unseen(character)]:
        return f"it contains U+{ord(unseen[0]):04X}, which nobody sees and which may change how the rest is shown"
    if not normalised(name):
        return "nothing of it can be read"
    if len(name.encode()) > 253:
        return "it is longer than 253 bytes"
    return None


def _is_unseen(character: str) -> bool:
    """Zero width, or a change of direction; but joiners belong to how many scripts are written."""
    return unicodedata.category(character) == "Cf" and character not in _JOINERS


@cache
def imagenet() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1000 ImageNet categories, in the order of every Keras classifier's outputs.

    Source: Keras' imagenet_class_index.json (Apache-2.0). Two names stand twice (crane, maillot): only ids are unique.
    """
    lines = files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines()
    return tuple((line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines)


@cache
def _other_names() -> dict[str, tuple[str, ...]]:
    """WordNet id -> everyday names beside the one in `imagenet`: 'puma' of the cougar. A choice of our own, not complete."""
    lines = files(__package__).joinpath("imagenet_other_names.txt").read_text(encoding="utf-8").splitlines()
    return {line.split(" ", 1)[0]: tuple(line.split(" ", 1)[1].split(", ")) for line in lines}


def names_of(name: str, uid: str) -> tuple[str, ...]:
    """What people call a category; `uid`: its WordNet id, or empty."""
    return (name, *_other_names().get(uid, ()))


def vocabulary(categories: Iterable[tuple[str, str]]) -> Vocabulary:
    """Of (WordNet id, name), numbered as they come."""
    return Vocabulary.of(names_of(name, uid) for uid, name in categories)


@cache
def imagenet_vocabulary() -> Vocabulary:
    """The names of what every ImageNet classifier already knows."""
    return vocabulary(imagenet())
