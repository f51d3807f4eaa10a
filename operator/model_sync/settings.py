"""What the agent is told by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expansion_contract import environment
from expansion_contract.run import StorageAccess

POLL_SECONDS = "EXPANSION_POLL_SECONDS"
LOAD_SECONDS = "EXPANSION_LOAD_SECONDS"
_REQUIRED = (
    environment.OUTPUT,
    environment.MODEL_NAME,
    environment.MODELS_FOLDER,
    environment.MODEL_SERVER,
)


class SettingsError(Exception):
    """The agent cannot start."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    output: str  # spec.output.models
    model_name: str
    models: Path  # shared with the model server, under the same path
    model_server: str  # base address of its REST interface
    bind: str
    access: StorageAccess
    poll_seconds: float = 5  # how often serving.json is read
    load_seconds: float = 600  # how long a version may take to load


def settings(variables: Mapping[str, str]) -> Settings:
    missing = [name for name in _REQUIRED if not variables.get(name)]
    if missing:
        raise SettingsError(
            f"The environment variable {missing[0]} is not set. The operator's Deployment sets it; see the module"
            " expansion_contract.environment for its meaning."
        )
    return Settings(
        output=variables[environment.OUTPUT],
        model_name=variables[environment.MODEL_NAME],
        models=Path(variables[environment.MODELS_FOLDER]).absolute(),
        model_server=variables[environment.MODEL_SERVER],
        bind=variables.get(environment.BIND) or "0.0.0.0",  # noqa: S104  inside a pod
        access=environment.storage_access(variables),
        poll_seconds=_seconds(variables, POLL_SECONDS, 5),
        load_seconds=_seconds(variables, LOAD_SECONDS, 600),
    )


def _seconds(variables: Mapping[str, str], name: str, default: float) -> float:
    given = variables.get(name) or str(default)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"{name} must be a number of seconds above 0, got {given!r}.")
    return seconds
