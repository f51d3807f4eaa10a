"""What the current run starts from, which run that makes it, and what stays as it was when a base goes on."""

from dataclasses import replace

import pytest
from operator_values import NEW, NOW, SETTINGS, respecified, version

from expansion_contract.labels import vocabulary
from expansion_contract.resource import Condition, GrownFrom
from expansion_contract.run import PackBase, PublishedBase, Start, run_id
from expansion_operator import starts
from expansion_operator.observed import BaseSeen, Observed, VersionSeen
from expansion_operator.status import conditions, next_status

CARS = {"base": {"expansionRef": {"name": "cars"}}}


def base(number: int) -> BaseSeen:
    model = PublishedBase(uri=f"s3://models/cars/versions/{number}", manifest_sha256=f"cars-{number}")
    return BaseSeen(model=model, version=number, names=vocabulary([("", "car")]))


def chained(number: int = 7, **spec: object) -> Observed:
    seen = replace(respecified(NEW, **CARS, **spec), base=base(number))
    return starts.identified(seen)


def reporting(number: int = 7, **spec: object) -> Observed:
    return chained(number, retrain={"onBaseChange": "Report", **spec})


def started(seen: Observed) -> Observed:
    """The same world with a status that knows the run."""
    status = next_status(seen, None, SETTINGS, NOW)
    return replace(seen, expansion=seen.expansion.model_copy(update={"status": status}))


def told(seen: Observed) -> list[Condition]:
    return [one for one in conditions(seen, None, NOW) if one.type == "BaseChanged"]


def given(number: int, *names: str) -> VersionSeen:
    seen = version(number)
    return replace(seen, manifest=seen.manifest.model_copy(update={"given": list(names)}))


def test_a_pretrained_network_without_history_starts_from_nothing_but_its_images() -> None:
    assert starts.identified(NEW).start == Start(categories=("rose", "tulip"))
    assert starts.identified(NEW).run_id == NEW.run_id


def test_no_run_is_named_before_the_base_is_found_and_the_images_are_listed() -> None:
    assert starts.identified(replace(respecified(NEW, **CARS), run_id=None)).run_id is None
    assert starts.identified(replace(chained(), run_id=None, listing=None)).run_id is None


def test_another_version_of_the_base_is_another_run_and_the_same_one_is_the_same() -> None:
    assert chained(7).run_id == chained(7).run_id
    assert chained(7).run_id != chained(8).run_id
    assert chained(8).start.model == base(8).model


def test_a_pack_is_part_of_the_run() -> None:
    pack = PackBase(uri="s3://packs/lite0", digest="d")
    seen = starts.identified(replace(NEW, pack=pack))
    assert seen.start.pack == pack
    assert seen.run_id != NEW.run_id


def test_the_longest_list_of_indices_is_continued_whoever_wrote_it_down() -> None:
    versions = (given(1, "rose"), given(2, "rose", "tulip", "aster"), given(3, "rose", "tulip"))
    seen = starts.identified(replace(NEW, versions=versions))
    assert seen.start.given == ("rose", "tulip", "aster")
    assert seen.start.previous == "s3://models/flowers/versions/2"


def test_the_newest_version_is_continued_among_equals() -> None:
    seen = starts.identified(replace(NEW, versions=(given(1, "rose"), given(2, "rose"))))
    assert seen.start.previous == "s3://models/flowers/versions/2"


def test_publishing_a_run_does_not_make_it_another_run() -> None:
    """Its own categories have indices then."""
    before = starts.identified(replace(NEW, versions=(given(1, "tulip"),)))
    after_it = replace(before, versions=(given(1, "tulip"), given(2, "tulip", "rose")))
    assert starts.identified(after_it).run_id == before.run_id


# A base that goes on


def test_where_the_base_retrains_the_newest_version_is_grown() -> None:
    running = started(chained(7))
    assert starts.identified(replace(running, base=base(8))).start.model == base(8).model


def test_where_it_is_only_reported_a_run_keeps_its_base_and_says_so() -> None:
    running = started(reporting(7))
    seen = starts.identified(replace(running, base=base(8)))
    assert (seen.start.model, seen.run_id) == (base(7).model, running.run_id)
    (condition,) = told(seen)
    assert (condition.status, condition.reason) == ("True", "NewerVersion")
    assert condition.message == (
        "ClassifierExpansion cars has version 8, this model grew from 7. To grow version 8, raise spec.retrain.revision, or set"
        " spec.retrain.onBaseChange to Retrain."
    )


def test_a_published_model_keeps_its_base_even_if_status_is_lost() -> None:
    seen = reporting(7)
    made = version(1, seen.run_id or "")
    made = replace(made, manifest=made.manifest.model_copy(update={"base": base(7).model}))
    settled = replace(seen, versions=(made,), base=base(8))
    assert starts.identified(settled).start.model == base(7).model


def test_a_raised_revision_takes_up_the_newest_base() -> None:
    running = started(reporting(7))
    edited = respecified(running, **CARS, retrain={"onBaseChange": "Report", "revision": 1})
    seen = starts.identified(replace(edited, base=base(8)))
    assert seen.start.model == base(8).model
    assert told(seen) == []


def test_run_and_model_say_what_they_grew_from() -> None:
    seen = chained(7)
    made = version(1, seen.run_id or "")
    made = replace(made, manifest=made.manifest.model_copy(update={"base": base(7).model}))
    status = next_status(replace(seen, versions=(made,)), None, SETTINGS, NOW)
    grown = GrownFrom(uri="s3://models/cars/versions/7", manifest_sha256="cars-7", version=7)
    assert status.run is not None
    assert status.model is not None
    assert (status.run.base, status.model.base) == (grown, grown)


@pytest.mark.parametrize(
    ("uri", "number"), [("s3://m/cars/versions/7", 7), ("s3://m/cars/versions/12/", 12), ("s3://m/own", None)]
)
def test_the_number_of_a_base_is_read_from_its_folder(uri: str, number: int | None) -> None:
    assert starts.version_of(PublishedBase(uri=uri, manifest_sha256="s")) == number


# Indices and run ids


@pytest.mark.parametrize(
    ("given_before", "same"),
    [
        pytest.param((), True, id="the first run"),
        pytest.param(("rose", "tulip"), True, id="a revert to it"),
        pytest.param(("rose", "tulip", "aster"), True, id="a revert after others had indices"),
        pytest.param(("tulip", "rose"), False, id="other indices"),
        pytest.param(("aster", "rose", "tulip"), False, id="behind one that is retired"),
        pytest.param(("rose", "aster"), False, id="one behind one that is retired"),
    ],
)
def test_the_same_categories_at_other_indices_are_another_run(
    given_before: tuple[str, ...], same: bool
) -> None:
    first = run_id(NEW.expansion, "sha256:a", Start(categories=("rose", "tulip")))
    now = run_id(NEW.expansion, "sha256:a", Start(given=given_before, categories=("rose", "tulip")))
    assert (now == first) is same
