"""Which versions of a model should be loaded: the rules of file_system_storage_path_source.cc and of the policy."""

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from expansion_development.model_server.errors import invalid

_NUMBER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)  # what absl::SimpleAtoi accepts


def aspired(config: Any) -> dict[int, Path]:
    """The versions that `config` (a ModelConfig) asks for and that have a folder; nobody looks whether it is complete.

    A base path that is missing is an error and changes nothing; an empty one asks for no version.
    """
    base = Path(config.base_path)
    if not base.exists():
        raise invalid(
            f"Could not find base path {base} for servable {config.name} with error NOT_FOUND: {base} not found"
        )
    found = _versions(base)
    policy = config.model_version_policy
    if policy.HasField("all"):
        return found
    if policy.HasField("specific"):
        return {version: found[version] for version in policy.specific.versions if version in found}
    most = max(policy.latest.num_versions, 1)
    return {version: found[version] for version in sorted(found)[-most:]}


def _versions(base: Path) -> dict[int, Path]:
    """Children named like integers. "3.partial" is not; "00003" is 3."""
    return {int(child.name): child for child in sorted(base.iterdir()) if _NUMBER.fullmatch(child.name)}


class Stage(Enum):
    """Of one version inside the manager."""

    NEW = "START"
    LOADING = "LOADING"
    READY = "AVAILABLE"
    UNLOADING = "UNLOADING"
    FAILED = "END"


def next_action(stages: Mapping[int, Stage], wanted: set[int]) -> tuple[str, int] | None:
    """availability_preserving_policy.cc: an old version goes only when a wanted one is ready or none is wanted."""
    unwanted_ready = sorted(v for v, stage in stages.items() if stage is Stage.READY and v not in wanted)
    wanted_ready = any(stage is Stage.READY and version in wanted for version, stage in stages.items())
    wanted_here = wanted & stages.keys()
    if unwanted_ready and (not wanted_here or wanted_ready or len(unwanted_ready) > 1):
        return "unload", unwanted_ready[0]
    fresh = [version for version in wanted_here if stages[version] is Stage.NEW]
    return ("load", max(fresh)) if fresh else None
