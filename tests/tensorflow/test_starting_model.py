"""What a run grows: a pretrained network, one with a pack, or a published version that needs nothing but its folder."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from expansion_contract import layout
from expansion_contract.pack import Expansion
from expansion_contract.report import Category
from expansion_contract.resource import Pretrained, Weights, parsed
from expansion_contract.run import PackBase, PublishedBase, TrainingRun, training_run
from expansion_contract.version import VersionManifest
from expansion_storage.folder import file_sha256
from expansion_trainer.backbones import catalogue, published
from expansion_trainer.backbones.catalogue import Backbone
from expansion_trainer.bottlenecks.engine import engine_of
from expansion_trainer.bottlenecks.extract import fingerprint
from expansion_trainer.errors import BadWeights, BaseMissing, PackRefused
from expansion_trainer.export import saved_model
from expansion_trainer.export.saved_model import Exported
from expansion_trainer.head.fit import FittedHead
from expansion_trainer.head.projection import Projected, Projection
from expansion_trainer.head.softmax import Rows
from expansion_trainer.packs import files, probes
from expansion_trainer.packs.pack import Answers, Images, Pack, grown
from expansion_trainer.run_files import described
from expansion_trainer.starting_model import StartingModel, load
from expansion_trainer.stores import Stores, stores_of

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

LITE0 = Pretrained(architecture="EfficientNetLite0")
NEW = ("sunflower", "tulip")


def run_of(tmp_path: Path, **changes: Any) -> TrainingRun:
    body = {
        "metadata": {"name": "flowers"},
        "spec": {
            "base": {"pretrained": LITE0.to_wire()},
            "categories": {"images": "/photos"},
            "output": {"models": str(tmp_path / "models")},
        },
    }
    return training_run(parsed(body), "sha256:1").model_copy(update=changes)


def stores_for(run: TrainingRun, tmp_path: Path) -> Stores:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return stores_of(run, scratch)


def loaded(tmp_path: Path, **changes: Any) -> StartingModel:
    run = run_of(tmp_path, **changes)
    return load(run, stores_for(run, tmp_path))


def pictures(backbone: Backbone, count: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(4)
    small = random.integers(0, 256, (count, 6, 6, 3), np.uint8)
    side = (backbone.input_size, backbone.input_size)
    return [np.asarray(Image.fromarray(one).resize(side)) for one in small]


def bottlenecks(backbone: Backbone) -> np.ndarray:
    return engine_of(backbone).bottlenecks(pictures(backbone))


def fitted(backbone: Backbone) -> FittedHead:
    random = np.random.default_rng(8)
    new = random.normal(size=(backbone.bottleneck_size, len(NEW))).astype(np.float32)
    return FittedHead(
        weights=np.hstack([backbone.head_weights, new]),
        bias=np.concatenate([backbone.head_bias, np.array([-1, -2], np.float32)]),
        base_count=len(backbone.head_bias),
        solver="Softmax",
        l2=0.001,
        offset=-0.5,
        temperature=0.8,
        evidence_kinds=("procedural",),
        steal_rate_validation=None,
        steal_images=0,
        chosen_on=0,
    )


def pack_of(backbone: Backbone, head: FittedHead, categories: list[Category]) -> Pack:
    known = bottlenecks(backbone)
    first = len(backbone.categories)
    shown = Images(
        bottlenecks=known,
        labels=np.array([first, first, first, first + 1, first + 1]),
        digests=[f"{number:064x}" for number in range(5)],
    )
    model = Answers(
        categories=tuple(categories),
        head=Rows(weights=head.weights, bias=head.bias),
        source=np.arange(len(categories)),
        temperature=head.temperature,
        expansion=Expansion(offset=head.offset, scale=1.25),
    )
    nothing = Images(bottlenecks=known[:0], labels=np.zeros(0, np.int64), digests=[])
    return grown(probes.bare(backbone), model, shown, nothing)


def projected(backbone: Backbone) -> Projected:
    random = np.random.default_rng(2)
    matrix = random.normal(size=(backbone.bottleneck_size, 6)).astype(np.float32)
    weights = np.zeros((6, len(backbone.categories) + len(NEW)), np.float32)
    weights[:, -len(NEW) :] = random.normal(size=(6, len(NEW)))
    return Projected(projection=Projection(matrix=matrix), weights=weights)


def write_model(folder: Path, backbone: Backbone, head: FittedHead, categories: list[Category]) -> None:
    exported = Exported(backbone=backbone, head=head, categories=categories, projected=projected(backbone))
    saved_model.write(folder, exported)


def write_variables(folder: Path, backbone: Backbone, *_: Any) -> None:
    """Of the model all that growing it reads, in a tenth of the time."""
    variables = [variable.value for variable in backbone.model.variables]
    tf.train.Checkpoint(backbone=variables).write(str(folder / "variables" / "variables"))


def publish(
    backbone: Backbone, folder: Path, without: str = "", write: Callable[..., None] = write_variables
) -> PublishedBase:
    """A version as the operator leaves it. `without`: what an older release did not write."""
    head = fitted(backbone)
    new = [
        Category(index=len(backbone.categories) + place, name=name, group="new")
        for place, name in enumerate(NEW)
    ]
    categories = [*backbone.categories, *new]
    write(folder, backbone, head, categories)
    files.write(folder / layout.PACK, pack_of(backbone, head, categories))
    if without:
        shutil.rmtree(folder / without)
    manifest = VersionManifest(
        version=7,
        run_id="0123456789abcdef",
        owner=run_of(folder).owner,
        published_at="2026-01-01T00:00:00Z",
        categories=len(categories),
        files=described(folder),
    )
    (folder / layout.MANIFEST).write_bytes(manifest.to_json())
    return PublishedBase(uri=str(folder), manifest_sha256=file_sha256(folder / layout.MANIFEST))


def given_pack(pack: Pack, folder: Path) -> PackBase:
    files.write(folder, pack)
    return PackBase(uri=str(folder), digest=file_sha256(folder / layout.PACK_DOCUMENT))


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return catalogue.load(LITE0, lambda address, path: None, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def version(lite0: Backbone, tmp_path_factory: pytest.TempPathFactory) -> PublishedBase:
    return publish(lite0, tmp_path_factory.mktemp("models") / "versions" / "7", write=write_model)


@pytest.fixture
def own_version(version: PublishedBase, tmp_path: Path) -> PublishedBase:
    """A copy that a test may damage."""
    shutil.copytree(version.uri, tmp_path / "7")
    return version.model_copy(update={"uri": str(tmp_path / "7")})


def test_a_pretrained_network_knows_nothing_but_its_head(tmp_path, lite0):
    starting = loaded(tmp_path)
    assert (starting.frozen, len(starting.categories), starting.temperature) == (1000, 1000, 1.0)
    assert starting.head.weights.tobytes() == lite0.head_weights.tobytes()
    assert starting.pack is None


def test_a_pretrained_network_takes_the_pack_that_was_made_for_it(tmp_path, lite0):
    starting = loaded(tmp_path, pack=given_pack(probes.bare(lite0), tmp_path / "pack"))
    assert starting.pack is not None
    assert len(starting.pack) == starting.frozen == 1000


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("architecture", "MobileNetV2", "MobileNetV2"),
        ("weights", "b" * 64, "bbbbbbbbbbbb"),
        ("layer", "block7", "block7"),
        ("input_size", 299, "299 pixels"),
        ("preprocessing", "inception_v3", "inception_v3"),
        ("decoding", "0", "decoding 0"),
    ],
)
def test_a_pack_of_another_extractor_is_refused_with_both_named(tmp_path, lite0, field, value, shown):
    bare = probes.bare(lite0)
    other = replace(bare, extractor=bare.extractor.model_copy(update={field: value}))
    with pytest.raises(PackRefused) as refused:
        loaded(tmp_path, pack=given_pack(other, tmp_path / "pack"))
    assert shown in refused.value.message
    assert str(bare.extractor) in refused.value.message
    assert f"they differ in {field}" in refused.value.message
    assert "spec.base.pack" in refused.value.message


def test_a_pack_that_was_changed_after_the_run_was_made_is_refused(tmp_path, lite0):
    given = given_pack(probes.bare(lite0), tmp_path / "pack")
    with pytest.raises(PackRefused, match="this run was made for 0000"):
        loaded(tmp_path, pack=given.model_copy(update={"digest": "0" * 64}))


def test_the_pack_of_a_published_version_is_not_the_pretrained_networks(tmp_path, version):
    address = Path(version.uri) / layout.PACK
    given = PackBase(uri=str(address), digest=file_sha256(address / layout.PACK_DOCUMENT))
    with pytest.raises(PackRefused, match=r"belongs to a published version.*spec\.base\.model"):
        loaded(tmp_path, pack=given)


def test_a_published_version_starts_with_all_its_categories(tmp_path, version, lite0):
    starting = loaded(tmp_path, base=None, model=version)
    head = fitted(lite0)
    assert starting.frozen == 1000
    assert [category.name for category in starting.categories[1000:]] == list(NEW)
    assert {category.group for category in starting.categories} == {"base"}
    assert starting.head.weights.tobytes() == head.weights.tobytes()
    assert starting.head.bias.tobytes() == head.bias.tobytes()
    assert (starting.temperature, starting.answering.scale, starting.answering.frozen) == (0.8, 1.25, 1000)
    assert starting.pack is not None
    assert starting.pack.statistics.counts[1000:].tolist() == [3, 2]
    assert starting.backbone.head_weights.tobytes() == lite0.head_weights.tobytes()
    assert starting.backbone.categories == lite0.categories


def test_its_network_gives_the_pretrained_ones_bottlenecks_bit_by_bit(tmp_path, version, lite0):
    rebuilt = loaded(tmp_path, base=None, model=version).backbone
    assert bottlenecks(rebuilt).tobytes() == bottlenecks(lite0).tobytes()


def test_it_answers_as_it_was_exported_random_features_included(tmp_path, version, lite0):
    starting = loaded(tmp_path, base=None, model=version)
    shown = bottlenecks(lite0)
    head, beside = fitted(lite0), projected(lite0)
    expected = (
        shown @ head.weights + head.bias + np.maximum(shown @ beside.projection.matrix, 0) @ beside.weights
    )
    np.testing.assert_allclose(starting.rows.logits(shown), expected, rtol=1e-5, atol=1e-4)


def test_cached_bottlenecks_of_the_pretrained_network_are_found_again(tmp_path, version, lite0):
    rebuilt = loaded(tmp_path, base=None, model=version).backbone
    assert fingerprint(rebuilt, "float32") == fingerprint(lite0, "float32")


def test_only_what_is_needed_is_brought_here(tmp_path, own_version):
    """No graph, no warm-up, no golden images: their files may be missing."""
    folder = Path(own_version.uri)
    (folder / "saved_model.pb").unlink()
    shutil.rmtree(folder / "assets.extra")
    assert loaded(tmp_path, base=None, model=own_version).frozen == 1000


def test_a_version_that_is_gone_says_what_now(tmp_path, own_version):
    shutil.rmtree(own_version.uri)
    with pytest.raises(BaseMissing, match=r"no published version any more.*spec\.base\.expansionRef"):
        loaded(tmp_path, base=None, model=own_version)


def test_a_version_that_is_another_one_by_now_is_refused(tmp_path, own_version):
    with pytest.raises(BaseMissing, match="this run was made for 1111"):
        loaded(tmp_path, base=None, model=own_version.model_copy(update={"manifest_sha256": "1" * 64}))


@pytest.mark.parametrize("lost", ["pack/core.npy", "pack/pack.json"])
def test_a_version_that_is_removed_while_it_is_read_is_missing_and_not_damaged(tmp_path, version, lost):
    """Versions are removed manifest first; here it goes right after it was read."""
    from expansion_storage.folder import FolderPrefix
    from expansion_trainer.published_base import PublishedVersion

    shutil.copytree(version.uri, tmp_path / "7")
    opened = PublishedVersion.opened(version, FolderPrefix(tmp_path / "7"))
    (tmp_path / "7" / layout.MANIFEST).unlink()
    (tmp_path / "7" / lost).unlink()
    with pytest.raises(BaseMissing, match="was removed while this run read it"):
        opened.pack()


def test_variables_that_are_gone_or_damaged_are_named(tmp_path, own_version):
    path = next(Path(own_version.uri).glob("variables/*data*"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BaseMissing, match=f"{path.name} is not the file that was published"):
        loaded(tmp_path, base=None, model=own_version)
    path.unlink()
    with pytest.raises(BaseMissing, match=f"{path.name} is gone"):
        loaded(tmp_path, base=None, model=own_version)


def test_a_damaged_pack_of_a_version_that_is_still_there_is_refused(tmp_path, own_version):
    path = Path(own_version.uri) / layout.PACK / "core.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackRefused, match=r"core\.npy.*truncated"):
        loaded(tmp_path, base=None, model=own_version)


def test_a_version_of_a_release_without_packs_says_how_it_gets_one(tmp_path, tiny_backbone):
    old = publish(tiny_backbone, tmp_path / "old", without=layout.PACK)
    with pytest.raises(PackRefused, match=r"carries no pack.*raise its spec\.retrain\.revision"):
        loaded(tmp_path, base=None, model=old)


def test_variables_of_another_network_are_refused(tmp_path, tiny_backbone, lite0, version):
    publish(tiny_backbone, tmp_path / "tiny")
    pack = files.read(stores_for(run_of(tmp_path), tmp_path).open(f"{version.uri}/{layout.PACK}"))
    rows, categories = pack.pretrained
    with pytest.raises(BadWeights, match="are not those of EfficientNetLite0"):
        published.backbone(pack.extractor, rows, categories, tmp_path / "tiny", "s3://models/versions/7")


def random_weights(model: keras.Model) -> None:
    """Keras' own, and other scales, means and variances than the ones and zeros it begins with."""
    random = np.random.default_rng(6)
    weights = model.get_weights()
    model.set_weights([random.uniform(0.5, 1.5, size=w.shape) if w.ndim == 1 else w for w in weights])


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0"])
def test_a_network_from_a_file_is_rebuilt_bit_by_bit(tmp_path, name):
    model = catalogue.untrained(name).model
    random_weights(model)
    model.save_weights(tmp_path / "given.weights.h5")
    weights = Weights(uri="/given", sha256=file_sha256(tmp_path / "given.weights.h5"))

    def fetch(_: str, path: Path) -> None:
        shutil.copyfile(tmp_path / "given.weights.h5", path)

    backbone = catalogue.load(Pretrained(architecture=name, weights=weights), fetch, tmp_path)
    rebuilt = loaded(tmp_path, base=None, model=publish(backbone, tmp_path / "7")).backbone
    assert rebuilt.preprocessing == backbone.preprocessing
    assert bottlenecks(rebuilt).tobytes() == bottlenecks(backbone).tobytes()


def test_an_efficientnet_that_keras_downloaded_is_rebuilt_bit_by_bit(tmp_path, monkeypatch):
    """Keras makes another graph when it downloads; here its download is a file."""
    from keras.src.applications import efficientnet

    plain = keras.applications.EfficientNetB0(weights=None)
    random_weights(plain)
    plain.save_weights(tmp_path / "b0.weights.h5")
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(tmp_path / "b0.weights.h5"))
    backbone = catalogue.load(Pretrained(architecture="EfficientNetB0"), lambda *_: None, tmp_path)
    assert backbone.preprocessing == "efficientnet"
    rebuilt = loaded(tmp_path, base=None, model=publish(backbone, tmp_path / "7")).backbone
    assert bottlenecks(rebuilt).tobytes() == bottlenecks(backbone).tobytes()
