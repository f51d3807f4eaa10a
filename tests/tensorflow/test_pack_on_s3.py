"""A pack's whole way: images in a bucket, `expansion pack build`, and a run that starts from it."""

import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from expansion_contract import environment, layout
from expansion_contract.resource import parsed
from expansion_contract.run import PackBase, StorageAccess, training_run
from expansion_storage import Prefix, open_prefix
from expansion_trainer.command_line import main
from expansion_trainer.errors import PackRefused
from expansion_trainer.starting_model import StartingModel, load
from expansion_trainer.stores import stores_of

pytestmark = pytest.mark.tensorflow

BUILD = ["pack", "build", "--architecture", "EfficientNetLite0", "--images", "s3://packs/photos/", "--out"]
OUT = "s3://packs/lite0"
CATS, GOLDFISH = 281, 1


@pytest.fixture(scope="module")
def access() -> Iterator[StorageAccess]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environment.ENDPOINT_URL, f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(
            Bucket="packs"
        )
        yield StorageAccess(endpoint_url=f"http://{host}:{port}")
    server.stop()


@pytest.fixture(scope="module")
def built(access: StorageAccess, make_pictures, tmp_path_factory) -> str:
    """What the command prints."""
    folder = tmp_path_factory.mktemp("photos")
    make_pictures(folder, "tabby", 12)
    make_pictures(folder, "n01443537", 3, first_seed=50)
    make_pictures(folder, "unicorn", 2, first_seed=70)
    (folder / "tabby" / "broken.jpg").write_bytes(b"no picture")
    place = open_prefix("s3://packs/photos/", access)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place.upload(path.relative_to(folder).as_posix(), path)
    with redirect_stdout(StringIO()) as printed:
        assert main([*BUILD, OUT]) == 0
    return printed.getvalue()


def start(access: StorageAccess, tmp_path: Path, digest: str) -> StartingModel:
    body = {
        "metadata": {"name": "flowers"},
        "spec": {
            "base": {"pretrained": {"architecture": "EfficientNetLite0"}},
            "categories": {"images": "s3://packs/new/"},
            "output": {"models": "s3://packs/models/"},
            "storage": {"endpointUrl": access.endpoint_url},
        },
    }
    run = training_run(parsed(body), "sha256:1").model_copy(update={"pack": PackBase(uri=OUT, digest=digest)})
    return load(run, stores_of(run, tmp_path))


def digest_in(printed: str) -> str:
    found = re.search(r"SHA-256 of its pack\.json: ([0-9a-f]{64})", printed)
    assert found
    return found.group(1)


def test_the_command_says_what_it_made_and_what_is_missing(built):
    assert "Pack: 15 images, real bottlenecks of 2 of 1000 categories." in built
    assert re.search(r"No image of 998 categories: tench \(n01440764\).* and 990 more", built)
    assert "name no category, or one of several of that name: the folders 'unicorn'." in built
    assert "1 images cannot be read and are left out: s3://packs/photos/tabby/broken.jpg (not a JPEG" in built
    assert f"Use it: spec.base.pack.uri: {OUT}" in built


def test_a_run_starts_from_it(built, access, tmp_path):
    pack = start(access, tmp_path, digest_in(built)).pack
    assert pack is not None
    assert pack.core.counts(1000)[[GOLDFISH, CATS]].tolist() == [3, 10]
    assert pack.statistics.counts[[GOLDFISH, CATS]].tolist() == [3, 12]
    assert pack.statistics.counts.sum() == 15


def test_the_same_command_again_computes_nothing(built, capsys):
    assert main([*BUILD, OUT]) == 0
    said = capsys.readouterr()
    assert "It was complete; nothing was computed." in said.out
    assert digest_in(said.out) == digest_in(built)


def test_a_bucket_without_such_folders_is_refused(built, access, capsys):
    open_prefix("s3://packs/other/", access).write("unicorn/1.jpg", b"x")
    asked = [*BUILD, "s3://packs/never"]
    asked[asked.index("s3://packs/photos/")] = "s3://packs/other/"
    assert main(asked) == 1
    assert "none that names a category of the network" in capsys.readouterr().err
    assert list(open_prefix("s3://packs/never", access).list()) == []


def test_an_object_that_was_cut_is_refused_by_its_address(built, access, tmp_path):
    place: Prefix = open_prefix(OUT, access)
    content = place.read("core.npy")
    place.write("core.npy", content[:-10])
    try:
        with pytest.raises(PackRefused, match=r"s3://packs/lite0/core\.npy has \d+ bytes.*truncated"):
            start(access, tmp_path, digest_in(built))
    finally:
        place.write("core.npy", content)


def test_only_a_complete_pack_has_a_document(built, access):
    """It is uploaded last and names every other object."""
    keys = {entry.key for entry in open_prefix(OUT, access).list()}
    assert layout.PACK_DOCUMENT in keys
    assert not any(key.endswith(".npz") for key in keys)
