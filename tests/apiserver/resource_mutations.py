"""Resources made from the definition's own schema: valid ones, and ones with exactly one thing wrong. Sends nothing."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from expansion_contract import architectures

Schema = dict[str, Any]
Body = dict[str, Any]
Steps = tuple[str | int, ...]

NAME = "flowers"
KEY = "key"
"""Stands in for a name in a map."""

_GOOD = (
    *("s3://photos/flowers/", "s3://models", "s3://my.bucket-2/a b/ü/", "s3://models/inception_v3.h5"),
    *(
        "InceptionV3",
        "0" * 64,
        "0123456789abcdef" * 4,
        "10m",
        "30s",
        "1h30m",
        "2d",
        "2Gi",
        "500m",
        "4",
        "1.5",
    ),
    *("nvidia.com/gpu", "amd.com/gpu", "team-a", "gpus.night", "eu-west-1", ""),
    *("http://minio:9000", "https://s3.example.org/", "http://10.0.0.7:9000/"),
)
_BAD = (
    *("not valid!", "s3:/photos", "s3://", "s3://UPPER/", "S3://photos/", "ftp://photos/", "photos/flowers"),
    *(
        "10",
        "10 m",
        "ten",
        "m",
        "-5m",
        "1w",
        "g" * 64,
        "0" * 63,
        "2 Gi",
        "2GB",
        "-1",
        "1e3",
        ".5",
        "1.",
        "1,5",
    ),
    *("nvidia.com", "/gpu", "NVIDIA.COM/gpu", "-team", "team-", "Team", "eu_west_1", "EU", "2Inception"),
    *("http://", "http://minio/bucket", "minio:9000", "http://mi nio:9000", "Inception-V3", "Inception V3"),
)
_AT: dict[str, tuple[str, ...]] = {
    "spec.base.pretrained.architecture": architectures.ALL,
    "spec.retrain.timeZone": ("UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"),
    "spec.retrain.schedule": ("0 3 * * *", "*/30 8-18 * * 1-5", "15 4 1 * *"),
}
"""Where the schema alone does not say what makes sense."""
_WORDS = {
    "string": ("string",),
    "integer": ("integer",),
    "number": ("number",),
    "boolean": ("boolean",),
    "array": ("array", "list"),
    "object": ("object", "mapping"),
}


@dataclass(frozen=True, kw_only=True)
class Broken:
    how: str
    path: str
    """As its user would type it; every refusal must name it."""
    body: Body
    words: tuple[tuple[str, ...], ...] = ()
    """What is expected: of each tuple, one must be said."""
    only: str = ""
    """`api server` where only a cluster refuses it."""

    def __str__(self) -> str:
        return f"{self.path} {self.how}"


@dataclass(frozen=True, kw_only=True)
class Breakage:
    how: str
    value: Any
    words: tuple[tuple[str, ...], ...] = ()
    below: Steps = ()
    """What the refusal names, under the field itself."""


def body_of(spec: Any, name: str = NAME) -> Body:
    metadata = {"name": name}
    kind = {"apiVersion": "classifierexpansion.dev/v1alpha1", "kind": "ClassifierExpansion"}
    return {**kind, "metadata": metadata, "spec": copy.deepcopy(spec)}


def typed(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def parts(schema: Schema, steps: Steps = ("spec",)) -> Iterator[tuple[Steps, Schema]]:
    """Every place of the schema, the items of lists at 0, the values of maps at KEY."""
    yield steps, schema
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, (*steps, name))
    if "items" in schema:
        yield from parts(schema["items"], (*steps, 0))
    if "additionalProperties" in schema:
        yield from parts(schema["additionalProperties"], (*steps, KEY))


def messages(schema: Schema) -> list[str]:
    """Of all rules that look at one resource alone, without what it was before."""
    above = [rule for rule in schema.get("x-kubernetes-validations", ()) if "oldSelf" not in rule["rule"]]
    inner = [*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])]
    return [rule["message"] for rule in above] + [said for one in inner for said in messages(one)]


# Valid ones


def valid_spec(schema: Schema, random: Random) -> Body:
    found = _valid(schema, ("spec",), random)
    assert isinstance(found, dict)
    return found


def least(schema: Schema) -> Any:
    """Only what is required, of the first kind that is possible."""
    if "properties" in schema:
        return {name: least(schema["properties"][name]) for name in schema.get("required", ())}
    if schema["type"] == "string":
        return schema.get("enum", _matching(schema, _GOOD) if "pattern" in schema else ("word",))[0]
    kinds: dict[str, Any] = {"boolean": True, "array": [], "object": {}}
    return kinds[schema["type"]] if schema["type"] in kinds else schema.get("minimum", 0) + 1


def _valid(schema: Schema, steps: Steps, random: Random) -> Any:
    if "properties" in schema:
        return _valid_object(schema, steps, random)
    if schema["type"] == "object":
        keys = random.sample(("cpu", "memory", "my_key", "example.org/pool", KEY), random.randint(0, 5))
        return {key: _valid(schema["additionalProperties"], (*steps, KEY), random) for key in keys}
    if schema["type"] == "array":
        return _valid_list(schema, steps, random)
    if schema["type"] == "boolean":
        return random.random() < 0.5
    return _valid_string(schema, steps, random) if schema["type"] == "string" else _number(schema, random)


def _valid_object(schema: Schema, steps: Steps, random: Random) -> Body:
    required = schema.get("required", ())
    names = [name for name in schema["properties"] if name in required or random.random() < 0.4]
    found = {name: _valid(schema["properties"][name], (*steps, name), random) for name in names}
    return _OBEYING.get(typed(steps), lambda value, _: value)(found, random)


def _valid_list(schema: Schema, steps: Steps, random: Random) -> list[Any]:
    many = random.choice((0, 1, 3, min(schema["maxItems"], 8)))
    found = [_valid(schema["items"], (*steps, 0), random) for _ in range(many)]
    keys = schema.get("x-kubernetes-list-map-keys")
    named = {tuple(one[key] for key in keys) if keys else repr(one): one for one in found}
    return list(named.values())


def _valid_string(schema: Schema, steps: Steps, random: Random) -> str:
    if typed(steps) in _AT:
        return random.choice(_AT[typed(steps)])
    if "enum" in schema:
        return str(random.choice(schema["enum"]))
    if "pattern" in schema:
        return random.choice(_matching(schema, _GOOD))
    longest = schema["maxLength"]
    size = random.choice((max(1, schema.get("minLength", 0)), min(12, longest), min(63, longest), longest))
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size))


def _number(schema: Schema, random: Random) -> float:
    low, high = schema.get("minimum", 0), schema.get("maximum", 10_000)
    if schema["type"] == "integer":
        return random.choice((low, high, random.randint(low, high)))
    inside = low + (high - low) * random.uniform(0.01, 0.99)
    ends = (low,) * (not schema.get("exclusiveMinimum")) + (high,) * (not schema.get("exclusiveMaximum"))
    return random.choice((*ends, inside, inside))


def _matching(schema: Schema, pool: tuple[str, ...], wanted: bool = True) -> tuple[str, ...]:
    pattern, longest = re.compile(schema["pattern"]), schema["maxLength"]
    found = tuple(one for one in pool if bool(pattern.search(one)) is wanted and len(one) <= longest)
    assert found, f"give the pool of texts some for {schema['pattern']}"
    return found


def _one_base(base: Body, random: Random) -> Body:
    given = [name for name in ("pretrained", "expansionRef", "model") if name in base]
    chosen = random.choice(given) if given else "pretrained"
    kept = {chosen, "pack"} if chosen == "pretrained" else {chosen}
    return {chosen: {}, **{name: value for name, value in base.items() if name in kept}}


def _one_kind_of_weights(weights: Body, _: Random) -> Body:
    if {"uri", "sha256"} <= weights.keys():
        return {"uri": weights["uri"], "sha256": weights["sha256"]}
    return {"name": "imagenet"}


def _the_solver_of_its_settings(head: Body, _: Random) -> Body:
    if "gradientDescent" in head:
        return {**head, "solver": "GradientDescent"}
    return {**head, "solver": "Softmax"} if "randomProjection" in head else head


_OBEYING: dict[str, Callable[[Body, Random], Body]] = {
    "spec.base": _one_base,
    "spec.base.pretrained.weights": _one_kind_of_weights,
    "spec.training.head": _the_solver_of_its_settings,
}
"""What the rules between fields leave of values that are good one by one."""


def without(spec: Body, path: str) -> Body:
    """As somebody edits it who follows `path …; remove it`."""
    found = copy.deepcopy(spec)
    *above, last = path.removeprefix("spec.").split(".")
    holder = found
    for step in above:
        holder = holder[step]
    holder.pop(last)
    if last == "solver":
        holder.pop("gradientDescent", None)
    return found


# Broken ones


def broken_by_schema(schema: Schema, random: Random) -> Iterator[Broken]:
    """At every place, every kind of mistake that the schema forbids there, and no other mistake."""
    for steps, part in parts(schema):
        for breakage in _breakages(part, _surrounded(schema, steps, None)[1], random):
            spec, _ = _surrounded(schema, steps, breakage.value)
            path = typed((*steps, *breakage.below))
            yield Broken(how=breakage.how, path=path, body=body_of(spec), words=breakage.words)


_COMPANIONS: dict[str, Body] = {
    "spec.base.pack": {"base": {"pretrained": {}}},
    "spec.base.pretrained.weights.uri": {"base": {"pretrained": {"weights": {"sha256": "0" * 64}}}},
    "spec.base.pretrained.weights.sha256": {"base": {"pretrained": {"weights": {"uri": "s3://models/a.h5"}}}},
    "spec.training.head.gradientDescent": {"training": {"head": {"solver": "GradientDescent"}}},
}
"""What must stand beside a field so that the rules between fields hold."""
_LEAST: dict[str, Body] = {
    "spec.base": {"pretrained": {}},
    "spec.base.pretrained.weights": {"name": "imagenet"},
}


def surrounded(schema: Schema, steps: Steps, value: Any) -> Body:
    """The spec with `value` at this place and else only what must be."""
    spec: Body = _surrounded(schema, steps, value)[0]
    return spec


def _surrounded(schema: Schema, steps: Steps, value: Any) -> tuple[Any, Any]:
    """The spec with `value` at this place and else only what must be; and the least good value of this place."""
    spec, part = _placed(schema, steps[1:], value)
    for path, beside in _COMPANIONS.items():
        if f"{typed(steps)}.".startswith(f"{path}."):
            spec = _merged(beside, spec)
    return spec, _LEAST.get(typed(steps), part)


def _placed(schema: Schema, steps: Steps, value: Any) -> tuple[Any, Any]:
    if not steps:
        return value, least(schema)
    first, rest = steps[0], steps[1:]
    if isinstance(first, int):
        inner, good = _placed(schema["items"], rest, value)
        return [inner], good
    below = schema["properties"][first] if "properties" in schema else schema["additionalProperties"]
    inner, good = _placed(below, rest, value)
    return {**(least(schema) if "properties" in schema else {}), first: inner}, good


def _merged(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{key: _merged(one.get(key), value) for key, value in other.items()}}


def _breakages(schema: Schema, good: Any, random: Random) -> Iterator[Breakage]:
    yield from _of_another_type(schema, random)
    kind = {"integer": _numbers, "number": _numbers, "string": _strings, "array": _lists, "object": _objects}
    if schema["type"] in kind:
        yield from kind[schema["type"]](schema, good, random)


def _of_another_type(schema: Schema, random: Random) -> Iterator[Breakage]:
    others: dict[str, Any] = {
        "string": random.choice(("word", "two words", "")),
        "quoted": random.choice(('"1"', "1", "true", "0.5")).strip('"'),
        "integer": random.randint(0, 99),
        "boolean": random.random() < 0.5,
        "array": random.choice(([], ["word"], [1, 2])),
        "object": {},
    }
    near = {"string": {"quoted"}, "number": {"integer"}}
    for kind, value in others.items():
        if kind != schema["type"] and kind not in near.get(schema["type"], set()):
            words = (*_WORDS[schema["type"]], *schema.get("enum", ())[:1])
            yield Breakage(how=f"is {kind} {value!r}", value=value, words=(words,))


def _numbers(schema: Schema, _: Any, random: Random) -> Iterator[Breakage]:
    more = random.choice((1, 2, 1000))
    for bound, sign, name in (("minimum", -1, "exclusiveMinimum"), ("maximum", 1, "exclusiveMaximum")):
        if bound not in schema:
            continue
        limit = (_plain(schema[bound]),)
        yield Breakage(how=f"is beyond its {bound}", value=schema[bound] + sign * more, words=(limit,))
        if name in schema:
            yield Breakage(how=f"is at its {name}", value=schema[bound], words=(limit,))
    if schema["type"] == "integer":
        fraction = schema.get("minimum", 0) + 1.5
        yield Breakage(how="is a fraction", value=fraction, words=(_WORDS["integer"],))


def _plain(number: float) -> str:
    """1000000 and 0.5, as both sides write bounds."""
    return str(number).removesuffix(".0")


def _strings(schema: Schema, good: str, random: Random) -> Iterator[Breakage]:
    if "enum" in schema:
        for wrong in (good.upper(), good.lower() + "s", "", f" {good}"):
            values = tuple((value,) for value in schema["enum"])
            yield Breakage(how=f"is {wrong!r}", value=wrong, words=values)
        return
    longest = schema["maxLength"]
    text = (good or "a") + "a" * longest
    yield Breakage(how="is too long", value=text[: longest + random.randint(1, 9)], words=((str(longest),),))
    if schema.get("minLength"):
        yield Breakage(how="is empty", value="", words=((str(schema["minLength"]),),))
    if "pattern" in schema:
        for wrong in random.sample(wrongs := _matching(schema, _BAD, False), min(4, len(wrongs))):
            yield Breakage(how=f"is {wrong!r}", value=wrong, words=((schema["pattern"],),))


def _lists(schema: Schema, _: Any, random: Random) -> Iterator[Breakage]:
    one = least(schema["items"])
    key = schema.get("x-kubernetes-list-map-keys", [None])[0]
    many = schema["maxItems"] + random.randint(1, 3)
    named = [f"c{n}" if isinstance(one, str) else {**one, key or KEY: f"c{n}"} for n in range(many)]
    if key is None and not isinstance(one, str):
        named = [{} for _ in range(many)]
    yield Breakage(how="is too long", value=named, words=((str(schema["maxItems"]),),))
    if schema.get("x-kubernetes-list-type") in {"set", "map"}:
        twice = [named[0], named[1], named[0]]
        yield Breakage(how="names one twice", value=twice, words=(("Duplicate", "twice"),))


def _objects(schema: Schema, good: Body, random: Random) -> Iterator[Breakage]:
    if "additionalProperties" in schema:
        value = least(schema["additionalProperties"])
        many = {f"k{n}": value for n in range(schema["maxProperties"] + random.randint(1, 3))}
        yield Breakage(how="has too many", value=many, words=((str(schema["maxProperties"]),),))
        return
    for name in schema.get("required", ()):
        rest = {key: value for key, value in good.items() if key != name}
        yield Breakage(how="is missing", value=rest, words=(("equired",),), below=(name,))
    words = (("unknown field", "no such field"),)
    plural = f"{random.choice(list(schema['properties']))}s"
    wrong = random.choice((1, "word", [], {}))
    yield Breakage(how="is unknown", value={**good, plural: wrong}, words=words, below=(plural,))
    for name, inner in schema["properties"].items():
        snake = re.sub("([A-Z])", r"_\1", name).lower()
        if snake != name:
            value = {**good, snake: least(inner)}
            yield Breakage(how="is in snake case", value=value, words=words, below=(snake,))
