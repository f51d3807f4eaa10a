"""Resources that people get wrong, each with the sentence that it must be answered with."""

from collections.abc import Iterator
from typing import Any

from resource_mutations import Body, Broken, body_of

from expansion_contract.resource import MAX_NAME, ClassifierExpansion
from expansion_contract.schema import Rule, Strict

Spec = dict[str, Any]
LEAST: Spec = {"categories": {"images": "s3://photos/flowers/"}, "output": {"models": "s3://models/flowers/"}}
_LOCAL = ("/home/me/photos", "./photos", "../photos/", "/", "file:///photos/x", "file://host/x")
_FILE = {"uri": "s3://models/a.h5", "sha256": "0" * 64}


def _weights(**weights: Any) -> Spec:
    return {"base": {"pretrained": {"weights": weights}}}


def _head(**head: Any) -> Spec:
    return {"training": {"head": head}}


_LOCATIONS: dict[str, Any] = {
    "spec.categories.images": lambda a: {"categories": {"images": a}},
    "spec.categories.unknownImages": lambda a: {"categories": {**LEAST["categories"], "unknownImages": a}},
    "spec.replay.images": lambda a: {"replay": {"images": a}},
    "spec.unlabelled.images": lambda a: {"unlabelled": {"images": a}},
    "spec.output.models": lambda a: {"output": {"models": a}},
    "spec.storage.cache": lambda a: {"storage": {"cache": a}},
    "spec.base.model.uri": lambda a: {"base": {"model": {"uri": a}}},
    "spec.base.pack.uri": lambda a: {"base": {"pretrained": {}, "pack": {"uri": a}}},
}
_RULES: dict[str, tuple[Spec, ...]] = {
    "spec.base.pretrained.weights needs exactly one of name and uri": (
        _weights(),
        _weights(name="imagenet", **_FILE),
    ),
    "spec.base.pretrained.weights.sha256 is required with uri": (
        _weights(uri="s3://models/a.h5"),
        _weights(uri="./a.h5"),
        _weights(name="imagenet", sha256="0" * 64),
    ),
    "spec.base needs exactly one of pretrained, expansionRef and model": (
        {"base": {}},
        {"base": {"pretrained": {}, "expansionRef": {"name": "cars"}}},
        {"base": {"pretrained": {}, "model": {"uri": "s3://models/cars/versions/7"}}},
        {"base": {"model": {"uri": "s3://models/cars/versions/7"}, "expansionRef": {"name": "cars"}}},
        {"base": {"pretrained": {}, "model": {"uri": "s3://m-m/cars/7"}, "expansionRef": {"name": "cars"}}},
    ),
    "spec.base.pack goes with spec.base.pretrained only": (
        {"base": {"expansionRef": {"name": "cars"}, "pack": {"uri": "s3://packs/lite0"}}},
        {"base": {"model": {"uri": "s3://models/cars/versions/7"}, "pack": {"uri": "s3://packs/lite0"}}},
    ),
    "spec.retrain.schedule must be five cron fields": tuple(
        {"retrain": {"schedule": cron}}
        for cron in (
            *(
                "daily",
                "@every 5m",
                "@reboot",
                "0 3 * *",
                "0 0 3 * * *",
                "60 * * * *",
                "0 24 * * *",
                "0 0 0 * *",
            ),
            *(
                "0 0 32 * *",
                "0 0 * 13 *",
                "0 0 * * 8",
                "0 0 * * MONDAY",
                "*/0 * * * *",
                "a b c d e",
                "0,,5 * * * *",
            ),
            *("TZ=Europe/Berlin 0 3 * * *", "0 3 * * * ", " 0 3 * * *", "0 3 L * *", "0 3 * * MON#1"),
        )
    ),
    "spec.training.head.gradientDescent goes with solver: GradientDescent only": (
        _head(gradientDescent={}),
        _head(gradientDescent={"steps": 10}, solver="Auto"),
        _head(gradientDescent={"steps": 10}, solver="Softmax"),
        _head(gradientDescent={"learningRate": 0.1}, solver="Discriminant"),
    ),
    "spec.training.head.randomProjection goes with solver: Auto, Softmax or GradientDescent": (
        _head(randomProjection={}, solver="Discriminant"),
        _head(randomProjection={"dimensions": 64}, solver="Discriminant"),
    ),
}
_NAMES = (
    *("f" * (MAX_NAME + 1), "f" * 63, "2flowers", "2", "my.flowers", "a.b.c"),
    *("flowers-of-the-whole-world-and-of-all-of-its-gardens",),
)
_TYPOS: dict[str, Spec] = {
    "spec.catagories": {"catagories": {"images": "s3://photos/flowers/"}},
    "spec.image": {"image": "s3://photos/flowers/"},
    "spec.images": {"images": "s3://photos/flowers/"},
    "spec.epochs": {"epochs": 5},
    "spec.split.testpercent": {"split": {"testpercent": 20}},
    "spec.split.trainPercent": {"split": {"trainPercent": 80}},
    "spec.training.epochs": {"training": {"epochs": 5}},
    "spec.training.learningRate": {"training": {"learningRate": 0.1}},
    "spec.training.head.solvers": _head(solvers="Auto"),
    "spec.serving.type": {"serving": {"type": "Managed"}},
    "spec.compute.gpus": {"compute": {"gpus": 1}},
    "spec.compute.podTemplate.spec": {"compute": {"podTemplate": {"spec": {}}}},
    "spec.compute.podTemplate.metadata": {"compute": {"podTemplate": {"metadata": {"labels": {}}}}},
    "spec.compute.podTemplate.resources.limit": {
        "compute": {"podTemplate": {"resources": {"limit": {"memory": "8Gi"}}}}
    },
    "spec.output.model": {"output": {"models": "s3://models/flowers/", "model": "s3://models/"}},
    "spec.storage.endpoint": {"storage": {"endpoint": "http://minio:9000"}},
    "spec.storage.endpointURL": {"storage": {"endpointURL": "http://minio:9000"}},
    "spec.storage.secretRef": {"storage": {"secretRef": {"name": "s3"}}},
    "spec.retrain.interval": {"retrain": {"interval": "10m"}},
    "spec.acceptance.minAccuracy": {"acceptance": {"minAccuracy": 0.9}},
}
_MAP_VALUES: dict[str, Spec] = {
    "spec.compute.podTemplate.labels.my_label": {
        "compute": {"podTemplate": {"labels": {"my_label": "a" * 254}}}
    },
    "spec.compute.podTemplate.resources.limits.memory": {
        "compute": {"podTemplate": {"resources": {"limits": {"memory": "8GB"}}}}
    },
    "spec.serving.resources.requests.cpu": {"serving": {"resources": {"requests": {"cpu": 2}}}},
}

BAD_TIMES: tuple[Spec, ...] = (
    *({"retrain": {"schedule": cron}} for cron in ("0 3 30 2 *", "0 0 31 4,6,9,11 *", "0 18-8 * * *")),
    *({"retrain": {"schedule": "@daily", "timeZone": zone}} for zone in ("Europe/Berlim", "CEST", "Mars")),
)
"""Of the right form, and yet no calendar knows them."""
LATER: tuple[Spec, ...] = (
    *(_head(randomProjection=settings) for settings in ({}, {"dimensions": 64}, {"dimensions": 20_000})),
    {"distortions": {"randomCropPercent": 10}},
    {"distortions": {"randomScalePercent": 10, "copies": 8}},
    {"distortions": {"randomBrightnessPercent": 1}},
    {"distortions": {"flipLeftRight": True}},
    {"distortions": {"flipLeftRight": True, "copies": 1}, **_head(solver="Discriminant")},
    _head(solver="Discriminant"),
    _head(solver="GradientDescent"),
    _head(solver="GradientDescent", gradientDescent={"steps": 10}),
    {"training": {"fineTune": {"fromLayer": "mixed9"}}},
    {"training": {"fineTune": {"fromLayer": "mixed9", "epochs": 1}}},
    *({"compute": {"workers": workers}} for workers in (2, 256)),
    {"serving": {"rollout": {"strategy": "Canary"}}},
)
"""What a release may not do yet, each in all its spellings; what it can do is expected to be accepted."""
WRONG_NETWORKS = (
    *("InceptionV4", "inceptionv3", "Inception", "EfficientnetLite0", "EfficientNetLite1", "MobileNetV4"),
    *("ResNet18", "ViT", "CLIP", "x", "YOLO", "EfficientNetB8", "DenseNet", "VGG", "A" * 64),
)


def broken_by_hand() -> Iterator[Broken]:
    """Refused by the API server, and by the command line unless only a cluster knows better."""
    yield from _rules_between_fields()
    for name in _NAMES:
        yield _named(name, "is a name no Job can carry", "metadata.name must have at most")
    yield _named("cars", "grows itself", "spec.base.expansionRef must name another", expansionRef="cars")
    for path, spec in _TYPOS.items():
        words = (("unknown field", "no such field"),)
        yield Broken(how="is a typing mistake", path=path, body=body_of({**LEAST, **spec}), words=words)
    for around in ("label", "annotation", "ownerReference"):
        body = body_of(LEAST)
        metadata = {**body["metadata"], around: {}}
        words = (("unknown field", "no such field"),)
        wrong = {**body, "metadata": metadata}
        yield Broken(how="is a typing mistake", path=f"metadata.{around}", body=wrong, words=words)
    for path, spec in _MAP_VALUES.items():
        yield Broken(how="is a bad value", path=path, body=body_of({**LEAST, **spec}))
    for missing in LEAST:
        rest = {key: value for key, value in LEAST.items() if key != missing}
        yield Broken(how="is left out", path=f"spec.{missing}", body=body_of(rest), words=(("equired",),))
    nothing = {key: value for key, value in body_of({}).items() if key != "spec"}
    yield Broken(how="is left out", path="spec", body=nothing, words=(("equired",),))


def _rules_between_fields() -> Iterator[Broken]:
    for path, located in _LOCATIONS.items():
        for address in _LOCAL:
            words = ((f"{path} must be an s3:// address",),)
            body = body_of({**LEAST, **located(address)})
            yield Broken(how=f"is {address}", path=path, body=body, words=words, only="api server")
    for sentence, specs in _RULES.items():
        for spec in specs:
            path = sentence.split(" ", 1)[0]
            yield Broken(how=str(spec), path=path, body=body_of({**LEAST, **spec}), words=((sentence,),))


def _named(name: str, how: str, sentence: str, **base: str) -> Broken:
    spec = {**LEAST, **({"base": {key: {"name": one} for key, one in base.items()}} if base else {})}
    path = sentence.split(" ", 1)[0]
    return Broken(how=f"{how} ({name})", path=path, body=body_of(spec, name), words=((sentence,),))


def refused_by_a_condition() -> Iterator[Body]:
    for spec in (*LATER, *BAD_TIMES):
        yield body_of({**LEAST, **spec})
    for name in WRONG_NETWORKS:
        yield body_of({**LEAST, "base": {"pretrained": {"architecture": name}}})


def every_rule(model: type[Strict] = ClassifierExpansion) -> list[Rule]:
    """Of the resource and of all that stands in it."""
    found = list(model.rules)
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Strict):
                found += every_rule(kind)
    return found
