"""Promises of `expansion label`: any address of a model, any image file, answers for people and for programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expansion_contract import environment, layout
from expansion_contract.report import Category, RunReport
from expansion_contract.run import Owner, StorageAccess
from expansion_contract.version import ServingDocument
from expansion_storage import open_prefix
from expansion_storage.publication import publish
from expansion_trainer.command_line import main
from expansion_trainer.export import candidate
from expansion_trainer.head.evidence import procedural_image
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.run_files import described

pytestmark = pytest.mark.tensorflow

AT = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def output(tiny_backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One published version of a model that knows the tiny network's twelve categories and 'ein'."""
    folder = tmp_path_factory.mktemp("models")
    random = np.random.default_rng(1)
    new = random.normal(size=(tiny_backbone.bottleneck_size, 1)).astype(np.float32)
    head = FittedHead(
        weights=np.concatenate([tiny_backbone.head_weights, new], axis=1),
        bias=np.zeros(13, np.float32),
        base_count=12,
        solver="Softmax",
        l2=0.001,
        offset=0.0,
        temperature=1.0,
        evidence_kinds=(),
        steal_rate_validation=None,
        steal_images=0,
        chosen_on=0,
    )
    categories = [*tiny_backbone.categories, Category(index=12, name="ein", group="new")]
    made = folder / layout.candidate("r1")
    candidate.write(made, tiny_backbone, head, categories, [], procedural_image(0, 32, 0))
    report = RunReport(
        run_id="r1", outcome="Succeeded", started_at=AT, finished_at=AT, categories=13, files=described(made)
    )
    owner = Owner(namespace="default", name="tiny")
    place = open_prefix(str(folder), StorageAccess())
    publish(place, report, owner, 1, AT)
    document = ServingDocument(
        owner=owner, model_name="tiny", version=1, run_id="r1", manifest_sha256="0" * 64, last_version=1
    )
    place.write(layout.SERVING, document.to_json())
    return folder


@pytest.fixture
def image(tmp_path: Path, make_picture: Callable[..., Any], encode: Callable[..., bytes]) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(make_picture(1)))
    return path


def answers(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return said


@pytest.mark.parametrize("below", ["", "versions/1", "runs/r1", "runs/r1/candidate"])
def test_a_model_is_found_by_its_output_its_version_its_run_and_its_candidate(
    output: Path, image: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    assert main(["label", str(image), "--model", str(output / below), "--json"]) == 0
    assert len(answers(capsys)[0]["answers"]) == 5


def test_the_environment_may_name_the_model(
    output: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.OUTPUT, str(output))
    assert main(["label", str(image)]) == 0
    assert capsys.readouterr().out.startswith(f"{image}\n  0.")


def test_every_answer_says_whether_it_is_known(
    output: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(image), "--model", str(output), "--json"])
    (said,) = answers(capsys)
    assert said["outcome"] in {"known", "unsure", "unknown"}
    main(["label", str(image), "--model", str(output)])
    assert capsys.readouterr().out.endswith(f"  {said['outcome']} (known score {said['known_score']:.3f})\n")


def test_scores_fall_and_sum_to_one_over_all_categories(
    output: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(image), "--model", str(output), "--json", "--top", "99"])
    scores = [answer["score"] for answer in answers(capsys)[0]["answers"]]
    assert len(scores) == 13
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-4)


def test_a_file_that_is_no_image_is_named_and_spoils_no_other_answer(
    output: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    assert main(["label", str(text), str(image), "--model", str(output), "--json"]) == 1
    wrong, right = answers(capsys)
    assert "not a JPEG, PNG, GIF, BMP or WebP" in wrong["error"]
    assert len(right["answers"]) == 5


def test_for_people_an_unreadable_file_is_one_line(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    assert main(["label", str(empty), "--model", str(output)]) == 1
    assert capsys.readouterr().out == f"{empty}: the file is empty.\n"
