"""What spec.base names in storage: found, read once, and refused in words its owner understands; a folder is the bucket."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from contract_values import expansion

from expansion_contract import layout
from expansion_contract.run import Owner, PackBase
from expansion_contract.version import ServingDocument, VersionManifest
from expansion_operator.bases import Bases
from expansion_operator.observed import Observed
from expansion_operator.storage import Access, Storage

OWNER = Owner(namespace="team", name="cars")
REFERENCE = {"base": {"expansionRef": {"name": "cars"}}}


def put_version(bucket: Path, number: int = 7, *names: str) -> str:
    """A published version of cars, announced; the digest of its manifest."""
    folder = bucket / "cars" / layout.version(number)
    (folder / "assets.extra").mkdir(parents=True, exist_ok=True)
    states = {"old car": "retired"}
    listed = [
        {"index": index, "name": name, "group": "base", "state": states.get(name, "active")}
        for index, name in enumerate(names or ("Sports Car", "old car"))
    ]
    (folder / layout.CATEGORIES).write_text(json.dumps(listed))
    manifest = VersionManifest(
        version=number, run_id="r", owner=OWNER, published_at="2026-11-22T12:00:00Z", categories=2, files=[]
    )
    (folder / layout.MANIFEST).write_bytes(manifest.to_json())
    digest = hashlib.sha256(manifest.to_json()).hexdigest()
    document = ServingDocument(
        owner=OWNER,
        model_name="cars",
        version=number,
        run_id="r",
        manifest_sha256=digest,
        last_version=number,
    )
    (bucket / "cars" / layout.SERVING).write_bytes(document.to_json())
    return digest


def referred(bucket: Path, **metadata: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "False", "reason": "GateRefused", "message": "Accuracy 0.5."}
    return {
        "metadata": {"namespace": "team", "name": "cars", "uid": "c", **metadata},
        "spec": {"output": {"models": f"{bucket}/cars/"}},
        "status": {"conditions": [ready]},
    }


def look(bucket: Path, resource: dict[str, Any] | None, bases: Bases | None = None, **spec: Any) -> Observed:
    grown = expansion(**{"output": {"models": f"{bucket}/flowers/"}, **REFERENCE, **spec})
    seen = Observed(expansion=grown)
    return (bases or Bases()).seen(seen, Storage(grown, Access()), resource)


def trouble(seen: Observed) -> tuple[str, bool, str]:
    assert seen.base is None
    assert seen.pack is None
    assert seen.base_trouble is not None
    return seen.base_trouble.reason, seen.base_trouble.permanent, seen.base_trouble.message


def test_the_announced_version_of_the_referred_resource_is_grown(tmp_path: Path) -> None:
    digest = put_version(tmp_path)
    base = look(tmp_path, referred(tmp_path)).base
    assert base is not None
    assert (base.model.uri, base.model.manifest_sha256) == (f"{tmp_path}/cars/versions/7", digest)
    assert base.version == 7


def test_only_categories_that_still_answer_are_names_of_the_base(tmp_path: Path) -> None:
    put_version(tmp_path)
    base = look(tmp_path, referred(tmp_path)).base
    assert base is not None
    assert (base.names.same("sports cars"), base.names.same("old car")) == ((0,), ())


def test_the_next_version_is_grown_as_soon_as_it_is_announced(tmp_path: Path) -> None:
    bases = Bases()
    put_version(tmp_path)
    look(tmp_path, referred(tmp_path), bases)
    digest = put_version(tmp_path, 8, "truck")
    base = look(tmp_path, referred(tmp_path), bases).base
    assert base is not None
    assert (base.version, base.model.manifest_sha256, base.names.names) == (8, digest, ("truck",))


def test_a_version_is_read_once(tmp_path: Path) -> None:
    bases = Bases()
    put_version(tmp_path)
    first = look(tmp_path, referred(tmp_path), bases).base
    (tmp_path / "cars" / layout.version(7, layout.CATEGORIES)).unlink()
    assert look(tmp_path, referred(tmp_path), bases).base == first


def test_one_published_version_is_grown_by_its_folder(tmp_path: Path) -> None:
    digest = put_version(tmp_path)
    base = look(tmp_path, None, base={"model": {"uri": f"{tmp_path}/cars/versions/7"}}).base
    assert base is not None
    assert (base.version, base.model.manifest_sha256) == (7, digest)


def test_a_pack_is_known_by_the_digest_of_its_document(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / layout.PACK_DOCUMENT).write_bytes(b"{}")
    seen = look(tmp_path, None, base={"pretrained": {}, "pack": {"uri": f"{tmp_path}/pack"}})
    assert seen.pack == PackBase(uri=f"{tmp_path}/pack", digest=hashlib.sha256(b"{}").hexdigest())


def test_a_pretrained_network_alone_is_not_looked_for(tmp_path: Path) -> None:
    seen = look(tmp_path, None, base={"pretrained": {}})
    assert (seen.base, seen.pack, seen.base_trouble) == (None, None, None)


# What cannot be grown


def test_a_missing_base_is_waited_for(tmp_path: Path) -> None:
    reason, permanent, message = trouble(look(tmp_path, None))
    assert (reason, permanent) == ("BaseMissing", False)
    assert "ClassifierExpansion team/cars, which does not exist. Create it" in message


def test_a_base_that_is_being_deleted_is_not_grown(tmp_path: Path) -> None:
    put_version(tmp_path)
    going = referred(tmp_path, deletionTimestamp="2026-11-22T12:00:00Z")
    assert "is being deleted" in trouble(look(tmp_path, going))[2]


def test_a_base_without_a_version_is_waited_for_and_its_own_words_are_passed_on(tmp_path: Path) -> None:
    reason, permanent, message = trouble(look(tmp_path, referred(tmp_path)))
    assert (reason, permanent) == ("BaseNotPublished", False)
    assert message.endswith("this one waits for it. It says GateRefused: Accuracy 0.5.")


def test_a_base_in_another_store_is_refused_with_both_addresses(tmp_path: Path) -> None:
    elsewhere = referred(tmp_path)
    elsewhere["spec"]["storage"] = {"endpointUrl": "https://minio.example/"}
    reason, permanent, message = trouble(look(tmp_path, elsewhere))
    assert (reason, permanent) == ("BaseElsewhere", True)
    assert "keeps its models at https://minio.example, and spec.storage.endpointUrl" in message


def test_an_announced_version_that_is_gone_is_named(tmp_path: Path) -> None:
    put_version(tmp_path)
    (tmp_path / "cars" / layout.version(7, layout.MANIFEST)).unlink()
    reason, permanent, message = trouble(look(tmp_path, referred(tmp_path)))
    assert (reason, permanent) == ("BaseVersionMissing", True)
    assert "cars/versions/7/manifest.json does not exist" in message


def test_a_version_that_goes_after_it_was_read_is_noticed(tmp_path: Path) -> None:
    bases = Bases()
    put_version(tmp_path)
    look(tmp_path, referred(tmp_path), bases)
    (tmp_path / "cars" / layout.version(7, layout.MANIFEST)).unlink()
    assert trouble(look(tmp_path, referred(tmp_path), bases))[0] == "BaseVersionMissing"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param(
            layout.version(7, layout.MANIFEST), b"{}", "not the one that serving.json", id="manifest"
        ),
        pytest.param(
            layout.version(7, layout.CATEGORIES), b'["a"]', "missing or unreadable", id="categories"
        ),
        pytest.param(layout.SERVING, b"{}", "serving.json of ClassifierExpansion cars", id="serving.json"),
    ],
)
def test_a_damaged_base_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    put_version(tmp_path)
    (tmp_path / "cars" / name).write_bytes(content)
    reason, permanent, message = trouble(look(tmp_path, referred(tmp_path)))
    assert permanent
    assert reason in {"BaseDamaged", "BaseUnreadable"}
    assert said in message


def test_a_folder_without_a_version_is_refused(tmp_path: Path) -> None:
    reason, permanent, message = trouble(look(tmp_path, None, base={"model": {"uri": f"{tmp_path}/nothing"}}))
    assert (reason, permanent) == ("BaseVersionMissing", True)
    assert f"no published version at {tmp_path}/nothing/" in message


def test_a_folder_without_a_pack_is_refused(tmp_path: Path) -> None:
    spec = {"pretrained": {}, "pack": {"uri": f"{tmp_path}/nothing"}}
    reason, permanent, message = trouble(look(tmp_path, None, base=spec))
    assert (reason, permanent) == ("PackMissing", True)
    assert "expansion pack build" in message


def test_a_base_that_comes_back_is_grown_again(tmp_path: Path) -> None:
    bases = Bases()
    put_version(tmp_path)
    first = look(tmp_path, referred(tmp_path), bases).base
    assert look(tmp_path, None, bases).base is None
    assert look(tmp_path, referred(tmp_path), bases).base == first
