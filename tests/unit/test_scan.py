"""What the scan promises: the operator's digest, refusals that name the cure, and nothing the run does not need."""

from pathlib import Path

import pytest

from expansion_contract import dataset
from expansion_contract.dataset import Role
from expansion_contract.labels import vocabulary
from expansion_contract.resource import Categories, Mode, Pretrained, Split, Training
from expansion_contract.run import Owner, StorageAccess, TrainingRun
from expansion_storage import open_prefix
from expansion_trainer.dataset.scan import scan
from expansion_trainer.errors import BadDataset, DatasetChanged


def opened(address: str):
    return open_prefix(address, StorageAccess())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for key in (
        "new/sunflower/1.jpg",
        "new/sunflower/deeper/2.JPG",
        "new/tulip/1.png",
        "new/readme.txt",
        "new/loose.jpg",
        "replay/tench/1.jpg",
        "any/1.jpg",
        "any/some/2.jpg",
    ):
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
    return tmp_path


def listing_digest(photos: Path, categories: Categories) -> str:
    """As the operator computes it."""
    sources = {Role.NEW: "new", Role.REPLAY: "replay", Role.UNLABELLED: "any"}
    entries = ((role, entry) for role, name in sources.items() for entry in opened(f"{photos}/{name}").list())
    return dataset.read(entries, categories, Mode.EXPAND).digest


def run_for(photos: Path, **changes: object) -> TrainingRun:
    categories = Categories(images=f"{photos}/new/")
    values = {
        "run_id": "r1",
        "owner": Owner(namespace="default", name="flowers"),
        "mode": Mode.EXPAND,
        "base": Pretrained(),
        "categories": categories,
        "replay": f"{photos}/replay/",
        "unlabelled": f"{photos}/any/",
        "split": Split(),
        "training": Training(),
        "dataset_digest": listing_digest(photos, changes.get("categories", categories)),
        "output": f"{photos}/models/",
        "cache": f"{photos}/cache/",
    }
    return TrainingRun(**{**values, **changes})


def test_the_scan_lists_what_the_operator_listed_in_the_order_of_roles(photos):
    scanned = scan(run_for(photos), opened)
    assert [(image.role, image.key, image.folder) for image in scanned.images] == [
        (Role.NEW, "sunflower/1.jpg", "sunflower"),
        (Role.NEW, "sunflower/deeper/2.JPG", "sunflower"),
        (Role.NEW, "tulip/1.png", "tulip"),
        (Role.REPLAY, "tench/1.jpg", "tench"),
        (Role.UNLABELLED, "1.jpg", ""),
        (Role.UNLABELLED, "some/2.jpg", ""),
    ]
    assert scanned.listing.counts == {"sunflower": 2, "tulip": 1}
    assert scanned.images[0].read() == b"new/sunflower/1.jpg"


def test_images_that_changed_since_the_run_was_made_are_refused(photos):
    run = run_for(photos)
    (photos / "new/sunflower/3.jpg").write_bytes(b"late")
    with pytest.raises(
        DatasetChanged, match=r"The images below .*/new/ changed after run r1 was made.*sha256:.*sha256:"
    ):
        scan(run, opened)


def test_an_image_that_vanishes_during_the_run_is_a_changed_data_set(photos):
    scanned = scan(run_for(photos), opened)
    (photos / "new/sunflower/1.jpg").unlink()
    with pytest.raises(DatasetChanged, match=r"new/sunflower/1.jpg was listed and is gone"):
        scanned.images[0].read()


def test_only_included_folders_are_read(photos):
    categories = Categories(images=f"{photos}/new/", include=["tulip"])
    scanned = scan(run_for(photos, categories=categories), opened)
    assert [image.key for image in scanned.images if image.role is Role.NEW] == ["tulip/1.png"]


def test_errors_of_the_listing_are_refused_together(photos):
    (photos / "new/Tulip ").mkdir()
    (photos / "new/Tulip /1.jpg").write_bytes(b"x")
    (photos / "new/tench").mkdir()
    (photos / "new/tench/1.jpg").write_bytes(b"x")
    with pytest.raises(BadDataset, match=r"same category but for case.*The base already has 'tench'"):
        scan(run_for(photos), opened)


def test_warnings_of_the_listing_become_findings(photos):
    findings = scan(run_for(photos), opened).findings
    assert [(finding.severity, finding.reason) for finding in findings] == [("warning", "FewImages")]


def test_replacing_reads_no_replay_and_says_so(photos):
    scanned = scan(run_for(photos, mode=Mode.REPLACE), opened)
    assert {image.role for image in scanned.images} == {Role.NEW}
    assert "3 images of spec.replay and spec.unlabelled are not used" in scanned.findings[-1].message


def test_unknown_images_are_read_last_and_are_of_the_category_unknown(photos):
    categories = Categories(images=f"{photos}/new/", unknown_images=f"{photos}/any/")
    entries = [
        *((Role.NEW, entry) for entry in opened(f"{photos}/new").list()),
        *((Role.UNKNOWN, entry) for entry in opened(f"{photos}/any").list()),
    ]
    digest = dataset.read(entries, categories, Mode.EXPAND).digest
    run = run_for(photos, categories=categories, dataset_digest=digest, replay=None, unlabelled=None)
    scanned = scan(run, opened)
    assert [(image.folder, image.key) for image in scanned.images if image.role is Role.UNKNOWN] == [
        ("unknown", "1.jpg"),
        ("unknown", "some/2.jpg"),
    ]
    assert scanned.listing.counts["unknown"] == 2
    replacing = scan(run.model_copy(update={"mode": Mode.REPLACE}), opened)
    assert len(replacing.images) == len(scanned.images)


def test_the_names_of_the_base_that_is_grown_are_asked(photos):
    with pytest.raises(BadDataset, match="The base already has 'tulip'"):
        scan(run_for(photos), opened, vocabulary([("", "tulip")]))
