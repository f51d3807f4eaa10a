"""Which reason wins, and what each of them says about a resource."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from operator_values import (
    CHANGED,
    DEPLOYMENT,
    NEW,
    NOW,
    OTHER_RUN,
    RUN,
    SETTLED,
    agent,
    document,
    failed,
    job,
    listing,
    reported,
    respecified,
    version,
    with_status,
)

from expansion_contract.dataset import Problem
from expansion_contract.exit_codes import PERMANENT, REASONS, ExitCode
from expansion_contract.resource import RunStatus
from expansion_operator import derived, policies
from expansion_operator.conditions import Stage
from expansion_operator.observed import JobPhase, Observed, ReportSeen, Trouble
from expansion_operator.policies import first_finding

STALE = Trouble(reason="StorageUnavailable", message="503", permanent=False)
DENIED = Trouble(reason="AdmissionDenied", message="no", permanent=True)
ERROR = Problem(reason="NoCategories", message="None.")
STRICT = {"acceptance": {"minimumAccuracy": 0.99}}
LATER = {"compute": {"workers": 2}}


def reason(observed: Observed) -> str | None:
    finding = first_finding(observed, NOW)
    return finding.reason if finding else None


def test_nothing_stands_between_a_settled_resource_and_ready() -> None:
    assert first_finding(SETTLED, NOW) is None


EVERYTHING_WRONG = replace(
    respecified(CHANGED, **LATER, **STRICT),
    output_owner="team/roses",
    trouble=STALE,
    listing=listing("sha256:b", ERROR),
    report=ReportSeen(report=None, problem="Not JSON."),
    old_jobs=(job(),),
)


def test_reasons_are_given_in_the_order_in_which_they_can_be_mended() -> None:
    observed, reasons = EVERYTHING_WRONG, []
    mended = (
        {"expansion": respecified(CHANGED, **STRICT).expansion},
        {"output_owner": None},
        {"trouble": None},
        {"listing": listing("sha256:b")},
        {"report": failed("BadDataset", "No.", OTHER_RUN)},
        {"report": None},
        {"old_jobs": ()},
        {"job": job(of=OTHER_RUN)},
        {"job": job(JobPhase.SUCCEEDED, OTHER_RUN)},
        {"report": reported(OTHER_RUN)},
        {"expansion": respecified(CHANGED).expansion},
        {"versions": (version(), version(2, OTHER_RUN))},
        {"serving_document": document(2, OTHER_RUN)},
        {"agents": (agent(2), agent(2))},
    )
    for change in mended:
        reasons.append(reason(observed))
        observed = replace(observed, **change)  # type: ignore[arg-type]
    assert reasons == [
        "NotSupported",
        "OutputConflict",
        "StorageUnavailable",
        "NoCategories",
        "ReportUnreadable",
        "BadDataset",
        "OldRunEnding",
        "Starting",
        "Running",
        "ReportAwaited",
        "GateRefused",
        "Publishing",
        "Publishing",
        "RollingOut",
    ]
    assert reason(observed) is None


def test_stages_only_go_forward_in_the_list_of_policies() -> None:
    """A finding of a later stage must never hide one of an earlier."""
    source = Path(policies.__file__).read_text(encoding="utf-8")
    order = tuple(Stage)
    stages = [order.index(stage) for stage in _stages_of_policies(ast.parse(source))]
    assert stages == sorted(stages)
    assert len(stages) == len(policies.POLICIES)


def _stages_of_policies(tree: ast.Module) -> list[Stage]:
    """By the world in which each policy speaks."""
    worlds = {
        "not_supported": respecified(NEW, **LATER),
        "bad_schedule": respecified(NEW, retrain={"schedule": "0 3 30 2 *"}),
        "unknown_architecture": respecified(NEW, base={"pretrained": {"architecture": "Nope"}}),
        "invalid_spec": respecified(NEW, categories={"images": "/data"}),
        "output_conflict": replace(NEW, output_owner="team/roses"),
        "base_circle": replace(NEW, circle=("flowers", "cars", "flowers")),
        "unreadable": replace(NEW, trouble=STALE),
        "unusable": replace(NEW, listing=listing("sha256:a", ERROR)),
        "not_listed": replace(NEW, listing=None),
        "report_unreadable": replace(NEW, report=ReportSeen(report=None, problem="x")),
        "dataset_changed": replace(NEW, report=failed("DatasetChanged", "x")),
        "run_failed": replace(NEW, report=failed("BadDataset", "x")),
        "not_trained": NEW,
        "gate_refused": respecified(SETTLED, **STRICT),
        "not_published": replace(SETTLED, versions=()),
        "not_announced": replace(SETTLED, serving_document=None),
        "pin_missing": respecified(SETTLED, serving={"version": 9}),
        "deployment_name_taken": replace(SETTLED, deployment=replace(DEPLOYMENT, ours=False)),
        "model_server_failed": replace(SETTLED, agents=(agent(None, state="Failed"),)),
        "pods_not_starting": replace(SETTLED, agents=(), deployment=replace(DEPLOYMENT, waiting=STALE)),
        "rolling_out": replace(SETTLED, agents=()),
        "next_run_waits": replace(SETTLED, waiting_run="9" * 16),
    }
    findings = [policy(worlds[policy.__name__], NOW) for policy in policies.POLICIES]  # type: ignore[attr-defined]
    return [finding.stage for finding in findings if finding is not None]


@pytest.mark.parametrize(
    "code", [code for code in ExitCode if code in REASONS and code is not ExitCode.DATASET_CHANGED]
)
def test_every_exit_code_has_its_reason(code: ExitCode) -> None:
    ended = replace(NEW, job=job(JobPhase.FAILED, exit_code=int(code), attempts=1))
    ended = with_status(ended, run=RunStatus(id=RUN, finished_at="2026-11-22T11:00:00Z"))
    assert reason(ended) == REASONS[code]


def test_the_permanent_exit_codes_are_those_the_job_fails_on_at_once() -> None:
    assert {10, 11, 12, 13, 14} <= {int(code) for code in PERMANENT} < set(range(10, 20))


@pytest.mark.parametrize(
    ("observed", "what"),
    [
        pytest.param(replace(NEW, trouble=STALE), "StorageUnavailable", id="storage is away"),
        pytest.param(
            replace(NEW, listing=listing("sha256:a", ERROR)), "NoCategories", id="images are missing"
        ),
        pytest.param(replace(NEW, job=job()), "Running", id="the trainer works"),
        pytest.param(respecified(SETTLED, **STRICT), "GateRefused", id="the gate refused"),
    ],
)
def test_an_old_refusal_hides_nothing_that_is_not_our_step(observed: Observed, what: str) -> None:
    assert reason(replace(observed, refusals=(DENIED,))) == what


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(NEW, id="the Job"),
        pytest.param(replace(SETTLED, versions=()), id="the publication"),
        pytest.param(replace(SETTLED, agents=()), id="the rollout"),
        pytest.param(SETTLED, id="an update of what runs"),
    ],
)
def test_a_refusal_of_our_step_is_the_reason(observed: Observed) -> None:
    finding = first_finding(replace(observed, refusals=(DENIED, DENIED)), NOW)
    assert finding is not None
    assert (finding.reason, finding.message, finding.stuck) == ("AdmissionDenied", "no", True)


def test_a_job_of_another_resource_with_our_labels_is_not_waited_for() -> None:
    assert reason(replace(NEW, old_jobs=(job(of=OTHER_RUN, ours=False),))) == "Starting"


def test_a_failure_of_another_run_does_not_stop_this_one() -> None:
    other = RunStatus(id=OTHER_RUN, outcome="Failed", reason="OutOfMemory")
    assert reason(with_status(NEW, run=other)) == "Starting"


def test_a_report_that_comes_after_all_knows_better_than_the_latch() -> None:
    latched = with_status(
        replace(NEW, report=reported()), run=RunStatus(id=RUN, outcome="Failed", reason="ReportMissing")
    )
    assert reason(latched) == "Publishing"


def test_a_failure_without_words_still_says_something() -> None:
    finding = first_finding(replace(NEW, report=failed("", "")), NOW)
    assert finding is not None
    assert (finding.reason, finding.message) == (
        "TrainingFailed",
        f"Run {RUN} failed and its report does not say why.",
    )


def test_the_first_version_is_one_and_a_number_is_never_given_again() -> None:
    assert derived.next_version(NEW) == 1
    assert derived.next_version(replace(NEW, versions=(version(3), version(5)))) == 6
    assert (
        derived.next_version(replace(NEW, versions=(version(3),), serving_document=document(3, last=9))) == 10
    )


def test_of_two_versions_of_one_run_the_newer_is_served() -> None:
    observed = replace(SETTLED, versions=(version(1), version(2)))
    assert derived.serving_document(observed) == document(2)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("Delete it (kubectl delete job", id="a Job"),
        pytest.param("or give the ClassifierExpansion another name", id="or the resource"),
    ],
)
def test_a_name_conflict_says_what_to_do(words: str) -> None:
    finding = first_finding(replace(NEW, job=job(ours=False)), NOW)
    assert finding is not None
    assert words in finding.message
