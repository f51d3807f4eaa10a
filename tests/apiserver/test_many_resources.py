"""More than 500 resources that cannot work and 500 that can, asked of a real API server and of our own parsing: the words of each refusal."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from apiserver_expansions import CRD, install_definition
from kubernetes import client, config
from kubernetes.client import ApiException
from resource_mutations import (
    KEY,
    Body,
    Broken,
    Schema,
    body_of,
    broken_by_schema,
    messages,
    parts,
    surrounded,
    typed,
    valid_spec,
    without,
)
from resources_by_hand import WRONG_NETWORKS, broken_by_hand, every_rule, refused_by_a_condition

from expansion_contract import architectures, availability, written
from expansion_contract.problems import SpecError
from expansion_contract.resource import GROUP, PLURAL, VERSION, ExpansionSpec, parsed
from expansion_development.kubernetes_api import Api, message_of
from expansion_operator import schedule

pytestmark = pytest.mark.apiserver
SEED = 20261122
MANY = 500
AT_ONCE = 6
"""Requests."""
LONGEST = 2000
"""Characters of a refusal: it stands in a condition, or in a terminal."""
Ask = Callable[[Iterable[Body]], list[str]]
Spec = dict[str, Any]


def definition() -> Schema:
    (version,) = yaml.safe_load(CRD.read_text(encoding="utf-8"))["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


SCHEMA = definition()["properties"]["spec"]
BROKEN = (*broken_by_schema(SCHEMA, Random(SEED)), *broken_by_hand())
WISHES: tuple[Spec, ...] = tuple(valid_spec(SCHEMA, Random(SEED + n)) for n in range(MANY))
"""Good by the schema and its rules; some ask for what this release cannot do."""


def said_by_python(body: Body) -> str:
    try:
        written.resource({**body, "metadata": {**body["metadata"], "namespace": "default"}})
    except SpecError as error:
        return str(error)
    return ""


def said_by_a_condition(body: Body) -> tuple[str, ...]:
    """What the operator's condition says of a resource that the API server takes."""
    spec: ExpansionSpec = parsed(body).spec
    network = spec.base.pretrained
    problem = architectures.problem_with(network.architecture) if network else None
    return (*availability.refused(spec), *filter(None, (problem, schedule.problem_with(spec.retrain))))


def possible(wish: Spec) -> Spec:
    """What is left of it after doing what each refusal says."""
    while refusals := said_by_a_condition(body_of(wish)):
        wish = without(wish, refusals[0].split(" ", 1)[0])
    return wish


@pytest.fixture(scope="module")
def ask(kubeconfig: Path, api: Api) -> Ask:
    """What the API server answers somebody who creates each as kubectl does, strictly; empty if it accepts. Nothing is stored."""
    install_definition(api)
    objects = client.CustomObjectsApi(config.new_client_from_config(str(kubeconfig)))
    create = partial(objects.create_namespaced_custom_object, GROUP, VERSION, "default", PLURAL)

    def answer(body: Body) -> str:
        try:
            create(body, dry_run="All", field_validation="Strict")
        except ApiException as error:
            if error.status not in {400, 422}:
                raise
            return message_of(error)
        return ""

    known: dict[str, str] = {}

    def answers(bodies: Iterable[Body]) -> list[str]:
        """One question each, however many tests ask it."""
        named = [(repr(body), body) for body in bodies]
        new = {name: body for name, body in named if name not in known}
        with ThreadPoolExecutor(AT_ONCE) as threads:
            known.update(zip(new, threads.map(answer, new.values()), strict=True))
        return [known[name] for name, _ in named]

    return answers


@pytest.fixture(scope="module")
def answers(ask: Ask) -> tuple[tuple[Broken, str, str], ...]:
    """Each broken resource with what the API server and what Python say of it."""
    said = ask(broken.body for broken in BROKEN)
    pairs = zip(BROKEN, said, strict=True)
    return tuple((broken, theirs, said_by_python(broken.body)) for broken, theirs in pairs)


Answers = tuple[tuple[Broken, str, str], ...]


def unsaid(broken: Broken, said: str) -> list[str]:
    """Of the path and of what is expected."""
    missing = [] if broken.path in said else [broken.path]
    low = said.lower()
    if len(said) > LONGEST:
        missing.append(f"at most {LONGEST} characters")
    return missing + [
        " or ".join(words) for words in broken.words if not any(w.lower() in low for w in words)
    ]


def test_at_least_500_resources_are_broken_at_every_place_of_the_schema() -> None:
    assert len(BROKEN) >= MANY
    assert len({repr(broken.body) for broken in BROKEN}) >= MANY, "different ones"
    places = {typed(steps) for steps, _ in parts(SCHEMA)}
    assert places <= {broken.path for broken in BROKEN}


def test_everything_broken_is_refused_by_the_api_server(answers: Answers) -> None:
    assert [str(broken) for broken, theirs, _ in answers if not theirs] == []


def test_everything_broken_is_refused_by_the_command_line_as_well(answers: Answers) -> None:
    taken = [broken for broken, _, ours in answers if not ours and broken.only != "api server"]
    assert [str(broken) for broken in taken] == []


def test_what_only_a_cluster_refuses_is_taken_by_the_command_line(answers: Answers) -> None:
    assert [(str(broken), ours) for broken, _, ours in answers if ours and broken.only == "api server"] == []


def test_a_field_without_a_value_is_taken_by_the_command_line_where_the_api_server_takes_it(ask: Ask) -> None:
    places = [steps for steps, _ in parts(SCHEMA) if KEY not in steps and 0 not in steps]
    empty = {typed(steps): body_of(surrounded(SCHEMA, steps, None)) for steps in places}
    theirs = dict(zip(empty, ask(empty.values()), strict=True))
    ours = {path: said_by_python(one) for path, one in empty.items()}
    apart = {path: (theirs[path], ours[path]) for path in empty if bool(theirs[path]) != bool(ours[path])}
    assert apart == {}
    assert sum(not said for said in ours.values()) > len(places) / 2


def test_every_refusal_of_the_api_server_names_the_field_and_what_is_expected(answers: Answers) -> None:
    assert [(str(b), gap, said) for b, said, _ in answers if said and (gap := unsaid(b, said))] == []


def test_every_refusal_of_the_command_line_names_the_field_and_what_is_expected(answers: Answers) -> None:
    assert [(str(b), gap, said) for b, _, said in answers if said and (gap := unsaid(b, said))] == []


def test_every_rule_between_fields_is_broken_and_answers_with_its_sentence(answers: Answers) -> None:
    said = "\n".join(theirs for _, theirs, _ in answers)
    ours = "\n".join(words for _, _, words in answers)
    assert [message for message in messages(definition()) if message not in said] == []
    assert [r.message for r in every_rule() if r.holds is not None and r.message not in ours] == []


def test_what_only_a_condition_can_refuse_is_refused_with_its_field_and_a_remedy(ask: Ask) -> None:
    bodies = [
        *refused_by_a_condition(),
        *(body_of(wish) for wish in WISHES if said_by_a_condition(body_of(wish))),
    ]
    assert [said for said in ask(bodies) if said] == [], "the API server takes them"
    for sentence in {sentence for body in bodies for sentence in said_by_a_condition(body)}:
        assert is_helpful(sentence), sentence


def test_every_wrong_network_and_all_that_is_for_later_is_refused_by_a_condition() -> None:
    said = "\n".join(one for body in refused_by_a_condition() for one in said_by_a_condition(body))
    assert [
        name for name in WRONG_NETWORKS if f"spec.base.pretrained.architecture {name!r}" not in said
    ] == []
    wished = "\n".join(one for wish in WISHES for one in said_by_a_condition(body_of(wish)))
    fields = {line.split(" ", 1)[0] for line in wished.splitlines()}
    assert {field for field in fields if f"{field} asks for" not in said} == set(), "give LATER one of these"


def is_helpful(sentence: str) -> bool:
    if sentence.startswith("spec.base.pretrained.architecture '"):
        return "is not known." in sentence and "Known: EfficientNetLite0, " in sentence
    remedies = ("remove it", "use ")
    places = {typed(steps) for steps, _ in parts(SCHEMA)}
    return sentence.split(" ", 1)[0] in places and sentence.split("; ")[-1].startswith(remedies)


def test_500_valid_resources_are_accepted_by_the_api_server_by_python_and_by_every_condition(
    ask: Ask,
) -> None:
    bodies = [body_of(possible(wish)) for wish in WISHES]
    assert len({repr(body) for body in bodies}) == MANY
    assert [said for said in ask(bodies) if said] == []
    assert [said for body in bodies if (said := said_by_python(body))] == []


def test_what_is_valid_but_not_done_yet_is_taken_by_the_api_server_and_by_python(ask: Ask) -> None:
    assert [said for said in ask(map(body_of, WISHES)) if said] == []
    assert [said for wish in WISHES if (said := said_by_python(body_of(wish)))] == []


def test_the_valid_resources_use_every_part_and_every_word_of_the_schema() -> None:
    used = {one for wish in WISHES for one in words_of(wish, SCHEMA)}
    assert {typed(steps) for steps, _ in parts(SCHEMA)} - {path for path, _ in used} == set()
    words = {(typed(steps), word) for steps, part in parts(SCHEMA) for word in part.get("enum", ())}
    assert words - used == set()


def words_of(value: Any, schema: Schema, path: str = "spec") -> Iterable[tuple[str, Any]]:
    """Every place that is given, with its text."""
    yield path, value if isinstance(value, str) else None
    if isinstance(value, list):
        for one in value:
            yield from words_of(one, schema["items"], f"{path}[0]")
    elif isinstance(value, dict):
        for name, one in value.items():
            known = schema.get("properties", {})
            below = known[name] if name in known else schema["additionalProperties"]
            yield from words_of(one, below, f"{path}.{name if name in known else 'key'}")
