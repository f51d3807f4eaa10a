"""A version comes whole or not at all."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from expansion_contract import layout
from expansion_contract.report import File
from expansion_contract.run import Owner
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_storage.folder import FolderPrefix
from model_sync.disk import Disk
from model_sync.download import DownloadError, Superseded, fetch

OWNER = Owner(namespace="team", name="flowers")
CONTENTS = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"data" * 1000,
    layout.GOLDEN: b"{}",
}


def manifest(contents: dict[str, bytes] = CONTENTS, version: int = 7) -> VersionManifest:
    return VersionManifest(
        version=version,
        run_id="r",
        owner=OWNER,
        published_at="2026-11-22T00:00:00Z",
        categories=5,
        files=[
            File(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for path, content in contents.items()
        ],
    )


class Bucket(FolderPrefix):
    """A folder for a bucket that remembers what was asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.downloads: list[str] = []

    def below(self, name: str) -> "Bucket":
        place = Bucket(Path(self.address(name)))
        place.downloads = self.downloads
        return place

    def download(self, key: str, target: Path) -> None:
        self.downloads.append(key)
        super().download(key, target)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    bucket = Bucket(tmp_path / "bucket")
    for path, content in CONTENTS.items():
        bucket.write(layout.version(7, path), content)
    bucket.write(layout.version(7, layout.MANIFEST), manifest().to_json())
    return bucket


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "models", "flowers")


def wanted(published: VersionManifest | None = None) -> ServingDocument:
    content = (published or manifest()).to_json()
    return ServingDocument(
        owner=OWNER,
        model_name="flowers",
        version=7,
        run_id="r",
        manifest_sha256=hashlib.sha256(content).hexdigest(),
        last_version=7,
    )


def bring(
    bucket: Bucket, disk: Disk, document: ServingDocument | None = None, stop: Event | None = None
) -> None:
    fetch(bucket, document or wanted(), disk, lambda _, __: None, stop or Event())


def republish(bucket: Bucket, changed: VersionManifest) -> ServingDocument:
    bucket.write(layout.version(7, layout.MANIFEST), changed.to_json())
    return wanted(changed)


def test_a_version_arrives_with_all_its_files(bucket: Bucket, disk: Disk):
    bring(bucket, disk)
    for path, content in CONTENTS.items():
        assert (disk.version(7) / path).read_bytes() == content
    assert disk.versions() == {7: wanted().manifest_sha256}
    assert [path.name for path in disk.folder.iterdir()] == ["7"]


def test_what_a_killed_attempt_left_whole_is_not_fetched_again(bucket: Bucket, disk: Disk):
    disk.partial(7).mkdir()
    (disk.partial(7) / "saved_model.pb").write_bytes(CONTENTS["saved_model.pb"])
    (disk.partial(7) / layout.GOLDEN).parent.mkdir()
    (disk.partial(7) / layout.GOLDEN).write_bytes(b"{")
    (disk.partial(7) / "variables").mkdir()
    (disk.partial(7) / "variables" / "variables.index.f00").write_bytes(b"half")
    bring(bucket, disk)
    assert "saved_model.pb" not in bucket.downloads
    assert layout.GOLDEN in bucket.downloads
    assert not (disk.version(7) / "variables" / "variables.index.f00").exists()


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flipped, id="one bit"),
        pytest.param(lambda content: content[:-1], id="truncated"),
        pytest.param(lambda content: content + b" ", id="longer"),
    ],
)
def test_a_file_with_other_bytes_is_refused(bucket: Bucket, disk: Disk, damage: Callable[[bytes], bytes]):
    bucket.write(layout.version(7, "saved_model.pb"), damage(CONTENTS["saved_model.pb"]))
    with pytest.raises(
        DownloadError, match=r"versions/7/saved_model\.pb is corrupted: .* publish this model as a new one"
    ):
        bring(bucket, disk)
    assert disk.versions() == {}
    assert not (disk.partial(7) / "saved_model.pb").exists()


def test_a_manifest_that_was_changed_after_publishing_is_refused(bucket: Bucket, disk: Disk):
    document = wanted()
    republish(bucket, manifest({**CONTENTS, "more": b"more"}))
    with pytest.raises(DownloadError, match=r"is not the manifest that serving\.json names"):
        bring(bucket, disk, document)


def test_a_file_that_is_gone_is_named(bucket: Bucket, disk: Disk):
    bucket.delete(layout.version(7, "saved_model.pb"))
    with pytest.raises(DownloadError, match=r"saved_model\.pb does not exist although the manifest names it"):
        bring(bucket, disk)


@pytest.mark.parametrize("path", ["../8/saved_model.pb", "/etc/passwd", "a/../../x", layout.MANIFEST])
def test_a_path_that_leads_out_of_the_version_is_refused(bucket: Bucket, disk: Disk, path: str):
    document = republish(bucket, manifest({**CONTENTS, path: b"x"}))
    with pytest.raises(DownloadError, match="would lie outside its version"):
        bring(bucket, disk, document)


def test_a_version_without_golden_images_is_refused(bucket: Bucket, disk: Disk):
    document = republish(bucket, manifest({"saved_model.pb": b"graph"}))
    with pytest.raises(DownloadError, match=r"names no assets\.extra/golden\.json"):
        bring(bucket, disk, document)


def test_a_manifest_of_another_version_is_refused(bucket: Bucket, disk: Disk):
    document = republish(bucket, manifest(version=8))
    with pytest.raises(DownloadError, match="says it is version 8"):
        bring(bucket, disk, document)


def test_a_download_nobody_wants_any_more_ends(bucket: Bucket, disk: Disk):
    stop = Event()
    stop.set()
    with pytest.raises(Superseded):
        bring(bucket, disk, stop=stop)
    assert bucket.downloads == []


def test_a_version_too_large_for_the_disk_is_refused_before_it_is_fetched(bucket: Bucket, disk: Disk):
    huge = manifest()
    files = [file.model_copy(update={"size": 2**60}) for file in huge.files]
    document = republish(bucket, huge.model_copy(update={"files": files}))
    with pytest.raises(DownloadError, match="Give the pod's models volume more room"):
        bring(bucket, disk, document)
    assert bucket.downloads == []


def test_a_removed_version_is_hidden_before_it_is_deleted(
    bucket: Bucket, disk: Disk, monkeypatch: pytest.MonkeyPatch
):
    bring(bucket, disk)
    removed: list[str] = []
    unlink = os.unlink

    def watched(path: str, *, dir_fd: int | None = None) -> None:
        removed.append(str(path))
        assert not disk.version(7).exists()
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", watched)
    disk.remove(7)
    assert removed
    assert list(disk.folder.iterdir()) == []


def test_leftovers_are_swept_but_for_the_version_that_grows(disk: Disk):
    for name in (".6.partial", ".7.partial", ".5.removed", "4"):
        (disk.folder / name).mkdir()
    disk.sweep(growing=7)
    assert {path.name for path in disk.folder.iterdir()} == {".7.partial", "4"}


def test_a_folder_without_a_manifest_is_no_version(disk: Disk):
    (disk.folder / "4").mkdir()
    assert disk.versions() == {}
