"""What packs on disk promise: the same bytes, few of them, and nothing read that was not verified."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from pack_values import EXTRACTOR, answers, bare, built, categories, images, rows

from expansion_contract.pack import Expansion
from expansion_contract.report import Category
from expansion_storage.folder import FolderPrefix, file_sha256
from expansion_trainer.errors import PackRefused
from expansion_trainer.head.statistics import Statistics
from expansion_trainer.packs import files
from expansion_trainer.packs.core import Core
from expansion_trainer.packs.pack import Pack, Probes, grown


@pytest.fixture
def pack() -> Pack:
    before = built(images([0, 1, 2, 3] * 15))
    state = {
        "thresholds": np.array([0.5, 0.25]),
        "means": np.ones((2, 3), np.float32),
        "method": np.array("Gen"),
    }
    return grown(before, answers(5), images([4] * 12, first=900), images([4] * 6, first=990), state)


@pytest.fixture
def folder(pack, tmp_path) -> Path:
    files.write(tmp_path / "pack", pack)
    return tmp_path / "pack"


def read(folder: Path, digest: str | None = None) -> Pack:
    return files.read(FolderPrefix(folder), digest)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(folder: Path, **changes: object) -> None:
    path = folder / "pack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def put(folder: Path, name: str, array: np.ndarray) -> None:
    """In place of a file, and vouched for: only the check of what the numbers say is left."""
    np.save(folder / name, array)
    document = json.loads((folder / "pack.json").read_text())
    for file in document["files"]:
        if file["path"] == name:
            file |= {"size": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
    edit(folder, files=document["files"])


def test_a_pack_is_read_as_it_was_written(pack, folder):
    found = read(folder)
    assert found.extractor == EXTRACTOR
    assert found.categories == pack.categories
    assert found.head.weights.tobytes() == pack.head.weights.tobytes()
    assert found.head.bias.tobytes() == pack.head.bias.tobytes()
    assert (found.temperature, found.expansions) == (pack.temperature, pack.expansions)
    assert found.groups.tolist() == pack.groups.tolist()
    assert found.statistics.counts.tolist() == pack.statistics.counts.tolist()
    assert found.probes.files == pack.probes.files
    assert {name: array.tolist() for name, array in found.state.items()} == {
        name: array.tolist() for name, array in pack.state.items()
    }
    for name in ("means", "scatter", "balanced_scatter"):
        np.testing.assert_allclose(getattr(found.statistics, name), getattr(pack.statistics, name), rtol=1e-6)
    np.testing.assert_allclose(found.statistics.variances, pack.statistics.variances, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.core.bottlenecks, pack.core.bottlenecks, rtol=1e-3, atol=1e-6)
    assert found.core.keys.tolist() == pack.core.keys.tolist()
    assert found.core.calibrates.tolist() == pack.core.calibrates.tolist()


def test_a_pack_that_says_nothing_of_a_scale_has_none(folder):
    expansions = json.loads((folder / "pack.json").read_text())["expansions"]
    assert expansions[-1].pop("scale") == 1.25
    edit(folder, expansions=expansions)
    assert read(folder).scale == 1.0


def test_reading_and_writing_again_changes_no_bit(folder, tmp_path):
    """A category of the first version is the same in the hundredth."""
    files.write(tmp_path / "again", read(folder))
    assert contents(tmp_path / "again") == contents(folder)


def test_half_precision_suffices_for_the_largest_and_the_smallest_networks_numbers(tmp_path):
    """Columns of 1e6 and of 1e-6 side by side: half precision alone ends at 65504 and at 6e-8."""
    shown = images([0, 1, 2, 3] * 5)
    scaled = shown.bottlenecks * np.logspace(-6, 6, shown.bottlenecks.shape[1], dtype=np.float32)
    pack = built(type(shown)(bottlenecks=scaled, labels=shown.labels, digests=shown.digests))
    files.write(tmp_path / "pack", pack)
    found = read(tmp_path / "pack")
    np.testing.assert_allclose(found.core.bottlenecks, pack.core.bottlenecks, rtol=1e-3)
    np.testing.assert_allclose(found.statistics.variances, pack.statistics.variances, rtol=1e-3)


def test_a_pack_is_known_by_the_digest_of_its_document(folder):
    assert read(folder, file_sha256(folder / "pack.json"))
    with pytest.raises(PackRefused, match="this run was made for 000"):
        read(folder, "0" * 64)


def test_a_folder_without_a_pack_is_named(tmp_path):
    with pytest.raises(PackRefused, match=r"There is no pack at .*nowhere"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda content: content[:-1], "it is truncated or another file", id="truncated"),
        pytest.param(lambda content: content[:-1] + b"\x7f", "its SHA-256 differs", id="tampered with"),
        pytest.param(lambda content: b"", "has 0 bytes", id="empty"),
    ],
)
@pytest.mark.parametrize("name", ["core.npy", "means.npy", "state-thresholds.npy"])
def test_a_damaged_file_is_refused_by_name(folder, name, damage, message):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PackRefused, match=f"{name}.*{message}"):
        read(folder)


def test_every_single_file_is_needed_and_verified(folder):
    for path in sorted(folder.iterdir()):
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(PackRefused, match=path.name):
            read(folder)
        path.write_bytes(kept[:-3] + b"abc")
        with pytest.raises(PackRefused, match=path.name):
            read(folder)
        path.write_bytes(kept)
    assert read(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"formatVersion": 1}'])
def test_a_document_that_is_none_is_refused(folder, content):
    (folder / "pack.json").write_bytes(content)
    with pytest.raises(PackRefused, match=r"pack\.json is not the description of a pack"):
        read(folder)


def test_a_newer_format_is_refused_with_both_formats(folder):
    edit(folder, formatVersion=2)
    with pytest.raises(PackRefused, match="has the format 2, this release reads format 1"):
        read(folder)


def test_bottlenecks_chosen_under_another_salt_are_refused(folder):
    edit(folder, salt="pepper")
    with pytest.raises(PackRefused, match="under 'pepper', this release"):
        read(folder)


def test_a_file_outside_the_folder_is_not_followed(folder):
    stranger = folder.parent / "core.npy"
    stranger.write_bytes((folder / "core.npy").read_bytes())
    document = json.loads((folder / "pack.json").read_text())
    for file in document["files"]:
        file["path"] = file["path"].replace("core.npy", "../core.npy")
    edit(folder, files=document["files"])
    with pytest.raises(PackRefused, match=r"\.\./core\.npy"):
        read(folder)


def test_pickles_are_never_read(folder):
    out = io.BytesIO()
    np.save(out, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    (folder / "groups.npy").write_bytes(out.getvalue())
    put(folder, "groups.npy", np.zeros(5))
    document = json.loads((folder / "pack.json").read_text())
    (folder / "groups.npy").write_bytes(out.getvalue())
    for file in document["files"]:
        if file["path"] == "groups.npy":
            file |= {"size": len(out.getvalue()), "sha256": file_sha256(folder / "groups.npy")}
    edit(folder, files=document["files"])
    with pytest.raises(PackRefused, match=r"groups\.npy is no array of numbers"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        pytest.param("head-bias.npy", np.zeros(4, np.float32), "head-bias", id="too few biases"),
        pytest.param("means.npy", np.full((5, 7), np.nan, np.float32), "means", id="no number"),
        pytest.param("scatter.npy", np.zeros(29, np.float32), "no triangle", id="no triangle"),
        pytest.param("core-labels.npy", np.full(50, 5, np.int32), "belongs to no category", id="label"),
        pytest.param("groups.npy", np.array([0, 0, 0, 0, 2]), "not listed", id="unknown expansion"),
        pytest.param("groups.npy", np.array([1, 0, 0, 0, 0]), "not the first", id="frozen columns apart"),
        pytest.param("head-weights.npy", np.array(["a"]), "contradicts itself", id="letters"),
    ],
)
def test_numbers_that_cannot_be_a_packs_are_refused(folder, name, array, message):
    put(folder, name, array)
    with pytest.raises(PackRefused, match=message):
        read(folder)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"temperature": 0}, id="temperature"),
        pytest.param({"expansions": [{"scale": 0}]}, id="scale"),
        pytest.param({"categories": []}, id="no categories"),
        pytest.param({"files": []}, id="no files"),
    ],
)
def test_a_document_that_its_files_contradict_is_refused(folder, changes):
    edit(folder, **changes)
    with pytest.raises(PackRefused, match="contradicts itself"):
        read(folder)


def full(size: int, count: int, each: int = 10) -> Pack:
    """As large as a pack of `count` categories can be; zeros, which no format we write makes smaller."""
    n = count * each
    listed = tuple(
        Category(index=i, name="Brabancon griffon of some length", uid=f"n{i:08}", group="base")
        for i in range(count)
    )
    return bare(
        size,
        count,
        categories=listed,
        statistics=Statistics(
            counts=np.full(count, 1300),
            means=np.zeros((count, size)),
            scatter=np.zeros((size, size)),
            balanced_scatter=np.zeros((size, size)),
            variances=np.zeros((count, size)),
        ),
        core=Core(
            bottlenecks=np.zeros((n, size), np.float32),
            labels=np.repeat(np.arange(count), each),
            keys=np.zeros(n, np.uint64),
            calibrates=np.zeros(n, np.bool_),
        ),
        probes=Probes(files=(bytes(2**20),) * 8, bottlenecks=np.zeros((8, size), np.float32)),
        expansions=(Expansion(),) * 50,
    )


def bytes_of(pack: Pack, folder: Path) -> int:
    files.write(folder, pack)
    return sum(path.stat().st_size for path in folder.iterdir())


def test_a_pack_of_2048_numbers_is_at_most_60_kib_for_each_category_and_32_mib(tmp_path):
    """Measured with few categories and scaled up: a category's share and the fixed part are exact."""
    few, more = bytes_of(full(2048, 2), tmp_path / "few"), bytes_of(full(2048, 12), tmp_path / "more")
    each = (more - few) / 10
    fixed = few - 2 * each
    for count in (1000, 5105, 20_000):
        assert fixed + count * each <= 60 * 2**10 * count + 32 * 2**20
    assert each <= 60 * 2**10 + 300


def test_an_empty_pack_is_small(tmp_path):
    assert (
        bytes_of(bare(size=2048, head=rows(4, 2048), categories=categories(4)), tmp_path / "pack")
        < 17 * 2**20
    )
