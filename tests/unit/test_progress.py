"""Promises about what a run tells of itself while it works."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from expansion_contract.report import Progress
from expansion_trainer.progress import AFTER_IMAGES_SECONDS, STARTS_AT, Listener, Stage, Tracker


@dataclass
class Clock:
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Heard:
    clock: Clock = field(default_factory=Clock)
    said: list[Progress] = field(default_factory=list)

    def tracker(self, every: float = 15.0) -> Tracker:
        return Tracker("r1", self.clock, (Listener(self.said.append, every),))


def test_every_new_stage_is_told_at_once() -> None:
    heard = Heard()
    tracker = heard.tracker()
    tracker.enter(Stage.SCAN, "listing")
    tracker.enter(Stage.BACKBONE, "loading")
    assert [(said.stage, said.message) for said in heard.said] == [
        ("Scan", "listing"),
        ("Backbone", "loading"),
    ]


def test_within_a_stage_a_listener_hears_at_most_as_often_as_it_asked() -> None:
    heard = Heard()
    tracker = heard.tracker(every=15)
    tracker.enter(Stage.BOTTLENECKS, "")
    for done in range(1, 61):
        heard.clock.wait(1)
        tracker.step(done, 60)
    assert len(heard.said) == 1 + 4


def test_listeners_have_their_own_pace() -> None:
    clock, slow, fast = Clock(), [], []  # type: ignore[var-annotated]
    tracker = Tracker("r1", clock, (Listener(slow.append, 15), Listener(fast.append, 0.5)))
    tracker.enter(Stage.BOTTLENECKS, "")
    for done in range(10):
        clock.wait(1)
        tracker.step(done, 10)
    assert (len(slow), len(fast)) == (1, 11)


def test_speed_and_remaining_time_follow_the_last_half_minute() -> None:
    heard = Heard()
    tracker = heard.tracker(every=0)
    tracker.enter(Stage.BOTTLENECKS, "")
    tracker.step(900, 1000)  # from the cache, at once
    for done in range(905, 1000, 5):
        heard.clock.wait(1)
        tracker.step(done, 1000)
        if done == 950:
            assert heard.said[-1].images_per_second == 5.0
            assert heard.said[-1].eta_seconds == 50 / 5 + AFTER_IMAGES_SECONDS
    heard.clock.wait(60)
    tracker.step(1000, 1000)
    assert heard.said[-1].images_per_second == pytest.approx(5 / 60, abs=0.05)


def test_without_progress_no_speed_is_claimed() -> None:
    heard = Heard()
    tracker = heard.tracker(every=0)
    tracker.enter(Stage.BOTTLENECKS, "")
    tracker.step(0, 100)
    heard.clock.wait(5)
    tracker.step(0, 100)
    assert heard.said[-1].images_per_second is None
    assert heard.said[-1].eta_seconds is None


def test_percent_never_goes_back_and_ends_at_100() -> None:
    heard = Heard()
    tracker = heard.tracker(every=0)
    for stage in list(Stage)[:-1]:
        tracker.enter(stage, "")
        heard.clock.wait(1)
        for done in range(11):
            heard.clock.wait(0.1)
            tracker.step(done, 10)
    tracker.finish()
    percents = [said.percent for said in heard.said]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1], heard.said[-1].stage) == (0, 100, "Done")


def test_stages_are_in_the_order_of_their_percents() -> None:
    assert list(STARTS_AT) == list(Stage)
    assert list(STARTS_AT.values()) == sorted(STARTS_AT.values())


def test_no_image_at_all_is_no_division_by_zero() -> None:
    heard = Heard()
    tracker = heard.tracker(every=0)
    tracker.enter(Stage.BOTTLENECKS, "")
    tracker.step(0, 0)
    assert heard.said[-1].percent == STARTS_AT[Stage.BOTTLENECKS]


def test_the_seconds_of_every_stage_are_kept_in_order() -> None:
    heard = Heard()
    tracker = heard.tracker()
    tracker.enter(Stage.SCAN, "")
    heard.clock.wait(2)
    tracker.enter(Stage.HEAD, "")
    heard.clock.wait(3.5)
    assert tracker.seconds() == {"Scan": 2.0, "Head": 3.5}
    assert list(tracker.finish().items()) == [("Scan", 2.0), ("Head", 3.5)]


def test_what_a_stage_is_at_is_told_as_often_as_the_rest() -> None:
    heard = Heard()
    tracker = heard.tracker(every=15)
    tracker.enter(Stage.HEAD, "fitting")
    for step in range(1, 31):
        heard.clock.wait(1)
        tracker.say(f"step {step}")
    assert [said.message for said in heard.said] == ["fitting", "step 15", "step 30"]
    assert {said.percent for said in heard.said} == {STARTS_AT[Stage.HEAD]}
    assert heard.said[-1].updated_at > heard.said[0].updated_at
