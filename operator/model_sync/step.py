"""Decides what the agent does next, from what is wanted, on the disk and in the model server. No input, no output.

    wanted -> on the disk -> under the second name -> AVAILABLE -> golden images agree -> the second name is empty again
           -> under the model's name, beside the live one -> AVAILABLE -> golden images agree -> live, alone in the config

The second name is there because TensorFlow Serving lets the highest available version answer whoever names none: under the
model's own name a version would answer before it was asked. While no other version answers, nobody can be answered wrongly (the
pod is not ready), and a version is loaded under the model's name at once. After a roll back, the higher version answers until it
is gone; both were checked.

A step that fails goes back to the version that was live, and is tried again later or when something else is wanted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from expansion_contract.version import ServingDocument
from model_sync.model_server import ServerConfig, ServerSeen, VersionState

State = Literal["Waiting", "Downloading", "Verifying", "Loading", "Checking", "Live", "Failed"]
SETTLE_SECONDS = 6.0
"""So long after the config changed the server may still follow the one before: it reads its config every 2 seconds, its folders
every second. Until then an error may be of an earlier attempt, and no folder goes: a new name whose version is not there keeps
TensorFlow Serving from ever reading its config again."""
_LONGEST_PAUSE = 600.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    load_seconds: float = 600
    first_pause: float = 10
    mismatch_pause: float = (
        600  # the same files will hardly answer otherwise, and each try has two versions in memory
    )


@dataclass(frozen=True, kw_only=True)
class Seen:
    now: float
    storage_answered: bool  # at least once; before that nobody knows what is wanted
    desired: ServingDocument | None
    disk: Mapping[int, str]  # whole versions -> SHA-256 of their manifests
    server: ServerSeen
    aside: ServerSeen = field(
        default_factory=lambda: ServerSeen(answers=True)
    )  # the same under the second name


@dataclass(frozen=True, kw_only=True)
class Failure:
    manifest_sha256: str
    message: str
    count: int
    again_at: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a step must know of the steps before. Only `good` and `previous` outlive the agent."""

    good: int | None = None  # the last version that went live
    previous: int | None = None  # the one before; stays on the disk for a roll back
    proven: frozenset[int] = frozenset()  # agreed with the golden images since they were last loaded
    passed: int | None = None  # agreed with the golden images under the second name
    loading: int | None = None
    loading_since: float = 0.0
    config: ServerConfig | None = None
    config_since: float = 0.0  # since when the config says so
    silent_since: float | None = None  # since when the server does not answer
    failures: Mapping[int, Failure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """Ask this version the golden images, under the second name or the model's own."""

    version: int
    aside: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    memory: Memory
    state: State
    message: str = ""
    live: int | None = None
    config: ServerConfig | None = None  # None: leave the server's config alone
    download: ServingDocument | None = None
    check: Check | None = None
    keep: frozenset[int] = frozenset()  # versions that stay on the disk


def decide(seen: Seen, memory: Memory, patience: Patience) -> Decision:
    """The next step; safe to take again at any time."""
    decision = _decided(seen, _refreshed(seen, memory, patience), patience)
    memory = decision.memory
    if decision.config not in {None, memory.config}:
        memory = replace(memory, config=decision.config, config_since=seen.now)
    return replace(decision, memory=memory, keep=_keep(seen, memory))


def _decided(seen: Seen, memory: Memory, patience: Patience) -> Decision:
    wanted = seen.desired
    if wanted is None:
        live = _live(seen, memory)
        return _resting(seen, memory, "Waiting" if live is None else "Live", "")
    on_disk = seen.disk.get(wanted.version)
    if on_disk not in {None, wanted.manifest_sha256}:
        return _resting(seen, memory, "Failed", _reused(wanted.version))
    failure = memory.failures.get(wanted.version)
    if failure and seen.now < failure.again_at:
        return _resting(seen, memory, "Failed", f"{failure.message} {_still(seen, memory)}")
    if on_disk is None:
        return replace(_resting(seen, memory, "Downloading", ""), download=wanted)
    if not seen.server.answers:
        return _unanswered(seen, memory, wanted, patience)
    if _live(seen, memory) == wanted.version:
        return _resting(seen, memory, "Live", "")
    return _loading(seen, memory, wanted, patience)


def passed(memory: Memory, version: int) -> Memory:
    """Its answers under the second name agree, so it may answer under the model's own."""
    return replace(memory, passed=version)


def went_live(memory: Memory, version: int) -> Memory:
    return replace(
        memory,
        good=version,
        previous=memory.previous if memory.good in {None, version} else memory.good,
        proven=memory.proven | {version},
        passed=None,
        loading=None,
        failures={number: failure for number, failure in memory.failures.items() if number != version},
    )


def failed(
    memory: Memory, version: int, manifest_sha256: str, message: str, now: float, pause: float
) -> Memory:
    """The same version is tried again after a pause that doubles; another document is tried at once."""
    before = memory.failures.get(version)
    count = before.count + 1 if before and before.manifest_sha256 == manifest_sha256 else 1
    again_at = now + min(pause * 2 ** (count - 1), _LONGEST_PAUSE)
    failure = Failure(manifest_sha256=manifest_sha256, message=message, count=count, again_at=again_at)
    return replace(
        memory,
        loading=None,
        passed=None if memory.passed == version else memory.passed,
        proven=memory.proven - {version},
        failures={**memory.failures, version: failure},
    )


def desired_changed(memory: Memory) -> Memory:
    """Somebody decided anew, so nothing that failed has to wait."""
    return replace(memory, failures={}, loading=None, passed=None)


def _refreshed(seen: Seen, memory: Memory, patience: Patience) -> Memory:
    """What the server's state says of the last step: who is gone must prove itself again."""
    answers = seen.server.answers
    interrupted = memory.loading
    memory = replace(
        memory,
        good=memory.good if memory.good in seen.disk else None,
        passed=memory.passed if answers else None,
        proven=frozenset(version for version in memory.proven if seen.server.is_available(version)),
        silent_since=None
        if answers
        else memory.silent_since
        if memory.silent_since is not None
        else seen.now,
    )
    if answers or interrupted is None or memory.good in {None, interrupted}:
        return memory
    message = (
        f"The model server stopped while it loaded version {interrupted} beside version {memory.good}; if it was killed for memory,"
        " give its container room for two versions."
    )
    return failed(
        memory, interrupted, seen.disk.get(interrupted, ""), message, seen.now, patience.first_pause
    )


def _resting(seen: Seen, memory: Memory, state: State, message: str) -> Decision:
    """The version that was live goes on, or is brought back."""
    good, live = memory.good, _live(seen, memory)
    nothing_known = good is None and not seen.storage_answered
    unproven = good is not None and live is None and seen.server.is_available(good)
    waits = unproven and good in memory.failures and seen.now < memory.failures[good or 0].again_at
    return Decision(
        memory=memory if memory.loading == good else replace(memory, loading=None),
        state=state,
        message=message.strip(),
        live=live,
        config=None if nothing_known else ServerConfig(versions=_numbers(good)),
        check=Check(version=good) if good is not None and unproven and not waits else None,
    )


def _unanswered(seen: Seen, memory: Memory, wanted: ServingDocument, patience: Patience) -> Decision:
    """Only one version is in the config of a server that starts: a second that cannot load would keep it from starting."""
    silence = seen.now - (memory.silent_since if memory.silent_since is not None else seen.now)
    late = silence > patience.load_seconds
    message = (
        f"The model server has not answered for {silence:.0f} seconds: it loads its first version, or the log of the container"
        " model-server says why not."
    )
    return replace(
        _resting(seen, memory, "Failed" if late else "Loading", message),
        config=ServerConfig(versions=(memory.good if memory.good is not None else wanted.version,)),
    )


def _loading(seen: Seen, memory: Memory, wanted: ServingDocument, patience: Patience) -> Decision:
    version = wanted.version
    if memory.loading != version:
        memory = replace(memory, loading=version, loading_since=seen.now)
    decision = _nearer(seen, memory, version)
    if decision.state != "Checking" and (problem := _problem(seen, decision, version, patience)):
        memory = failed(memory, version, wanted.manifest_sha256, problem, seen.now, patience.first_pause)
        return _resting(seen, memory, "Failed", f"{problem} {_still(seen, memory)}")
    return decision


def _nearer(seen: Seen, memory: Memory, version: int) -> Decision:
    """The second name is empty before anything else is loaded, so that two versions are in memory and not three."""
    resting = replace(_resting(seen, memory, "Loading", f"Version {version} is being loaded."), memory=memory)
    if memory.good == version or not seen.server.is_available(memory.good):
        return _under_its_name(seen, resting, version)
    agreed = memory.passed == version
    if leaving := {held for held in seen.aside.held if agreed or held != version}:
        message = f"Version {version} waits until the model server has unloaded version {max(leaving)}, which was checked."
        return replace(resting, message=message)
    return _under_its_name(seen, resting, version) if agreed else _aside(seen, resting, version)


def _aside(seen: Seen, resting: Decision, version: int) -> Decision:
    config = ServerConfig(versions=_numbers(resting.memory.good), aside=version)
    decision = replace(resting, config=config)
    available = seen.aside.is_available(version)
    return _checking(decision, Check(version=version, aside=True)) if available else decision


def _under_its_name(seen: Seen, resting: Decision, version: int) -> Decision:
    decision = replace(resting, config=ServerConfig(versions=_numbers(resting.memory.good, version)))
    available = seen.server.is_available(version)
    return _checking(decision, Check(version=version)) if available else decision


def _checking(decision: Decision, check: Check) -> Decision:
    """First the version that was live, if it has to prove itself again, so that the pod is ready soon."""
    return replace(
        decision,
        state="Checking",
        message=f"Version {check.version} is loaded; its answers to the golden images are compared.",
        check=check if decision.check is None else decision.check,
    )


def _problem(seen: Seen, decision: Decision, version: int, patience: Patience) -> str:
    memory, config = decision.memory, decision.config
    waited = seen.now - memory.config_since if config == memory.config else 0.0
    found = None if config is None else _found(seen, config, version)
    if found and found.state == "END" and found.error and waited > SETTLE_SECONDS:
        return (
            f"The model server cannot load version {version}: {found.error}. Compare spec.serving.image with the TensorFlow that"
            " trained the model, or serve another version."
        )
    if waited > patience.load_seconds:
        state = found.state if found else "unknown to the server"
        return f"Version {version} is not available after {waited:.0f} seconds (it is {state}); see the model server's log."
    return ""


def _found(seen: Seen, config: ServerConfig, version: int) -> VersionState | None:
    """Where the config asks for it; elsewhere the server remembers how an earlier attempt ended."""
    if config.aside == version:
        return seen.aside.versions.get(version)
    return seen.server.versions.get(version) if version in config.versions else None


def _live(seen: Seen, memory: Memory) -> int | None:
    """The last version that went live, if the server still has it and it proved itself there."""
    return memory.good if memory.good in memory.proven and seen.server.is_available(memory.good) else None


def _still(seen: Seen, memory: Memory) -> str:
    live = _live(seen, memory)
    return "No version is live." if live is None else f"Version {live} stays live."


def _reused(version: int) -> str:
    return (
        f"This pod has a version {version} with another manifest than serving.json names: the number was used twice. Publish the"
        " model under a new number, or delete the pod so that it starts afresh."
    )


def _numbers(*versions: int | None) -> tuple[int, ...]:
    return tuple(sorted({version for version in versions if version is not None}))


def _keep(seen: Seen, memory: Memory) -> frozenset[int]:
    unnoticed = seen.now - memory.config_since <= SETTLE_SECONDS
    if unnoticed or not seen.storage_answered:  # what is wanted may be here already
        return frozenset(seen.disk)
    wanted = seen.desired.version if seen.desired else None
    return frozenset(_numbers(memory.good, memory.previous, wanted))
