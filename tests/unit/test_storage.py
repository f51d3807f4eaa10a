"""The same promises for a folder and for an S3 server (moto's, a real process would answer the same)."""

import gc
import time
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from plain_stores import plain_store

from expansion_contract.run import StorageAccess
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

KEYS = Credentials(access_key_id="key", secret_access_key="secret")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def access(endpoint: str) -> StorageAccess:
    return StorageAccess(endpoint_url=endpoint)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, access: StorageAccess) -> Prefix:
    if request.param == "folder":
        return open_prefix(str(tmp_path), access)
    bucket = tmp_path.name.replace("_", "-").lower()[:60].strip("-")
    boto3.client(
        "s3",
        endpoint_url=access.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket=bucket)
    return open_prefix(f"s3://{bucket}/models/", access, KEYS)


def test_what_is_written_is_read_and_listed_in_order(place: Prefix):
    for key in ("b/2", "a/10", "a/9", "ü/1"):
        place.write(key, key.encode())
    assert place.read("a/10") == b"a/10"
    assert [entry.key for entry in place.list()] == ["a/10", "a/9", "b/2", "ü/1"]
    assert [(entry.key, entry.size) for entry in place.below("a").list()] == [("10", 4), ("9", 3)]


def test_nothing_there_lists_nothing(place: Prefix):
    assert list(place.below("absent").list()) == []
    assert place.find("absent") is None


def test_a_missing_object_is_named_in_full(place: Prefix):
    with pytest.raises(ObjectMissing, match=r"runs/1/report\.json does not exist"):
        place.read("runs/1/report.json")
    with pytest.raises(ObjectMissing):
        place.copy("runs/1/report.json", "x")


def test_a_copy_has_the_same_content(place: Prefix, tmp_path: Path):
    source = tmp_path / "source.bin"
    source.write_bytes(b"x" * 100_000)
    place.upload("candidate/model", source)
    place.copy("candidate/model", "versions/1/model")
    place.download("versions/1/model", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()


def test_the_etag_changes_with_the_content(place: Prefix):
    place.write("a", b"1")
    before = place.find("a")
    place.write("a", b"22")
    assert before is not None
    assert place.find("a") != before


def test_only_what_was_read_is_replaced(place: Prefix):
    place.replace("a", b"1", None)
    first = place.read_tagged("a")
    assert first.content == b"1"
    assert place.replace("a", b"2", first.tag) == place.read_tagged("a").tag
    with pytest.raises(ObjectChanged, match=r"a has been written by somebody else since it was read"):
        place.replace("a", b"3", first.tag)
    assert place.read("a") == b"2"


def test_nothing_is_replaced_only_by_the_first(place: Prefix):
    place.replace("a", b"1", None)
    with pytest.raises(ObjectChanged):
        place.replace("a", b"2", None)
    assert place.read("a") == b"1"


def test_what_is_gone_is_not_replaced(place: Prefix):
    place.write("a", b"1")
    tag = place.read_tagged("a").tag
    place.delete("a")
    with pytest.raises(ObjectChanged):
        place.replace("a", b"2", tag)
    assert place.find("a") is None


def test_a_replacement_whose_answer_was_lost_is_done_again(place: Prefix):
    place.write("a", b"1")
    tag = place.read_tagged("a").tag
    for _ in range(2):
        place.replace("a", b"2", tag)
        place.replace("b", b"1", None)
    assert (place.read("a"), place.read("b")) == (b"2", b"1")


def test_of_many_who_replace_the_same_one_wins(tmp_path: Path, access: StorageAccess):
    place = open_prefix(str(tmp_path), access)
    place.write("a", b"0")
    tag = place.read_tagged("a").tag

    def won(number: int) -> bool:
        try:
            place.replace("a", f"{number + 1}".encode(), tag)
        except ObjectChanged:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        wins = [number for number, has in enumerate(threads.map(won, range(50))) if has]
    assert [place.read("a")] == [f"{number + 1}".encode() for number in wins]


def test_a_store_without_conditional_writes_is_written_to_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
):
    with plain_store(refuses_conditions=True) as store:
        place = open_prefix("s3://bucket/models/", StorageAccess(endpoint_url=store.endpoint), KEYS)
        place.replace("a", b"1", None)
        place.replace("a", b"2", '"tag"')
    assert store.objects == {"/bucket/models/a": b"2"}
    (said,) = caplog.messages
    assert f"{store.endpoint} does not implement conditional writes (If-Match, If-None-Match)" in said


def test_a_listing_and_a_look_at_one_object_tell_one_time(place: Prefix):
    before = time.time()
    place.write("a", b"1")
    (listed,), found = place.list(), place.find("a")
    assert found is not None
    assert int(listed.modified) == int(found.modified)
    assert before - 2 < listed.modified < time.time() + 2


def test_the_stores_log_can_tell_who_asked(access: StorageAccess):
    agents = []
    s3 = client(access, KEYS, None)
    s3.meta.events.register_last(
        "before-send.s3.ListBuckets",
        lambda request, **_: agents.append(str(request.headers["User-Agent"])),
        unique_id="agent",
    )
    s3.list_buckets()
    s3.meta.events.unregister("before-send.s3.ListBuckets", unique_id="agent")
    assert "classifier-expansion" in agents[0]


def test_deleting_twice_is_deleting_once(place: Prefix):
    place.write("a", b"1")
    place.delete("a")
    place.delete("a")
    assert place.find("a") is None


def test_a_missing_bucket_is_named_with_the_remedy(access: StorageAccess):
    with pytest.raises(StorageRefused, match=r"There is no bucket 'nowhere'.*Create it") as caught:
        list(open_prefix("s3://nowhere/flowers/", access, KEYS).list())
    assert caught.value.reason == "BucketMissing"


def test_an_endpoint_that_does_not_answer_may_answer_later():
    closed = StorageAccess(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(
        StorageUnavailable, match=r"http://127.0.0.1:9 cannot be reached.*spec.storage.endpointUrl"
    ) as caught:
        list(open_prefix("s3://photos/", closed, KEYS).list())
    assert caught.value.reason == "EndpointUnreachable"


def test_credentials_never_show_their_secret():
    assert "secret'" not in repr(KEYS)
    assert KEYS.access_key_id in repr(KEYS)


def test_many_who_ask_at_once_share_one_way_in():
    access = StorageAccess(endpoint_url="http://127.0.0.1:1/at-once")
    with ThreadPoolExecutor(8) as threads:
        clients = list(threads.map(lambda _: client(access, KEYS, None), range(8)))
    assert len({id(one) for one in clients}) == 1


def test_another_account_costs_a_fraction_of_the_first():
    """Each session of boto3's own reads 12 MiB of descriptions anew."""
    access = StorageAccess(endpoint_url="http://127.0.0.1:1/account")
    client(access, KEYS, None)
    tracemalloc.start()
    client(access, Credentials(access_key_id="another", secret_access_key="secret"), None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 2**20


def test_ways_in_that_nobody_has_used_for_long_are_closed():
    access = StorageAccess(endpoint_url="http://127.0.0.1:1/many")
    first = weakref.ref(client(access, KEYS, None))
    for number in range(40):
        client(access, Credentials(access_key_id=f"key-{number}", secret_access_key="secret"), None)
    gc.collect()
    assert first() is None
