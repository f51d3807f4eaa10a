"""Packs on disk and in storage: `pack.json` and arrays without pickle, every file verified before a number of it is used."""

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.pack import FORMAT_VERSION, PackDocument
from expansion_contract.report import File
from expansion_storage import ObjectMissing, Prefix
from expansion_trainer.errors import PackRefused
from expansion_trainer.head.softmax import Rows
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import compact
from expansion_trainer.packs.core import SALT, Core
from expansion_trainer.packs.pack import Pack, Probes
from expansion_trainer.run_files import described

_STATE = "state-"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.npy")
_AGAIN = (
    "Restore it from where it was made, or make it again: `expansion pack build` for a pretrained network, a new run for a"
    " published version."
)

Arrays = Mapping[str, NDArray[Any]]


def write(folder: Path, pack: Pack) -> None:
    """A new folder. The same pack gives the same bytes."""
    folder.mkdir(parents=True)
    for name, array in _arrays(pack).items():
        assert _FILE.fullmatch(f"{name}.npy"), f"{name!r} could not be read again"
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    document = PackDocument(
        extractor=pack.extractor,
        precision=pack.precision,
        salt=SALT,
        categories=list(pack.categories),
        temperature=pack.temperature,
        expansions=list(pack.expansions),
        images=pack.images,
        files=described(folder),
    )
    (folder / layout.PACK_DOCUMENT).write_bytes(document.to_json())


def _arrays(pack: Pack) -> dict[str, NDArray[Any]]:
    known, core = pack.statistics, pack.core
    variances, variance_factors = compact.halved(known.variances)
    bottlenecks, core_factors = compact.halved(core.bottlenecks)
    return {
        "head-weights": pack.head.weights,
        "head-bias": pack.head.bias,
        "groups": pack.groups.astype(np.int32),
        "counts": known.counts,
        "means": known.means.astype(np.float32),
        "scatter": compact.triangle(known.scatter),
        "balanced-scatter": compact.triangle(known.balanced_scatter),
        "variances": variances,
        "variance-factors": variance_factors,
        "core": bottlenecks,
        "core-factors": core_factors,
        "core-labels": core.labels.astype(np.int32),
        "core-keys": core.keys,
        "core-calibrates": core.calibrates,
        "probes": pack.probes.bottlenecks,
        "probe-files": np.frombuffer(b"".join(pack.probes.files), np.uint8),
        "probe-ends": np.cumsum([len(file) for file in pack.probes.files], dtype=np.int64),
        **{f"{_STATE}{name}": np.asarray(array) for name, array in pack.state.items()},
    }


def read(place: Prefix, digest: str | None = None) -> Pack:
    """The pack in this folder, verified. `digest`: pack.json's, if it is known. Raises PackRefused; the store's errors pass."""
    document = _document(place, digest)
    arrays = {file.path.removesuffix(".npy"): _array(place, file) for file in document.files}
    try:
        pack = _pack(document, arrays)
        _check(pack)
    except (KeyError, ValueError, IndexError) as error:
        raise PackRefused(
            f"The pack at {place.uri} contradicts itself ({type(error).__name__}: {error}): no release of ours wrote it so. {_AGAIN}"
        ) from error
    return pack


def find_document(place: Prefix) -> PackDocument | None:
    """What lies there, if anything does."""
    return _document(place, None) if place.find(layout.PACK_DOCUMENT) else None


def _document(place: Prefix, digest: str | None) -> PackDocument:
    address = place.address(layout.PACK_DOCUMENT)
    try:
        content = place.read(layout.PACK_DOCUMENT)
    except ObjectMissing:
        raise PackRefused(f"There is no pack at {place.uri}: {address} does not exist.") from None
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise PackRefused(
            f"{address} has the SHA-256 {found}, this run was made for {digest}: it was changed or damaged. {_AGAIN}"
        )
    try:
        document = PackDocument.model_validate_json(content)
    except ValidationError as error:
        raise PackRefused(
            f"{address} is not the description of a pack: {error.error_count()} fields are wrong or missing. {_AGAIN}"
        ) from None
    _refuse_other_formats(document, address)
    if strange := [file.path for file in document.files if not _FILE.fullmatch(file.path)]:
        raise PackRefused(f"{address} names {strange[0]!r}, which is no file of a pack. {_AGAIN}")
    return document


def _refuse_other_formats(document: PackDocument, address: str) -> None:
    if document.format_version != FORMAT_VERSION:
        raise PackRefused(
            f"{address} has the format {document.format_version}, this release reads format {FORMAT_VERSION}. Use the"
            " trainer's image of the release that wrote it, or make it again with this one."
        )
    if document.salt != SALT:
        raise PackRefused(
            f"The real bottlenecks of {address} were chosen under {document.salt!r}, this release chooses under {SALT!r}, so"
            " contents would be counted twice. Make the pack again with this release."
        )


def _array(place: Prefix, file: File) -> NDArray[Any]:
    address = place.address(file.path)
    try:
        content = place.read(file.path)
    except ObjectMissing:
        raise PackRefused(f"{address} is missing; pack.json names it. {_AGAIN}") from None
    if len(content) != file.size:
        raise PackRefused(
            f"{address} has {len(content)} bytes, pack.json says {file.size}: it is truncated or another file. {_AGAIN}"
        )
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise PackRefused(f"{address} is not the file that pack.json names: its SHA-256 differs. {_AGAIN}")
    try:
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise PackRefused(f"{address} is no array of numbers ({error}). {_AGAIN}") from None
    return array


def _pack(document: PackDocument, arrays: Arrays) -> Pack:
    return Pack(
        extractor=document.extractor,
        precision=document.precision,
        categories=tuple(document.categories),
        head=Rows(weights=arrays["head-weights"], bias=arrays["head-bias"]),
        groups=arrays["groups"].astype(np.int64),
        temperature=document.temperature,
        expansions=tuple(document.expansions),
        statistics=_statistics(arrays),
        core=_core(arrays),
        probes=_probes(arrays),
        state={name.removeprefix(_STATE): array for name, array in arrays.items() if name.startswith(_STATE)},
        images=document.images,
    )


def _statistics(arrays: Arrays) -> Statistics:
    return Statistics(
        counts=arrays["counts"],
        means=arrays["means"].astype(np.float64),
        scatter=compact.square(arrays["scatter"]),
        balanced_scatter=compact.square(arrays["balanced-scatter"]),
        variances=compact.whole(arrays["variances"], arrays["variance-factors"]).astype(np.float64),
    )


def _core(arrays: Arrays) -> Core:
    return Core(
        bottlenecks=compact.whole(arrays["core"], arrays["core-factors"]),
        labels=arrays["core-labels"].astype(np.int64),
        keys=arrays["core-keys"],
        calibrates=arrays["core-calibrates"],
    )


def _probes(arrays: Arrays) -> Probes:
    content, ends = arrays["probe-files"].tobytes(), arrays["probe-ends"].tolist()
    files = tuple(content[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return Probes(files=files, bottlenecks=arrays["probes"])


def _check(pack: Pack) -> None:
    """Shapes that belong together, numbers that are numbers. ValueError names the first that is not."""
    size, categories = pack.extractor.bottleneck_size, len(pack.categories)
    known, core = pack.statistics, pack.core
    shapes: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
        "head-weights": (pack.head.weights, (size, categories)),
        "head-bias": (pack.head.bias, (categories,)),
        "groups": (pack.groups, (categories,)),
        "counts": (known.counts, (categories,)),
        "means": (known.means, (categories, size)),
        "scatter": (known.scatter, (size, size)),
        "balanced-scatter": (known.balanced_scatter, (size, size)),
        "variances": (known.variances, (categories, size)),
        "core": (core.bottlenecks, (len(core.labels), size)),
        "core-keys": (core.keys, (len(core.labels),)),
        "core-calibrates": (core.calibrates, (len(core.labels),)),
        "probes": (pack.probes.bottlenecks, (len(pack.probes.files), size)),
    }
    for name, (array, shape) in shapes.items():
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.shape} instead of {shape} finite numbers")
    _check_indices(pack)


def _check_indices(pack: Pack) -> None:
    if [category.index for category in pack.categories] != list(range(len(pack))):
        raise ValueError("its categories are not listed by index")
    if pack.core.labels.min(initial=0) < 0 or pack.core.labels.max(initial=-1) >= len(pack):
        raise ValueError("a real bottleneck belongs to no category")
    if pack.groups.min(initial=0) < 0 or pack.groups.max(initial=0) > len(pack.expansions):
        raise ValueError("a column belongs to an expansion that is not listed")
    if (pack.groups[: pack.frozen] != 0).any():
        raise ValueError("the pretrained network's columns are not the first")
    if not pack.temperature > 0:
        raise ValueError(f"its temperature is {pack.temperature}")
    if not pack.scale > 0:
        raise ValueError(f"its scale is {pack.scale}")
