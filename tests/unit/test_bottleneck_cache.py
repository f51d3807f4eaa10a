"""What the cache promises: nothing twice, nothing stale, nothing damaged, and little lost when a worker is killed."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from expansion_storage.errors import StorageRefused
from expansion_storage.folder import FolderPrefix
from expansion_trainer.bottlenecks.cache import Cache, Fingerprint, Shelf

PRINT = Fingerprint(
    backbone="b" * 64,
    layer="top",
    input_size=224,
    preprocessing="tf",
    decode="1",
    precision="float32",
)
D = 3


@dataclass(frozen=True, kw_only=True)
class Source:
    address: str = "s3://photos/daisy/1.jpg"
    etag: str = "e1"
    size: int = 7


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def cache(folder: Path, **changes: object) -> Cache:
    return Cache(place=FolderPrefix(folder), **changes)


def shelf(folder: Path, fingerprint: Fingerprint = PRINT, **changes: object) -> Shelf:
    return cache(folder, **changes).shelf(fingerprint, D)


def row(value: float) -> np.ndarray:
    return np.full(D, value, np.float32)


def put(target: Shelf, **rows: float) -> None:
    target.put(rows.keys(), [row(value) for value in rows.values()])


def fail_after_a(target: Shelf) -> None:
    with target:
        put(target, a=1)
        raise RuntimeError("the real one")


def files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())


def test_rows_come_back_bit_for_bit_to_another_worker(folder):
    exact = np.array([1 / 3, -0.0, 3e-39], np.float32)
    with shelf(folder) as first:
        first.put(["k"], [exact])
    assert shelf(folder).row("k").tobytes() == exact.tobytes()
    assert shelf(folder).row("unknown") is None


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"backbone": "c" * 64}, id="other weights"),
        pytest.param({"layer": "mixed9"}, id="another layer"),
        pytest.param({"input_size": 299}, id="another size"),
        pytest.param({"preprocessing": "caffe"}, id="other preprocessing"),
        pytest.param({"decode": "2"}, id="another decoder"),
        pytest.param({"precision": "bfloat16"}, id="another precision"),
    ],
)
def test_bottlenecks_made_differently_never_mix(folder, changed):
    with shelf(folder) as first:
        put(first, k=1)
    assert shelf(folder, replace(PRINT, **changed)).row("k") is None


def test_a_seen_image_needs_no_reading(folder):
    with shelf(folder) as first:
        first.see(Source(), "k")
        put(first, k=1)
    assert shelf(folder).digest_of(Source()) == "k"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"etag": "e2"}, id="other content"),
        pytest.param({"size": 8}, id="another size"),
        pytest.param({"address": "s3://other/daisy/1.jpg"}, id="another place"),
    ],
)
def test_an_image_the_store_says_something_else_of_is_read_again(folder, changed):
    with shelf(folder) as first:
        first.see(Source(), "k")
        put(first, k=1)
    assert shelf(folder).digest_of(Source(**changed)) is None


def test_failures_are_remembered(folder):
    with shelf(folder) as first:
        first.see(Source(), "k")
        first.fail("k", "the file is empty")
    again = shelf(folder)
    assert again.digest_of(Source()) == "k"
    assert again.failure("k") == "the file is empty"
    assert again.row("k") is None


def test_two_workers_never_conflict(folder):
    one, two = shelf(folder), shelf(folder)
    with one, two:
        put(one, a=1, shared=5)
        put(two, b=2, shared=5)
    both = shelf(folder)
    assert [both.row(key)[0] for key in ("a", "b", "shared")] == [1, 2, 5]


def test_the_same_work_written_twice_is_one_object(folder):
    for _ in range(2):
        fresh = Shelf(cache(folder), FolderPrefix(folder / "x"), D)
        put(fresh, a=1)
        fresh.flush()
    assert len(files(folder, ".rows")) == len(files(folder, ".json")) == 1


def test_nothing_new_writes_nothing(folder):
    with shelf(folder):
        pass
    assert files(folder, "") == []


def test_a_full_segment_is_written_at_once(folder):
    target = shelf(folder, segment_rows=2)
    put(target, a=1)
    assert files(folder, ".json") == []
    put(target, b=2)
    assert shelf(folder).row("b") is not None


def test_a_killed_worker_loses_at_most_thirty_seconds(folder):
    clock = Clock()
    target = shelf(folder, clock=clock)
    clock.now = 29.0
    put(target, a=1)
    assert shelf(folder).row("a") is None
    clock.now = 30.0
    put(target, b=2)
    put(target, c=3)  # and killed here: never flushed
    found = shelf(folder)
    assert [found.row(key) is not None for key in "abc"] == [True, True, False]


def test_an_error_keeps_what_was_computed(folder):
    with pytest.raises(RuntimeError):
        fail_after_a(shelf(folder))
    assert shelf(folder).row("a") is not None


def test_an_error_is_not_hidden_by_storage_that_refuses_the_rest(tmp_path):
    (tmp_path / "file").write_text("in the way of the folder")

    class Refusing(FolderPrefix):
        def write(self, key, content, content_type=""):
            raise StorageRefused("no")

    target = Shelf(cache(tmp_path), Refusing(tmp_path), D)
    with pytest.raises(RuntimeError, match="the real one"):
        fail_after_a(target)
    with pytest.raises(StorageRefused), Shelf(cache(tmp_path), Refusing(tmp_path), D) as other:
        put(other, a=1)


@pytest.mark.parametrize("ending", [".rows", ".json"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-1], id="truncated"),
        pytest.param(lambda content: content[:1] + bytes([content[1] ^ 1]) + content[2:], id="one bit"),
        pytest.param(lambda content: b"", id="empty"),
    ],
)
def test_a_damaged_segment_is_ignored_and_named(folder, ending, damage):
    with shelf(folder) as first:
        first.see(Source(), "a")
        put(first, a=1)
    with shelf(folder) as second:
        put(second, b=2)
    (path,) = [p for p in files(folder, ending) if _holds(p, "a")]
    path.write_bytes(damage(path.read_bytes()))
    found = shelf(folder)
    assert found.row("a") is None
    assert found.digest_of(Source()) is None
    assert found.row("b")[0] == 2
    (finding,) = found.findings
    assert (finding.severity, finding.reason) == ("note", "CacheDamaged")
    assert str(path) in finding.message


def test_rows_that_vanished_are_computed_again(folder):
    with shelf(folder) as first:
        put(first, a=1)
    found = shelf(folder)
    files(folder, ".rows")[0].unlink()
    assert found.row("a") is None


def _holds(path: Path, key: str) -> bool:
    if path.suffix == ".json":
        return key in json.loads(path.read_bytes())["keys"]
    return np.frombuffer(path.read_bytes(), "<f4")[0] == {"a": 1, "b": 2}[key]
