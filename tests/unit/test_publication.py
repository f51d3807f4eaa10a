"""Promises about publication, on a local folder and on a real S3 server."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from expansion_contract import layout
from expansion_contract.report import File, RunReport
from expansion_contract.run import Owner, PublishedBase, StorageAccess
from expansion_storage import (
    Credentials,
    ObjectChanged,
    Prefix,
    StorageRefused,
    StorageUnavailable,
    open_prefix,
)
from expansion_storage.publication import prune, publish, published, shelf

OWNER = Owner(namespace="default", name="digits")
FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets.extra/golden.json": b"{}"}
AT = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> Prefix:
    if request.param == "folder":
        return open_prefix(str(tmp_path / "models"), StorageAccess())
    keys = Credentials(access_key_id="a", secret_access_key="b")
    bucket = f"b-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}"
    boto3.client(
        "s3", endpoint_url=s3, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    ).create_bucket(Bucket=bucket)
    return open_prefix(f"s3://{bucket}/models", StorageAccess(endpoint_url=s3), keys)


def candidate(output: Prefix, run_id: str = "r1", content: dict[str, bytes] = FILES) -> RunReport:
    for path, value in content.items():
        output.write(layout.candidate(run_id, path), value)
    files = [
        File(path=path, size=len(value), sha256=hashlib.sha256(value).hexdigest())
        for path, value in content.items()
    ]
    return RunReport(
        run_id=run_id, outcome="Succeeded", started_at=AT, finished_at=AT, categories=1010, files=files
    )


def keys(output: Prefix, under: str = "versions/") -> list[str]:
    return [entry.key for entry in output.list(under)]


def test_a_published_version_is_the_candidate_and_its_manifest(output: Prefix) -> None:
    manifest = publish(output, candidate(output), OWNER, 1, AT)
    assert keys(output) == sorted(
        [*(layout.version(1, path) for path in FILES), layout.version(1, layout.MANIFEST)]
    )
    assert output.read(layout.version(1, "saved_model.pb")) == b"graph"
    assert manifest.categories == 1010
    sha256 = hashlib.sha256(output.read(layout.version(1, layout.MANIFEST))).hexdigest()
    assert published(output) == [(manifest, sha256)]


def test_publishing_twice_is_publishing_once(output: Prefix) -> None:
    report = candidate(output)
    first = publish(output, report, OWNER, 1, AT)
    assert publish(output, report, OWNER, 1, "2027-01-01T00:00:00Z") == first


def test_a_number_that_another_run_has_is_refused(output: Prefix) -> None:
    publish(output, candidate(output), OWNER, 1, AT)
    with pytest.raises(StorageRefused, match="published from run r1, not from r2"):
        publish(output, candidate(output, "r2"), OWNER, 1, AT)


class Slow:
    """A prefix whose commit comes after somebody else's."""

    def __init__(self, inner: Prefix, meanwhile: Callable[[], object]) -> None:
        self._inner, self._meanwhile = inner, meanwhile

    def replace(self, *arguments: Any) -> None:
        self._meanwhile()
        self._inner.replace(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_version_that_somebody_else_committed_meanwhile_stays_theirs(output: Prefix) -> None:
    ours, theirs = candidate(output), candidate(output, "r2")
    slow: Any = Slow(output, lambda: publish(output, theirs, OWNER, 1, AT))
    with pytest.raises(ObjectChanged, match=r"versions/1/manifest\.json has been written by somebody else"):
        publish(slow, ours, OWNER, 1, AT)
    assert [manifest.run_id for manifest, _ in published(output)] == ["r2"]


def test_a_commit_whose_answer_was_lost_is_no_loss(output: Prefix) -> None:
    report = candidate(output)
    slow: Any = Slow(output, lambda: publish(output, report, OWNER, 1, AT))
    assert publish(slow, report, OWNER, 1, AT) == published(output)[0][0]


def test_what_a_killed_publication_left_is_overwritten_and_swept(output: Prefix) -> None:
    output.write(layout.version(1, "saved_model.pb"), b"of another candidate")
    output.write(layout.version(1, "variables/variables.data"), b"stray")
    output.write(layout.version(10, "saved_model.pb"), b"not ours to sweep")
    publish(output, candidate(output), OWNER, 1, AT)
    assert output.read(layout.version(1, "saved_model.pb")) == b"graph"
    assert layout.version(1, "variables/variables.data") not in keys(output)
    assert layout.version(10, "saved_model.pb") in keys(output)


def test_a_version_without_a_manifest_is_not_published(output: Prefix) -> None:
    output.write(layout.version(1, "saved_model.pb"), b"graph")
    assert published(output) == []


class Killed(Exception):
    pass


class KilledAfter:
    """A prefix on which only so many writing calls succeed: the process died there."""

    def __init__(self, inner: Any, calls: Iterator[int]) -> None:
        self._inner, self._calls = inner, calls

    def below(self, name: str) -> Any:
        return KilledAfter(self._inner.below(name), self._calls)

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)

        def counted(*arguments: Any) -> Any:
            if next(self._calls, None) is None:
                raise Killed
            return inner(*arguments)

        return counted if name in {"copy", "write", "replace", "delete"} else inner


@pytest.mark.parametrize("calls", range(4))
def test_a_publication_killed_anywhere_is_no_version_and_can_be_repeated(tmp_path: Path, calls: int) -> None:
    output = open_prefix(str(tmp_path), StorageAccess())
    report = candidate(output)
    with pytest.raises(Killed):
        publish(KilledAfter(output, iter(range(calls))), report, OWNER, 1, AT)
    assert published(output) == []
    manifest = publish(output, report, OWNER, 1, AT)
    assert [seen for seen, _ in published(output)] == [manifest]


def test_versions_come_in_the_order_of_their_numbers(output: Prefix) -> None:
    report = candidate(output)
    for number in (10, 9, 2):
        publish(output, report, OWNER, number, AT)
    assert [manifest.version for manifest, _ in published(output)] == [2, 9, 10]


def test_a_pruned_version_is_gone_with_what_smaller_numbers_left_behind(output: Prefix) -> None:
    report = candidate(output)
    for number in (2, 3, 20):
        publish(output, report, OWNER, number, AT)
    output.write(layout.version(1, "saved_model.pb"), b"left by a killed removal")
    output.write(layout.version(21, "saved_model.pb"), b"being published")
    prune(output, 2)
    prune(output, 2)
    assert {key.split("/")[1] for key in keys(output)} == {"3", "20", "21"}
    assert output.read(layout.candidate("r1", "saved_model.pb")) == b"graph"


def test_a_removal_killed_after_its_first_step_leaves_no_version(tmp_path: Path) -> None:
    output = open_prefix(str(tmp_path), StorageAccess())
    publish(output, candidate(output), OWNER, 1, AT)
    with pytest.raises(Killed):
        prune(KilledAfter(output, iter(range(1))), 1)
    assert published(output) == []


def test_what_a_killed_removal_leaves_is_known_and_what_is_being_published_is_no_remains(
    output: Prefix,
) -> None:
    report = candidate(output)
    for number in (2, 3):
        publish(output, report, OWNER, number, AT)
    output.write(layout.version(1, "saved_model.pb"), b"left by a killed removal")
    output.write(layout.version(4, "saved_model.pb"), b"being published")
    assert [manifest.version for manifest, _ in shelf(output).versions] == [2, 3]
    assert shelf(output).remains == {1}


@pytest.mark.parametrize("path", ["../../elsewhere", "/etc/passwd", "manifest.json", ""])
def test_a_report_cannot_write_outside_its_version(output: Prefix, path: str) -> None:
    report = candidate(output)
    strange = report.model_copy(update={"files": [*report.files, File(path=path, size=1, sha256="0" * 64)]})
    with pytest.raises(StorageRefused, match="no file of a model"):
        publish(output, strange, OWNER, 1, AT)
    assert keys(output) == []


def test_a_candidate_that_does_not_match_its_report_is_not_published(output: Prefix) -> None:
    report = candidate(output)
    output.write(layout.candidate("r1", "saved_model.pb"), b"truncated"[:2])
    with pytest.raises(StorageUnavailable, match="has 2 bytes after copying, the candidate's file has 5"):
        publish(output, report, OWNER, 1, AT)
    assert published(output) == []


def test_a_failed_run_is_not_published(output: Prefix) -> None:
    report = RunReport(run_id="r1", outcome="Failed", started_at=AT, finished_at=AT)
    with pytest.raises(StorageRefused, match="Run r1 has no candidate"):
        publish(output, report, OWNER, 1, AT)


def test_a_version_remembers_the_indices_it_gave_and_what_it_grew_from(output: Prefix) -> None:
    base = {"uri": "s3://models/cars/versions/7", "manifest_sha256": "0" * 64}
    told = {"model": base, "a field of": "a later release"}
    report = candidate(output).model_copy(update={"given": ["tulip", "rose"]})
    output.write(layout.run("r1", layout.RUN), json.dumps(told).encode())
    manifest = publish(output, report, OWNER, 1, AT)
    assert manifest.given == ["tulip", "rose"]
    assert manifest.base == PublishedBase(uri=base["uri"], manifest_sha256=base["manifest_sha256"])
    assert published(output)[0][0] == manifest


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        pytest.param(["tulip", "rose", "aster"], True, id="longer"),
        pytest.param(["tulip"], True, id="shorter: an earlier run again"),
        pytest.param(["rose", "tulip"], False, id="another order"),
        pytest.param(["tulip", "aster"], False, id="another category at a given index"),
    ],
)
def test_an_index_that_was_given_is_never_published_for_another_category(
    output: Prefix, names: list[str], allowed: bool
) -> None:
    publish(output, candidate(output).model_copy(update={"given": ["tulip", "rose"]}), OWNER, 1, AT)
    second = candidate(output, "r2").model_copy(update={"given": names})
    if allowed:
        assert publish(output, second, OWNER, 2, AT).given == names
        return
    with pytest.raises(
        StorageRefused, match=r"which version 1 gave to .* raise spec.retrain.revision"
    ) as caught:
        publish(output, second, OWNER, 2, AT)
    assert caught.value.reason == "IndexTaken"
    assert [manifest.version for manifest, _ in published(output)] == [1]


def test_an_unreadable_manifest_is_named(output: Prefix) -> None:
    output.write(layout.version(3, layout.MANIFEST), b"<html>")
    with pytest.raises(StorageRefused, match=r"versions/3/manifest\.json is not the manifest"):
        published(output)
