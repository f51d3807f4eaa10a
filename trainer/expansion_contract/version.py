"""A published version's manifest, what the model servers should serve, and what they say they serve."""

from typing import Literal

from expansion_contract.report import File
from expansion_contract.run import Owner, PublishedBase
from expansion_contract.schema import Lenient


class VersionManifest(Lenient):
    """`versions/<n>/manifest.json`, written last: its presence commits the version."""

    format_version: Literal[1] = 1
    version: int
    run_id: str
    owner: Owner
    published_at: str
    categories: int
    given: list[str] = []
    """New categories that ever got an index at this output, retired ones too, in the order of their indices."""
    base: PublishedBase | None = None
    """The published version it was grown from; None: from a pretrained network."""
    files: list[File]


class ServingDocument(Lenient):
    """`serving.json`: what the model servers should answer with. Also remembers the last number given to a version."""

    format_version: Literal[1] = 1
    owner: Owner
    model_name: str
    version: int
    run_id: str
    manifest_sha256: str
    """Of the bytes of versions/<version>/manifest.json."""
    last_version: int
    """The highest number ever given; never given again, even if its folder is gone."""
    given: list[str] = []
    """The longest of all versions' lists: an index that was given once belongs to its category for ever."""
    pinned: bool = False
    """spec.serving.version asked for it; the current run's version may be another one."""
    term: int = 0
    """How often the Lease had changed hands when its holder wrote this; 0 without one. Says nothing of what is served."""


class GoldenImage(Lenient):
    image: str
    """The file's bytes, base64."""
    names: list[str]
    """The trainer's own answer to it, best first."""
    scores: list[float]


class Golden(Lenient):
    """`assets.extra/golden.json`: what the model must answer wherever it is loaded."""

    format_version: Literal[1] = 1
    tolerance: float
    """How far a score may be from the trainer's."""
    images: list[GoldenImage]


class AgentStatus(Lenient):
    """What model-sync answers on /status: proven, not hoped. Ports and paths: `model_sync`."""

    model_name: str
    live_version: int | None = None
    """AVAILABLE, verified and answering the golden images as the trainer did."""
    desired_version: int | None = None
    state: Literal["Waiting", "Downloading", "Verifying", "Loading", "Checking", "Live", "Failed"] = "Waiting"
    message: str = ""
    """What is wrong and what now, when `state` is Failed."""
