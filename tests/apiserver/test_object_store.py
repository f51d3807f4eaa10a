"""Two real S3 servers, in memory and over a folder, through the one package that reaches storage."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from expansion_contract.resource import Checksums
from expansion_contract.run import StorageAccess
from expansion_development import object_store, programs
from expansion_development.control_plane import say
from expansion_development.object_store import ObjectStore
from expansion_storage import (
    Credentials,
    ObjectChanged,
    ObjectMissing,
    Prefix,
    StorageRefused,
    StorageUnavailable,
    open_prefix,
)
from expansion_storage.s3 import client

pytestmark = pytest.mark.apiserver

SERVERS = ("moto", "versitygw")
UNICODE = "Blümchen/花 🌻+a&b=1 %2F.jpg"


@pytest.fixture(scope="session")
def gateway() -> Path:
    """versitygw's program: named by EXPANSION_VERSITYGW, found, or built."""
    if named := os.environ.get("EXPANSION_VERSITYGW"):
        return Path(named)
    places = programs.Places.of(dict(os.environ))
    return programs.obtain([programs.VERSITYGW], places, say)[programs.VERSITYGW]


@pytest.fixture(scope="module", params=SERVERS)
def store(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    yield from _running(request, tls=False)


@pytest.fixture(scope="module", params=SERVERS)
def secure_store(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    yield from _running(request, tls=True)


def _running(request: pytest.FixtureRequest, tls: bool) -> Iterator[ObjectStore]:
    if request.param == "moto":
        with object_store.moto(tls) as running:
            yield running
    else:
        with object_store.versitygw(request.getfixturevalue("gateway"), tls) as running:
            yield running


@pytest.fixture
def place(store: ObjectStore, request: pytest.FixtureRequest) -> Prefix:
    """An empty prefix of a bucket of its own."""
    bucket = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    store.create_bucket(bucket)
    return open_prefix(f"s3://{bucket}/some/prefix/", store.access, store.credentials)


def test_what_is_written_is_read_found_and_listed(place: Prefix) -> None:
    place.write("a/1.jpg", b"one", "image/jpeg")
    found = place.find("a/1.jpg")
    assert place.read("a/1.jpg") == b"one"
    assert found is not None
    assert (found.key, found.size) == ("a/1.jpg", 3)
    assert [entry.key for entry in place.list()] == ["a/1.jpg"]
    assert next(iter(place.list())).etag == found.etag


def test_the_etag_changes_with_the_content(place: Prefix) -> None:
    place.write("x", b"one")
    before = place.find("x")
    place.write("x", b"two")
    after = place.find("x")
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


def test_only_what_was_read_is_replaced_and_nothing_only_by_the_first(place: Prefix) -> None:
    place.replace("x", b"one", None)
    read = place.read_tagged("x")
    place.replace("x", b"two", read.tag)
    place.replace("x", b"two", read.tag)  # the answer was lost
    for tag in (read.tag, None):
        with pytest.raises(ObjectChanged, match="/some/prefix/x has been written by somebody else"):
            place.replace("x", b"three", tag)
    assert (read.content, place.read("x")) == (b"one", b"two")
    place.delete("x")
    with pytest.raises(ObjectChanged):
        place.replace("x", b"three", read.tag)
    assert place.find("x") is None


def test_more_than_a_thousand_objects_are_listed_in_order(store: ObjectStore, place: Prefix) -> None:
    keys = [f"{number:04}.jpg" for number in range(1005)]
    for key in reversed(keys):
        place.write(key, b"")
    assert [entry.key for entry in place.list()] == keys


def test_keys_in_any_script_survive(place: Prefix) -> None:
    place.write(UNICODE, b"flower")
    place.copy(UNICODE, f"copy/{UNICODE}")
    assert [entry.key for entry in place.list()] == sorted([UNICODE, f"copy/{UNICODE}"])
    assert place.read(f"copy/{UNICODE}") == b"flower"


def test_a_large_file_goes_up_in_parts_is_copied_by_the_server_and_comes_down_whole(
    place: Prefix, tmp_path: Path
) -> None:
    content = os.urandom(1 << 20) * 65  # just over one part
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    place.upload("large", source)
    place.copy("large", "copy")
    place.download("copy", target)
    uploaded, copied = place.find("large"), place.find("copy")
    assert uploaded is not None
    assert copied is not None
    assert uploaded.etag.endswith("-2"), "two parts"
    assert copied.size == len(content)
    assert target.read_bytes() == content


def test_deleting_is_final_and_may_be_repeated(place: Prefix) -> None:
    place.write("x", b"1")
    place.delete("x")
    place.delete("x")
    assert place.find("x") is None
    with pytest.raises(ObjectMissing, match="/some/prefix/x does not exist"):
        place.read("x")


def test_a_missing_bucket_is_named(store: ObjectStore) -> None:
    nowhere = open_prefix("s3://no-such-bucket/x/", store.access, store.credentials)
    with pytest.raises(
        StorageRefused, match=r"There is no bucket 'no-such-bucket' at http://127\.0\.0\.1"
    ) as problem:
        list(nowhere.list())
    assert problem.value.reason == "BucketMissing"


@pytest.mark.parametrize("checksums", list(Checksums))
def test_both_ways_of_checksums_are_understood(
    store: ObjectStore, place: Prefix, checksums: Checksums
) -> None:
    access = store.access.model_copy(update={"checksums": checksums})
    same = open_prefix(place.uri, access, store.credentials)
    same.write("x", b"sum")
    assert same.read("x") == b"sum"


def test_without_being_required_no_checksum_is_sent(store: ObjectStore, place: Prefix) -> None:
    sent: list[dict[str, str]] = []
    s3 = client(store.access, store.credentials, None)
    s3.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: sent.append(dict(request.headers))
    )
    place.write("x", b"1")
    assert sent
    assert not [name for headers in sent for name in headers if "checksum" in name.lower()]


def test_addresses_are_written_in_path_style(store: ObjectStore, place: Prefix) -> None:
    sent: list[str] = []
    s3 = client(store.access, store.credentials, None)
    s3.meta.events.register("before-send.s3.GetObject", lambda request, **_: sent.append(request.url))
    place.write("x", b"1")
    place.read("x")
    assert sent[0].startswith(f"{store.endpoint}/bucket-")


def test_a_private_authority_is_trusted_when_its_certificate_is_given(secure_store: ObjectStore) -> None:
    secure_store.create_bucket("secure")
    place = open_prefix(
        "s3://secure/", secure_store.access, secure_store.credentials, str(secure_store.authority)
    )
    place.write("x", b"secret")
    assert secure_store.endpoint.startswith("https://")
    assert place.read("x") == b"secret"


def test_a_private_authority_that_is_not_given_is_named_with_the_remedy(secure_store: ObjectStore) -> None:
    place = open_prefix("s3://secure/", secure_store.access, secure_store.credentials)
    with pytest.raises(StorageRefused, match=r"spec\.storage\.caSecretName") as problem:
        place.read("x")
    assert problem.value.reason == "CertificateUntrusted"


def test_an_unreachable_endpoint_is_named() -> None:
    access = StorageAccess(endpoint_url="http://127.0.0.1:9")
    place = open_prefix("s3://b/", access, Credentials(access_key_id="a", secret_access_key="b"))
    with pytest.raises(StorageUnavailable, match=r"http://127\.0\.0\.1:9 cannot be reached") as problem:
        place.read("x")
    assert problem.value.reason == "EndpointUnreachable"


@pytest.fixture(scope="module")
def strict_store(gateway: Path) -> Iterator[ObjectStore]:
    with object_store.versitygw(gateway) as running:
        running.create_bucket("photos")
        yield running


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_a_wrong_key_is_refused_with_the_secret_as_remedy(strict_store: ObjectStore, wrong: str) -> None:
    credentials = replace(strict_store.credentials, **{wrong: "wrong"})
    place = open_prefix("s3://photos/flowers/", strict_store.access, credentials)
    with pytest.raises(StorageRefused) as problem:
        list(place.list())
    assert problem.value.reason == "WrongCredentials"
    assert str(problem.value) == (
        f"{strict_store.endpoint} does not accept the keys for s3://photos/flowers/: AWS_ACCESS_KEY_ID or"
        " AWS_SECRET_ACCESS_KEY is wrong. Correct them in the Secret that spec.storage.secretName names."
    )


def test_another_region_is_corrected_by_what_the_server_answers(strict_store: ObjectStore) -> None:
    access = strict_store.access.model_copy(update={"region": "eu-north-1"})
    signed: list[str] = []
    s3 = client(access, strict_store.credentials, None)
    s3.meta.events.register(
        "before-send.s3", lambda request, **_: signed.append(str(request.headers["Authorization"]))
    )
    assert list(open_prefix("s3://photos/", access, strict_store.credentials).list()) == []
    assert "/eu-north-1/" in signed[0]
    assert "/us-east-1/" in signed[-1]
