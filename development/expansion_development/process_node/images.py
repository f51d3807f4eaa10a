"""Which local programs stand for which images; read again at every pull, so that a missing image can arrive later."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Program:
    """What an image would bring: its entry point, its environment, and programs that pods name by their path in it."""

    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def write(images: Mapping[str, Program], file: Path) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({name: asdict(program) for name, program in images.items()}, indent=1))
    partial.replace(file)


def pull(image: str, file: Path) -> Program | None:
    """None if there is no such image."""
    found = json.loads(file.read_text()).get(image)
    if found is None:
        return None
    return Program(
        entrypoint=tuple(found["entrypoint"]),
        environment=found["environment"],
        programs={path: tuple(words) for path, words in found["programs"].items()},
    )
