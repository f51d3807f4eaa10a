"""What the preflight says about images, read as their owner would read it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expansion_contract.dataset import Listing, Role
from expansion_contract.report import Finding
from expansion_contract.resource import Mode
from expansion_storage.folder import FolderPrefix
from expansion_trainer.dataset import preflight
from expansion_trainer.dataset.scan import Scanned, SourceImage
from expansion_trainer.dataset.split import Divided, Part, Side
from expansion_trainer.errors import BadDataset

PHOTOS = FolderPrefix(Path("photos"))


def scanned(counts: dict[str, int], findings: tuple[Finding, ...] = ()) -> Scanned:
    images = tuple(
        SourceImage(role=Role.NEW, place=PHOTOS, key=f"{name}/{n}.jpg", size=1, etag="e", folder=name)
        for name, count in counts.items()
        for n in range(count)
    )
    listing = Listing(digest="sha256:d", images=len(images), counts=counts)
    return Scanned(images=images, listing=listing, findings=findings)


def part(counts: tuple[int, ...], first_row: int) -> Part:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Part(rows=np.arange(len(labels)) + first_row, labels=labels)


def divided(training: dict[str, int], validation: int = 10, test: int = 10) -> Divided:
    """`validation` and `test` images for every category that has training images."""
    held = [tuple(n if count else 0 for count in training.values()) for n in (validation, test)]
    none = {side: part((0,) * len(training), 0) for side in Side}
    sides = dict(zip(Side, (part(counts, 0) for counts in (tuple(training.values()), *held)), strict=True))
    return Divided(
        categories=tuple(training), new=sides, replay=none, unlabelled=none, duplicates=0, findings=()
    )


def check(training, why=None, mode=Mode.EXPAND, listed=None, **sides):
    return preflight.check(scanned(listed or training), divided(training, **sides), why or {}, mode)


def said(result, reason: str) -> list[tuple[str, str]]:
    return [(f.severity, f.message) for f in result.findings if f.reason == reason]


def test_a_healthy_data_set_has_no_findings():
    assert check({"daisy": 80, "tulip": 80}).findings == ()


def test_an_undecodable_file_is_quarantined_with_its_address_and_why():
    result = check({"daisy": 100}, {7: "a damaged or truncated JPEG"})
    (quarantined,) = result.quarantined
    assert (quarantined.key, quarantined.why) == ("photos/daisy/7.jpg", "a damaged or truncated JPEG")
    ((severity, message),) = said(result, "UndecodableImages")
    assert severity == "warning"
    assert "1 of 100 images cannot be read (1.0%)" in message
    assert "photos/daisy/7.jpg (a damaged or truncated JPEG)" in message


@pytest.mark.parametrize(
    ("bad", "severity"),
    [pytest.param(20, "warning", id="a fifth is tolerated"), pytest.param(21, "error", id="more is not")],
)
def test_the_tolerance_for_undecodable_files(bad, severity):
    result = check({"daisy": 100}, dict.fromkeys(range(bad), "text"))
    assert [s for s, _ in said(result, "UndecodableImages")] == [severity]


def test_a_category_without_a_readable_image_is_an_error_that_names_it():
    result = check({"daisy": 100, "tulip": 0}, {100: "text", 101: "text"}, listed={"daisy": 100, "tulip": 2})
    assert said(result, "CategoryUnreadable") == [("error", "No image of 'tulip' can be read. Replace them.")]


def test_a_category_whose_images_are_all_left_out_is_an_error():
    result = check({"daisy": 100, "tulip": 0}, listed={"daisy": 100, "tulip": 3})
    ((severity, message),) = said(result, "NoImagesLeft")
    assert severity == "error"
    assert "Every image of 'tulip' is left out because it also stands in another category" in message


@pytest.mark.parametrize("images", [1, 24])
def test_a_category_whose_images_are_all_held_out_is_an_error_with_the_ways_out(images):
    data = divided({"daisy": 100, "tulip": 0})
    test = data.new[Side.TEST]
    more = Part(
        rows=np.arange(len(test) + images), labels=np.concatenate([test.labels, np.ones(images, np.int64)])
    )
    data = replace(data, new={**data.new, Side.TEST: more})
    result = preflight.check(scanned({"daisy": 100, "tulip": images}), data, {}, Mode.EXPAND)
    ((severity, message),) = said(result, "NoTrainingImages")
    assert severity == "error"
    assert "No image of 'tulip' falls on the training side" in message
    assert "Add images (100 each are a good aim), or leave it out with spec.categories.include." in message


def test_a_category_whose_images_are_all_trained_on_is_untested_and_has_no_say():
    result = check({"daisy": 1}, validation=0, test=0)
    assert [severity for severity, _ in said(result, "NoTestImages")] == ["warning"]
    assert [severity for severity, _ in said(result, "NoValidationImages")] == ["note"]
    result.refuse_errors()


def test_ten_thousand_categories_of_two_images_are_told_in_few_words():
    """Of ten categories one has its only two images on the test side."""
    names = [f"category {n}" for n in range(10_000)]
    trained = dict.fromkeys(names, 2) | dict.fromkeys(names[::10], 0)
    data = divided(trained, validation=0, test=0)
    held_out = np.repeat(np.arange(0, 10_000, 10), 2)
    data = replace(data, new={**data.new, Side.TEST: Part(rows=np.arange(len(held_out)), labels=held_out)})
    result = preflight.check(scanned(dict.fromkeys(names, 2)), data, {}, Mode.EXPAND)
    assert len(result.findings) < 10
    assert sum(len(finding.message) for finding in result.findings) < 3000
    with pytest.raises(
        BadDataset, match=r"No image of 1000 categories \('category 0', 'category 10'.* and 992 more\)"
    ):
        result.refuse_errors()
    assert "9000 categories ('category 1'" in said(result, "NoTestImages")[0][1]


def test_a_category_without_a_test_image_is_untested_and_said_so():
    ((severity, message),) = said(check({"daisy": 100}, test=0), "NoTestImages")
    assert severity == "warning"
    assert "'daisy' has no test image" in message


@pytest.mark.parametrize(
    ("training", "severity", "words"),
    [
        pytest.param(3, "warning", "Fewer than 20 usable images: daisy (5)", id="3 images"),
        pytest.param(15, "warning", "Fewer than 20 usable images: daisy (17)", id="15 images"),
        pytest.param(50, "note", "Fewer than 100 usable images: daisy (52)", id="50 images"),
    ],
)
def test_small_categories_are_named_with_their_usable_images(training, severity, words):
    ((found, message),) = said(check({"daisy": training}, validation=1, test=1), "FewImages")
    assert found == severity
    assert words in message


def test_the_listing_s_own_count_of_few_images_is_not_said_twice():
    listing = Finding(severity="warning", reason="FewImages", message="Fewer than 20 images: daisy (5).")
    result = preflight.check(scanned({"daisy": 5}, (listing,)), divided({"daisy": 5}), {}, Mode.EXPAND)
    assert len(said(result, "FewImages")) == 1


def test_one_readable_category_cannot_replace_all_others():
    result = check({"daisy": 100, "tulip": 0}, {100: "text"}, Mode.REPLACE, listed={"daisy": 100, "tulip": 1})
    assert [severity for severity, _ in said(result, "OneCategory")] == ["error"]
    assert said(check({"daisy": 100, "tulip": 90}, mode=Mode.REPLACE), "OneCategory") == []


def test_all_errors_are_refused_at_once():
    result = check({"a": 0, "b": 0}, dict.fromkeys(range(4), "text"), listed={"a": 2, "b": 2})
    with pytest.raises(
        BadDataset, match=r"4 of 4 images cannot be read.*No image of 'a' can.*No image of 'b' can"
    ):
        result.refuse_errors()


def test_warnings_are_not_refused():
    check({"daisy": 3}, test=0).refuse_errors()


def test_the_report_counts_what_is_used():
    data = scanned({"daisy": 120})
    parts = divided({"daisy": 100}, validation=8, test=7)
    report = preflight.dataset_report(data, parts, preflight.check(data, parts, {3: "text"}, Mode.EXPAND))
    assert (report.images, report.training_images, report.validation_images, report.test_images) == (
        120,
        100,
        8,
        7,
    )
    assert [entry.key for entry in report.quarantined] == ["photos/daisy/3.jpg"]
