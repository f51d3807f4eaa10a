"""Promises of distorted copies before any pixel: drawn from seed and content alone, inside the image, and named by what they are."""

import pytest

from expansion_contract.resource import Distortions
from expansion_trainer.bottlenecks.distortion import Distortion, distortion

DIGEST, OTHER = "a1" * 32, "b2" * 32
ALL = Distortions(
    random_crop_percent=20, random_scale_percent=30, random_brightness_percent=40, flip_left_right=True
)


def copies(asked: Distortions, digest: str = DIGEST, seed: int = 0) -> list[Distortion]:
    return [distortion(asked, seed, digest, number) for number in range(200)]


def test_the_same_seed_and_content_give_the_same_copies() -> None:
    assert copies(ALL) == copies(ALL)


@pytest.mark.parametrize(
    ("digest", "seed"), [pytest.param(OTHER, 0, id="content"), pytest.param(DIGEST, 1, id="seed")]
)
def test_another_seed_or_content_gives_others(digest: str, seed: int) -> None:
    assert all(a != b for a, b in zip(copies(ALL), copies(ALL, digest, seed), strict=True))


def test_a_copy_lies_inside_the_image_and_varies_as_far_as_asked() -> None:
    found = copies(ALL)
    assert all(0 <= c.left <= 1 - c.side + 1e-4 and 0 <= c.top <= 1 - c.side + 1e-4 for c in found)
    sides, lights = [c.side for c in found], [c.brightness for c in found]
    assert 1 / (1.2 * 1.3) <= min(sides) < 0.66
    assert 0.8 < max(sides) <= round(1 / 1.2, 4)
    assert 0.6 <= min(lights) < 0.65
    assert 1.35 < max(lights) <= 1.4


def test_every_second_copy_is_mirrored() -> None:
    found = copies(Distortions(flip_left_right=True))
    assert found[:2] == [Distortion(mirrored=True), Distortion()]
    assert sum(c.mirrored for c in found) == len(found) / 2


def test_nothing_is_distorted_that_was_not_asked_for() -> None:
    assert copies(Distortions())[:3] == [Distortion()] * 3
    assert {c.side for c in copies(Distortions(random_brightness_percent=50))} == {1.0}


def test_an_untouched_copy_is_kept_as_the_image_itself_and_every_other_one_apart() -> None:
    assert Distortion().key(DIGEST) == DIGEST
    found = copies(ALL)
    assert len({c.key(DIGEST) for c in found}) == len(found)
    assert DIGEST not in {c.key(DIGEST) for c in found}
