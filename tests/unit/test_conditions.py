"""How conditions read to people, kstatus and Argo CD."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_values import (
    CHANGED,
    EXPANSION,
    NEW,
    NOW,
    OTHER_RUN,
    SETTLED,
    after,
    agent,
    condition,
    failed,
    job,
    kstatus,
    planned,
    reported,
    respecified,
    says,
)

from expansion_contract.resource import Condition, ExpansionStatus
from expansion_operator.conditions import (
    Fact,
    Finding,
    Stage,
    announcements,
    dated,
    moment,
    stage_facts,
    verdict,
    word,
)
from expansion_operator.observed import JobPhase, Observed, Trouble

STALLED = Trouble(reason="StorageRefused", message="The key is wrong.", permanent=True)
AWAY = Trouble(reason="StorageUnavailable", message="503", permanent=False)


def finding(stage: Stage = Stage.TRAINING, **changes: object) -> Finding:
    return replace(Finding(stage=stage, reason="Because", message="It is so.", phase="Training"), **changes)


EVERYTHING = {
    "settled": SETTLED,
    "new": NEW,
    "images changed": CHANGED,
    "training": replace(CHANGED, job=job(of=OTHER_RUN)),
    "pending": replace(CHANGED, job=job(JobPhase.PENDING, OTHER_RUN)),
    "failed": replace(CHANGED, report=failed("BadDataset", "No image.", OTHER_RUN)),
    "accepted": replace(CHANGED, report=reported(OTHER_RUN)),
    "refused": respecified(SETTLED, acceptance={"minimumAccuracy": 0.99}),
    "not supported": respecified(SETTLED, compute={"workers": 2}),
    "conflict": replace(SETTLED, output_owner="team/roses"),
    "suspended": respecified(SETTLED, suspend=True),
    "suspended early": respecified(NEW, suspend=True),
    "storage away": Observed(expansion=SETTLED.expansion, trouble=AWAY),
    "storage refuses": Observed(expansion=SETTLED.expansion, trouble=STALLED),
    "storage away at first": Observed(expansion=EXPANSION, trouble=AWAY),
    "rolling": replace(SETTLED, agents=(agent(), agent(None))),
    "nothing serves": respecified(SETTLED, serving={"mode": "None"}),
}
WORLDS = [pytest.param(world, id=name) for name, world in EVERYTHING.items()]


@pytest.mark.parametrize("observed", WORLDS)
def test_ready_is_always_there_and_never_both_reconciling_and_stalled(observed: Observed) -> None:
    types = [c["type"] for c in planned(observed).status["conditions"]]
    assert "Ready" in types
    assert len(types) == len(set(types)) <= 16
    assert not {"Reconciling", "Stalled"} <= set(types)


@pytest.mark.parametrize("observed", WORLDS)
def test_reconciling_and_stalled_are_there_only_while_true(observed: Observed) -> None:
    for c in planned(observed).status["conditions"]:
        assert c["type"] not in {"Reconciling", "Stalled"} or c["status"] == "True"


@pytest.mark.parametrize("observed", WORLDS)
def test_reconciling_and_stalled_go_when_all_is_well(observed: Observed) -> None:
    healed = replace(SETTLED, expansion=after(observed, planned(observed)).expansion)
    healed = respecified(healed)
    result = planned(healed)
    assert (says(result, "Reconciling"), says(result, "Stalled")) == (None, None)
    assert says(result, "Ready") == ("True", "Ready")


@pytest.mark.parametrize("observed", WORLDS)
def test_every_condition_has_a_generation_a_word_and_a_time(observed: Observed) -> None:
    generation = observed.expansion.metadata.generation
    result = planned(observed)
    assert result.status["observedGeneration"] == generation
    for c in result.status["conditions"]:
        assert 1 <= c["observedGeneration"] <= generation
        assert word(c["reason"]) == c["reason"]
        assert moment(c["lastTransitionTime"]) is not None
        assert c["type"] in {*Stage, "Serving", "Suspended", "Ready", "Reconciling", "Stalled"} - {
            "Resource",
            "Rollout",
        }


@pytest.mark.parametrize("observed", WORLDS)
def test_a_later_look_at_the_same_world_changes_no_time(observed: Observed) -> None:
    first = planned(observed)
    second = planned(after(observed, first), 1)
    assert second.status["conditions"] == first.status["conditions"]


@pytest.mark.parametrize("observed", WORLDS)
def test_kstatus_is_current_only_when_the_latest_spec_is_ready(observed: Observed) -> None:
    result = planned(observed)
    seen = kstatus(after(observed, result).expansion)
    assert (seen == "Current") == (says(result, "Ready") == ("True", "Ready"))
    assert (seen == "Failed") == (says(result, "Stalled") is not None)


@pytest.mark.parametrize("observed", WORLDS)
def test_kstatus_is_in_progress_from_an_edit_until_it_was_seen(observed: Observed) -> None:
    assert kstatus(respecified(after(observed, planned(observed))).expansion) == "InProgress"


def test_kstatus_is_in_progress_before_the_operator_has_seen_the_resource() -> None:
    assert kstatus(EXPANSION) == "InProgress"


def test_suspension_advances_the_generation_and_is_neither_work_nor_failure() -> None:
    suspended = respecified(replace(CHANGED, job=job(of=OTHER_RUN)), suspend=True)
    result = planned(suspended)
    assert result.status["observedGeneration"] == suspended.expansion.metadata.generation == 2
    assert (says(result, "Reconciling"), says(result, "Stalled")) == (None, None)
    resumed = planned(respecified(after(suspended, result)))
    assert says(resumed, "Suspended") == ("False", "NotSuspended")


def test_a_suspended_resource_that_cannot_be_done_is_still_stalled() -> None:
    result = planned(respecified(SETTLED, suspend=True, compute={"workers": 2}))
    assert (says(result, "Stalled"), says(result, "Suspended")) == (
        ("True", "NotSupported"),
        ("True", "Suspended"),
    )


def test_a_time_changes_only_when_the_status_does() -> None:
    old = Condition(type="Ready", status="False", reason="Old", last_transition_time="2026-01-01T00:00:00Z")
    same = dated([Fact(type="Ready", status="False", reason="New")], [old], 3, NOW)[0]
    other = dated([Fact(type="Ready", status="True", reason="New")], [old], 3, NOW)[0]
    assert (same.last_transition_time, same.reason, same.observed_generation) == (
        "2026-01-01T00:00:00Z",
        "New",
        3,
    )
    assert other.last_transition_time == "2026-11-22T12:00:00Z"


def test_stages_before_the_finding_hold_and_those_behind_it_wait() -> None:
    achieved = {stage: Fact(type=stage, status="True", reason="Done") for stage in Stage}
    facts = [(f.type, f.status, f.reason) for f in stage_facts(finding(Stage.TRAINING), achieved)]
    assert facts == [
        ("DatasetResolved", "True", "Done"),
        ("Trained", "Unknown", "Because"),
        ("Accepted", "Unknown", "Waiting"),
        ("Published", "Unknown", "Waiting"),
    ]


def test_only_what_needs_a_person_is_false_and_stalled() -> None:
    stuck = finding(stuck=True)
    assert [(f.type, f.status) for f in verdict(stuck, False, "")] == [
        ("Ready", "False"),
        ("Stalled", "True"),
    ]
    assert [(f.type, f.status) for f in verdict(finding(), False, "")] == [
        ("Ready", "False"),
        ("Reconciling", "True"),
    ]
    assert [f.status for f in stage_facts(stuck, dict.fromkeys(Stage, Fact(type="", status="", reason="")))][
        1
    ] == "False"


@pytest.mark.parametrize(
    ("reason", "becomes"),
    [("BadDataset", "BadDataset"), ("not a word!", "notaword"), ("", "Failed"), ("x" * 2000, "x" * 256)],
)
def test_every_reason_becomes_a_word(reason: str, becomes: str) -> None:
    assert word(reason) == becomes


@pytest.mark.parametrize("text", ["", "yesterday", None])
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert moment(text) is None


def test_a_time_without_a_zone_is_utc() -> None:
    assert moment("2026-11-22T12:00:00") == moment("2026-11-22T13:00:00+01:00") == NOW


def state(kind: str, status: str, reason: str = "Because") -> Condition:
    return Condition(type=kind, status=status, reason=reason, last_transition_time="2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("before", "now", "kinds"),
    [
        pytest.param([], [state("Trained", "True")], ["Normal"], id="trained"),
        pytest.param([state("Trained", "True")], [state("Trained", "True", "Other")], [], id="still trained"),
        pytest.param([state("Serving", "True")], [state("Serving", "False")], ["Warning"], id="stopped serving"),
        pytest.param([], [state("Serving", "False")], [], id="never served"),
        pytest.param([], [state("Stalled", "True")], ["Warning"], id="stalled"),
        pytest.param([state("Stalled", "True")], [state("Stalled", "True", "Other")], ["Warning"], id="otherwise stalled"),
        pytest.param([], [state("Reconciling", "True")], [], id="at work"),
        pytest.param([state("Ready", "True")], [state("Ready", "False")], [], id="no longer ready"),
        pytest.param([state("Trained", "True")], [state("Trained", "Unknown", "Running")], ["Normal"], id="started"),
        pytest.param([state("Trained", "Unknown", "Running")] * 1, [state("Trained", "Unknown", "Running")], [], id="runs on"),
    ],
)  # fmt: skip
def test_only_news_is_announced(before: list[Condition], now: list[Condition], kinds: list[str]) -> None:
    assert [event.kind for event in announcements(before, now)] == kinds


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(sorted(EVERYTHING)), st.integers(0, 7200)), min_size=1, max_size=5))
def test_whatever_happens_in_whatever_order_the_conditions_keep_their_rules(
    steps: list[tuple[str, int]],
) -> None:
    status, generation = ExpansionStatus(), 1
    for name, seconds in steps:
        world, generation = EVERYTHING[name], generation + 1
        metadata = world.expansion.metadata.model_copy(update={"generation": generation})
        expansion = world.expansion.model_copy(update={"metadata": metadata, "status": status})
        observed = replace(world, expansion=expansion)
        result = planned(observed, seconds)
        types = [c["type"] for c in result.status["conditions"]]
        assert len(types) == len(set(types))
        assert not {"Reconciling", "Stalled"} <= set(types)
        ready = condition(result, "Ready")
        assert ready is not None
        if ready["status"] == "True":
            assert not {"Reconciling", "Stalled"} & set(types)
        expansion = after(observed, result).expansion
        assert kstatus(expansion) != "Current" or (ready["status"], ready["observedGeneration"]) == (
            "True",
            generation,
        )
        status = expansion.status
