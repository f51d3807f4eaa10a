"""Promises of the command `expansion`, as far as they need no model: files, messages, exit codes, publication."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract_values import report

from expansion_contract import layout
from expansion_contract.report import File, RunReport
from expansion_contract.resource import parsed
from expansion_contract.run import Owner, StorageAccess, TrainingRun, training_run
from expansion_contract.version import ServingDocument
from expansion_storage import Prefix, open_prefix
from expansion_trainer import publishing, resource_file
from expansion_trainer.command_line import main
from expansion_trainer.resource_file import Refused

Write = Callable[..., Path]


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "base": {"pretrained": {"architecture": "EfficientNetLite0"}},
        "categories": {"images": "./photos"},
        "output": {"models": "./models"},
        **changes,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a resource with two categories of images beside it."""

    def write(name: str = "digits", **changes: Any) -> Path:
        body = {"apiVersion": "classifierexpansion.dev/v1alpha1", "kind": "ClassifierExpansion"}
        path = tmp_path / "expansion.yaml"
        path.write_text(yaml.safe_dump({**body, "metadata": {"name": name}, "spec": spec(**changes)}))
        return path

    for category in ("one", "two"):
        (tmp_path / "photos" / category).mkdir(parents=True)
        for index in range(25):
            (tmp_path / "photos" / category / f"{index}.png").write_bytes(f"{category}{index}".encode())
    return write


def test_validate_says_what_would_be_trained(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", str(write())]) == 0
    said = capsys.readouterr()
    assert "can be trained: 50 images in 2 new categories." in said.out
    assert "note: Fewer than 100 images" in said.err


def test_local_folders_are_relative_to_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(storage={"cache": "../cache"})
    monkeypatch.chdir("/")
    read = resource_file.read(path).spec
    assert read.categories.images == str(path.parent / "photos")
    assert read.storage.cache == str(path.parent.parent / "cache")


def test_an_output_given_on_the_command_line_is_relative_to_where_one_stands(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resource_file.read(write(), "out").spec.output.models == str(tmp_path / "elsewhere/out")
    assert resource_file.read(write(), "s3://models/x").spec.output.models == "s3://models/x"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"split": {"testPercent": 60}},
            "spec.split.testPercent: input should be less than or equal to 50, got 60.",
            id="a number out of bounds",
        ),
        pytest.param({"splitt": {}}, "spec.splitt: there is no such field.", id="a misspelt field"),
        pytest.param(
            {"compute": {"workers": 2}},
            "spec.compute.workers asks for something this release does not do yet; use 1.",
            id="a field of a later release",
        ),
        pytest.param(
            {"base": {"pretrained": {"architecture": "InceptionV4"}}},
            "spec.base.pretrained.architecture 'InceptionV4' is not known. Did you mean Inception",
            id="an unknown network",
        ),
        pytest.param(
            {"categories": {"images": "./nowhere"}}, "No category folders with images", id="no images"
        ),
        pytest.param(
            {"categories": {"images": "./photos", "include": ["three"]}},
            "spec.categories.include names 'three'",
            id="a category without a folder",
        ),
    ],
)
def test_validate_names_what_is_wrong(
    write: Write, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert main(["validate", "-f", str(write(**changes))]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_run_refuses_what_validate_refuses_before_anything_is_written(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(categories={"images": "./nowhere"})
    assert main(["run", "-f", str(path)]) == 1
    assert "No category folders with images" in capsys.readouterr().err
    assert not (path.parent / "models").exists()


def test_a_name_that_its_job_could_not_have_is_refused_here_too(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "-f", str(write("Digits_2"))]) == 1
    assert "metadata.name must have at most 44 characters" in capsys.readouterr().err


def test_all_problems_of_a_resource_are_named_at_once(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = {"rollout": {"strategy": "Canary"}}
    main(["validate", "-f", str(write(compute={"workers": 2}, serving=canary))])
    said = capsys.readouterr().err
    assert "spec.compute.workers" in said
    assert "spec.serving.rollout.strategy" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("kind: [", "is not YAML", id="not YAML"),
        pytest.param("kind: Deployment", "has 0 documents of kind ClassifierExpansion", id="another kind"),
        pytest.param("just text", "has 0 documents of kind ClassifierExpansion", id="text"),
        pytest.param("kind: ClassifierExpansion", "metadata is required.", id="nothing in it"),
    ],
)
def test_a_file_that_is_no_resource_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    (tmp_path / "x.yaml").write_text(content)
    assert main(["validate", "-f", str(tmp_path / "x.yaml")]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", "nowhere.yaml"]) == 1
    assert capsys.readouterr().err == "nowhere.yaml cannot be read: No such file or directory.\n"


def test_the_resource_may_stand_among_other_documents(write: Write) -> None:
    path = write()
    path.write_text(f"kind: Secret\n---\n{path.read_text()}\n---\n")
    assert main(["validate", "-f", str(path)]) == 0


@pytest.mark.parametrize("arguments", [[], ["run"], ["label"], ["label", "x.png", "--top", "0"], ["explode"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_report_is_summed_up_with_the_way_to_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / layout.REPORT).write_bytes(report().to_json())
    assert main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "New categories: 95.0 %" in said
    assert f"Page: {tmp_path / layout.REPORT_PAGE}" in said


def test_a_run_without_a_report_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert f"There is no report.json at {tmp_path}" in capsys.readouterr().err


def test_label_without_a_model_says_how_to_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    assert main(["label", "x.png"]) == 1
    assert "Give --model, or set EXPANSION_OUTPUT" in capsys.readouterr().err


def test_label_names_a_place_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    assert main(["label", str(tmp_path / "x.png"), "--model", str(tmp_path)]) == 1
    assert f"There is no model at {tmp_path}" in capsys.readouterr().err


def test_label_names_a_missing_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "nowhere.png"]) == 1
    assert capsys.readouterr().err == "nowhere.png cannot be read: No such file or directory.\n"


def test_validate_report_and_help_do_without_tensorflow(write: Write, tmp_path: Path) -> None:
    (tmp_path / layout.REPORT).write_bytes(report().to_json())
    asked = [["validate", "-f", str(write())], ["report", str(tmp_path)], ["--help"]]
    program = f"""
import sys
from expansion_trainer.command_line import main
for arguments in {json.dumps(asked)}:
    try:
        main(arguments)
    except SystemExit:
        pass
    assert not {{"tensorflow", "keras", "scipy"}} & set(sys.modules), arguments
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


# Publication, as the operator does it


@pytest.fixture
def output(tmp_path: Path) -> Prefix:
    return open_prefix(str(tmp_path / "models"), StorageAccess())


def trained(output: Prefix, digest: str = "sha256:a", **changes: Any) -> tuple[Any, TrainingRun, RunReport]:
    body = {"metadata": {"name": "digits"}, "spec": spec(**changes)}
    expansion = parsed(body)
    run = training_run(expansion, digest)
    output.write(layout.candidate(run.run_id, "saved_model.pb"), digest.encode())
    files = [File(path="saved_model.pb", size=len(digest), sha256="0" * 64)]
    return expansion, run, report(run_id=run.run_id, files=files, categories=1010)


def publish(output: Prefix, digest: str = "sha256:a", **changes: Any) -> int | None:
    return publishing.publish_if_accepted(
        *trained(output, digest, **changes), output, "2026-01-01T00:00:00Z"
    ).version


def served(output: Prefix) -> ServingDocument:
    return ServingDocument.model_validate_json(output.read(layout.SERVING))


def test_an_accepted_run_is_published_and_to_be_served(output: Prefix) -> None:
    assert publish(output) == 1
    assert (served(output).version, served(output).last_version, served(output).model_name) == (
        1,
        1,
        "digits",
    )


def test_publishing_the_same_run_again_changes_nothing(output: Prefix) -> None:
    publish(output)
    before = output.read(layout.SERVING)
    assert publish(output) == 1
    assert output.read(layout.SERVING) == before


def test_a_refused_run_is_not_published(output: Prefix) -> None:
    assert publish(output, acceptance={"minimumAccuracy": 0.99}) is None
    assert output.find(layout.SERVING) is None


def test_every_run_gets_the_next_number_and_going_back_gets_the_old_one(output: Prefix) -> None:
    assert [publish(output, digest) for digest in ("sha256:a", "sha256:b", "sha256:a")] == [1, 2, 1]
    assert (served(output).version, served(output).last_version) == (1, 2)
    assert publish(output, "sha256:c") == 3


def test_old_versions_are_removed_and_the_served_one_never(output: Prefix) -> None:
    for digest in "abcd":
        expansion, run, done = trained(output, digest)
        few = expansion.spec.output.model_copy(update={"keep_versions": 2})
        expansion = expansion.model_copy(update={"spec": expansion.spec.model_copy(update={"output": few})})
        publishing.publish_if_accepted(expansion, run, done, output, "2026-01-01T00:00:00Z")
    assert {entry.key.split("/")[1] for entry in output.list("versions/")} == {"3", "4"}


def test_an_output_of_another_resource_is_refused(output: Prefix) -> None:
    publish(output)
    with pytest.raises(Refused, match="already belongs to ClassifierExpansion default/digits"):
        publishing.must_own(output, Owner(namespace="default", name="flowers"))
    publishing.must_own(output, Owner(namespace="default", name="digits"))


def test_a_run_that_succeeded_before_is_not_trained_again(output: Prefix) -> None:
    _, run, done = trained(output)
    assert publishing.succeeded(output, run.run_id) is None
    output.write(layout.run(run.run_id, layout.REPORT), done.to_json())
    assert publishing.succeeded(output, run.run_id) == done
    failed = done.model_copy(update={"outcome": "Failed"})
    output.write(layout.run(run.run_id, layout.REPORT), failed.to_json())
    assert publishing.succeeded(output, run.run_id) is None
