"""The operator's ways to storage and its memory of listings, with a folder as the bucket; and what its process may not carry."""

import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from contract_values import expansion, report
from plain_stores import plain_store

from expansion_contract import layout, run
from expansion_contract.labels import vocabulary
from expansion_contract.resource import ClassifierExpansion
from expansion_contract.run import Owner, PublishedBase
from expansion_contract.version import ServingDocument
from expansion_development.certificates import private_authority
from expansion_operator.observed import BaseSeen
from expansion_operator.storage import Access, Listings, ServingSeen, Storage, StorageTrouble, access
from expansion_storage import ObjectChanged, StorageRefused

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
NEVER = float("-inf")
DOCUMENT = ServingDocument(
    owner=Owner(namespace="team", name="flowers"),
    model_name="flowers",
    version=3,
    run_id="r1",
    manifest_sha256="0" * 64,
    last_version=4,
)


def encoded(**values: str) -> dict[str, str]:
    return {name: b64encode(value.encode()).decode() for name, value in values.items()}


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for category in ("tulip", "rose"):
        folder = tmp_path / "photos" / category
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}.jpg").write_bytes(b"an image")
    return tmp_path


def in_folder(bucket: Path, **spec: Any) -> ClassifierExpansion:
    places = {"categories": {"images": f"{bucket}/photos/"}, "output": {"models": f"{bucket}/models/"}}
    return expansion(**{**places, **spec})


def storage_of(bucket: Path, **spec: Any) -> Storage:
    return Storage(in_folder(bucket, **spec), Access())


# Secrets


def test_the_keys_of_the_named_secret_are_used() -> None:
    found = access(expansion(storage={"secretName": "s3"}), encoded(**KEYS), None)
    assert found.credentials is not None
    assert (found.credentials.access_key_id, found.credentials.secret_access_key) == ("key", "secret")
    assert found.ca_bundle is None


def test_without_a_secret_the_pods_own_identity_is_used() -> None:
    assert access(expansion(), None, None) == Access()


@pytest.mark.parametrize(
    ("secret", "reason", "said"),
    [
        pytest.param(
            None,
            "SecretMissing",
            "Secret team/s3, named by spec.storage.secretName, does not exist. Create it; it is looked for again every 15 s.",
            id="missing",
        ),
        pytest.param(
            encoded(AWS_ACCESS_KEY_ID="key"), "SecretIncomplete", "has no AWS_SECRET_ACCESS_KEY", id="half"
        ),
        pytest.param(
            encoded(**{**KEYS, "AWS_SECRET_ACCESS_KEY": "secret\n"}),
            "SecretInvalid",
            "AWS_SECRET_ACCESS_KEY in Secret team/s3 (spec.storage.secretName) begins or ends with a space or a line break",
            id="pasted",
        ),
    ],
)
def test_a_secret_that_does_not_serve_may_heal(secret: dict[str, str] | None, reason: str, said: str) -> None:
    with pytest.raises(StorageTrouble) as caught:
        access(expansion(storage={"secretName": "s3"}), secret, None)
    assert caught.value.trouble.reason == reason
    assert said in caught.value.trouble.message
    assert not caught.value.trouble.permanent


def test_no_message_shows_a_key() -> None:
    secret = encoded(AWS_ACCESS_KEY_ID="AKIAVERYSECRET ", AWS_SECRET_ACCESS_KEY="hunter2")
    with pytest.raises(StorageTrouble) as caught:
        access(expansion(storage={"secretName": "s3"}), secret, None)
    assert "VERYSECRET" not in caught.value.trouble.message
    assert "hunter2" not in caught.value.trouble.message


def test_a_private_authority_becomes_a_file_and_the_same_one_the_same_file(tmp_path: Path) -> None:
    resource = expansion(storage={"caSecretName": "ca"})
    authority, another = (
        private_authority(tmp_path / name).authority.read_text() for name in ("one", "another")
    )
    one = access(resource, None, encoded(**{"ca.crt": authority}))
    two = access(resource, None, encoded(**{"ca.crt": authority}))
    other = access(resource, None, encoded(**{"ca.crt": another}))
    assert one == two != other
    assert Path(one.ca_bundle or "").read_text() == authority


@pytest.mark.parametrize(
    ("secret", "reason", "said"),
    [
        pytest.param(
            None,
            "SecretMissing",
            "Secret team/ca, named by spec.storage.caSecretName, does not exist. Create it",
            id="missing",
        ),
        pytest.param(
            encoded(**{"tls.crt": "x"}),
            "SecretIncomplete",
            "Secret team/ca, named by spec.storage.caSecretName, has no ca.crt",
            id="another name",
        ),
        *(
            pytest.param(
                encoded(**{"ca.crt": content}),
                "SecretInvalid",
                "ca.crt in Secret team/ca, named by spec.storage.caSecretName, is no certificate in PEM form",
                id=what,
            )
            for what, content in {
                "no certificate": "https://ca.example.com",
                "half of one": "-----BEGIN CERTIFICATE-----\nMIIB",
                "not a letter": "\ufeff-----BEGIN CERTIFICATE-----",
            }.items()
        ),
    ],
)
def test_an_authority_that_does_not_serve_may_heal(
    secret: dict[str, str] | None, reason: str, said: str
) -> None:
    with pytest.raises(StorageTrouble) as caught:
        access(expansion(storage={"caSecretName": "ca"}), None, secret)
    assert caught.value.trouble.reason == reason
    assert said in caught.value.trouble.message
    assert not caught.value.trouble.permanent


# Listings


def test_a_listing_counts_the_new_categories(bucket: Path) -> None:
    assert storage_of(bucket).listed(0).listing.counts == {"rose": 3, "tulip": 3}


def test_replay_and_unlabelled_images_are_part_of_the_digest(bucket: Path) -> None:
    plain = storage_of(bucket).listed(0).listing.digest
    both = {"replay": {"images": f"{bucket}/replay/"}, "unlabelled": {"images": f"{bucket}/any/"}}
    for place in ("replay/panda", "any"):
        (bucket / place).mkdir(parents=True)
        (bucket / place / "1.jpg").write_bytes(b"another")
    listing = storage_of(bucket, **both).listed(0).listing
    assert (listing.replay_images, listing.unlabelled_images) == (1, 1)
    assert listing.digest != plain


def test_a_listing_is_kept_until_the_images_are_due(bucket: Path) -> None:
    listings, resource = Listings(), in_folder(bucket, retrain={"pollInterval": "1m"})
    storage = Storage(resource, Access())
    first = listings.get(storage, resource, 100, NEVER)
    (bucket / "photos/rose/new.jpg").write_bytes(b"new")
    assert listings.get(storage, resource, 159, NEVER) is first
    assert listings.get(storage, resource, 161, NEVER).listing.images == first.listing.images + 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"categories": {"images": "{}/photos/", "include": ["rose"]}}, id="include"),
        pytest.param({"storage": {"region": "eu-central-1"}}, id="storage"),
        pytest.param({"unlabelled": {"images": "{}/photos/"}}, id="another address"),
    ],
)
def test_a_listing_of_other_addresses_is_not_used(bucket: Path, change: dict[str, Any]) -> None:
    spec = {
        key: {k: v.format(bucket) if isinstance(v, str) else v for k, v in one.items()}
        for key, one in change.items()
    }
    listings = Listings()
    before, after = in_folder(bucket), in_folder(bucket, **spec)
    first = listings.get(Storage(before, Access()), before, 100, NEVER)
    assert listings.get(Storage(after, Access()), after, 101, NEVER) is not first


def test_names_are_compared_with_the_bases_own_and_another_base_needs_no_other_listing(bucket: Path) -> None:
    listings, storage, spec = Listings(), storage_of(bucket), in_folder(bucket)
    first = listings.get(storage, spec, 0, NEVER, base_of("rose")).listing
    assert [problem.reason for problem in first.errors] == ["CategoryOverlap"]
    (bucket / "photos" / "rose" / "new.jpg").write_bytes(b"an image")
    second = listings.get(storage, spec, 1, NEVER, base_of("car")).listing
    assert (second.errors, second.digest) == ((), first.digest)


def base_of(*names: str) -> BaseSeen:
    model = PublishedBase(uri="s3://models/cars/versions/1", manifest_sha256="-".join(names))
    return BaseSeen(model=model, version=1, names=vocabulary(("", name) for name in names))


def test_a_listing_says_when_its_newest_image_arrived(bucket: Path) -> None:
    os.utime(bucket / "photos" / "rose" / "1.jpg", (2_000_000_000, 2_000_000_000))
    (bucket / "photos" / "rose" / "notes.txt").write_bytes(b"no image")
    os.utime(bucket / "photos" / "rose" / "notes.txt", (2_100_000_000, 2_100_000_000))
    assert storage_of(bucket).listed(0).newest == 2_000_000_000
    assert storage_of(bucket, categories={"images": f"{bucket}/nothing/"}).listed(0).newest is None


def test_pictures_of_nothing_known_are_part_of_the_data_set(bucket: Path) -> None:
    (bucket / "backgrounds").mkdir()
    (bucket / "backgrounds" / "sky.jpg").write_bytes(b"an image")
    categories = {"images": f"{bucket}/photos/", "unknownImages": f"{bucket}/backgrounds/"}
    seen = storage_of(bucket, categories=categories).listed(0).listing
    assert seen.counts == {"rose": 3, "tulip": 3, "unknown": 1}
    assert seen.digest != storage_of(bucket).listed(0).listing.digest


def test_a_listing_from_before_the_trainers_word_is_not_used(bucket: Path) -> None:
    listings, resource = Listings(), in_folder(bucket)
    first = listings.get(Storage(resource, Access()), resource, 100, NEVER)
    assert listings.get(Storage(resource, Access()), resource, 101, 101) is not first


# Runs and versions


def test_what_a_run_leaves_is_read_and_what_is_not_there_is_not(bucket: Path) -> None:
    storage = storage_of(bucket)
    assert (storage.report("r1"), storage.progress("r1"), storage.serving()) == (None, None, ServingSeen())
    made = report(run_id="r1")
    write(bucket, layout.run("r1", layout.REPORT), made.to_json())
    seen = storage.report("r1")
    assert seen is not None
    assert seen.report == made


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(
            b'{"formatVersion": 2}', "is of format version 2, this operator reads version 1", id="future"
        ),
        pytest.param(b"{half", "cannot be read as a report", id="half"),
        pytest.param(
            report(run_id="other").to_json(), "is the report of another run, other", id="another run"
        ),
    ],
)
def test_a_report_that_cannot_be_used_says_why(bucket: Path, content: bytes, problem: str) -> None:
    write(bucket, layout.run("r1", layout.REPORT), content)
    seen = storage_of(bucket).report("r1")
    assert seen is not None
    assert seen.report is None
    assert problem in seen.problem


def test_a_run_is_written_as_the_trainer_reads_it(bucket: Path) -> None:
    resource = in_folder(bucket)
    wanted = run.training_run(resource, "sha256:1")
    storage = Storage(resource, Access())
    storage.write_run(wanted)
    content = (bucket / "models" / layout.run(wanted.run_id, layout.RUN)).read_bytes()
    assert run.TrainingRun.model_validate_json(content) == wanted


def test_asking_whether_we_may_write_leaves_nothing(bucket: Path) -> None:
    storage_of(bucket).must_be_writable()
    assert [path for path in (bucket / "models").rglob("*") if path.is_file()] == []


def test_a_store_that_does_not_see_conditions_is_named_in_the_log_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with plain_store(refuses_conditions=False) as store:
        spec = expansion(storage={"endpointUrl": store.endpoint, "secretName": "s3"})
        for _ in range(2):
            Storage(spec, access(spec, encoded(**KEYS), None)).must_be_writable()
    (said,) = caplog.messages
    assert f"{store.endpoint} replaced an object although it was told to write only where none is" in said
    assert store.objects == {}


def test_a_store_that_keeps_conditions_is_not_named(bucket: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage_of(bucket).must_be_writable()
    assert caplog.messages == []


def test_a_serving_document_that_is_damaged_is_said_to_be(bucket: Path) -> None:
    write(bucket, layout.SERVING, b"{}")
    with pytest.raises(StorageRefused, match=r"serving\.json cannot be read"):
        storage_of(bucket).serving()


def test_a_serving_document_comes_back_as_it_was_written(bucket: Path) -> None:
    storage = storage_of(bucket)
    storage.write_serving(DOCUMENT, None)
    assert storage.serving().document == DOCUMENT


def test_a_serving_document_that_somebody_else_wrote_since_it_was_read_stays(bucket: Path) -> None:
    storage = storage_of(bucket)
    storage.write_serving(DOCUMENT, None)
    read, theirs = storage.serving(), DOCUMENT.model_copy(update={"term": 2})
    storage.write_serving(theirs, read.tag)
    for tag in (read.tag, None):
        with pytest.raises(ObjectChanged, match=r"serving\.json has been written by somebody else"):
            storage.write_serving(DOCUMENT.model_copy(update={"version": 4}), tag)
    assert storage.serving().document == theirs


def test_what_was_written_to_an_output_is_removed_step_by_step_and_nothing_else(bucket: Path) -> None:
    storage, models = storage_of(bucket), bucket / "models"
    theirs = models / "another-resource" / "versions" / "1" / "manifest.json"
    ours = [models / "runs" / "r1" / f"{number}" for number in range(5)]
    for path in (theirs, *ours, models / "versions" / "1" / "saved_model.pb"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    storage.write_serving(DOCUMENT, None)
    assert storage.owner() == Owner(namespace="team", name="flowers")
    assert not storage.clear(4)
    assert storage.owner() is not None, "serving.json goes last: who cleans up must know whose it is"
    assert storage.clear(4)
    assert [path for path in models.rglob("*") if path.is_file()] == [theirs]
    assert storage.clear(4)
    assert storage.owner() is None


def test_a_run_without_a_report_cannot_be_published(bucket: Path) -> None:
    with pytest.raises(StorageRefused, match="has no report"):
        storage_of(bucket).publish("r1", 1, "2026-11-22T10:00:00Z")


def write(bucket: Path, key: str, content: bytes) -> None:
    file = bucket / "models" / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


# The process


def test_the_operator_carries_no_tensorflow_and_no_numpy() -> None:
    """Its pod has 150 MB; and its image has neither."""
    program = (
        "import sys, expansion_operator.__main__;"
        "print([m for m in ('tensorflow', 'keras', 'numpy', 'scipy', 'expansion_trainer') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=_paths()
    )
    assert done.stdout.strip() == "[]"


def _paths() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}
