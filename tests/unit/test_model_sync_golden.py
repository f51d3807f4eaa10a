"""When two answers to one image are the same."""

import pytest

from expansion_contract.version import Golden, GoldenImage
from model_sync.golden import Answer, agrees, mismatch

IMAGE = GoldenImage(image="", names=["rose", "tulip", "daisy"], scores=[0.6, 0.3, 0.05])
TIED = GoldenImage(image="", names=["rose", "tulip", "daisy"], scores=[0.4, 0.3, 0.2995])


def answer(*pairs: tuple[str, float]) -> Answer:
    return Answer(names=tuple(name for name, _ in pairs), scores=tuple(score for _, score in pairs))


@pytest.mark.parametrize(
    ("image", "given", "same"),
    [
        pytest.param(IMAGE, answer(("rose", 0.6), ("tulip", 0.3), ("daisy", 0.05)), True, id="equal"),
        pytest.param(IMAGE, answer(("rose", 0.6009), ("tulip", 0.2991), ("daisy", 0.05)), True, id="rounded"),
        pytest.param(IMAGE, answer(("rose", 0.602), ("tulip", 0.3), ("daisy", 0.05)), False, id="score off"),
        pytest.param(
            IMAGE, answer(("tulip", 0.6), ("rose", 0.3), ("daisy", 0.05)), False, id="names swapped"
        ),
        pytest.param(IMAGE, answer(("rose", 0.6), ("tulip", 0.3)), False, id="shorter"),
        pytest.param(IMAGE, answer(("tulip", 0.3), ("rose", 0.6), ("daisy", 0.05)), False, id="out of order"),
        pytest.param(
            GoldenImage(image="", names=["rose", "tulip", "daisy"], scores=[0.5, 0.3, 0.2]),
            answer(("rose", 0.5), ("tulip", 0.3), ("tulip", 0.2)),
            False,
            id="a name twice",
        ),
        pytest.param(
            IMAGE, answer(("rose", 0.6), ("tulip", 0.3), ("cat", 0.05)), True, id="a tie for the last place"
        ),
        pytest.param(
            IMAGE, answer(("cat", 0.6), ("tulip", 0.3), ("daisy", 0.05)), False, id="a stranger in front"
        ),
        pytest.param(
            TIED, answer(("rose", 0.4), ("daisy", 0.3), ("tulip", 0.2995)), True, id="a tie in another order"
        ),
        pytest.param(
            IMAGE,
            answer(("rose", float("nan")), ("tulip", 0.3), ("daisy", 0.05)),
            False,
            id="not a number",
        ),
        pytest.param(
            GoldenImage(image="", names=["crane", "crane"], scores=[0.6, 0.3]),
            answer(("crane", 0.6), ("crane", 0.3)),
            True,
            id="two categories of one name",
        ),
        pytest.param(GoldenImage(image="", names=[], scores=[]), answer(), False, id="nothing"),
    ],
)
def test_answers_agree(image: GoldenImage, given: Answer, same: bool):
    assert agrees(image, given, 0.001) is same


def test_a_mismatch_names_the_image_and_both_answers():
    golden = Golden(tolerance=0.001, images=[IMAGE, IMAGE])
    right = answer(("rose", 0.6), ("tulip", 0.3), ("daisy", 0.05))
    wrong = answer(("daisy", 0.9), ("tulip", 0.05), ("rose", 0.05))
    assert mismatch(golden, [right, right]) is None
    assert mismatch(golden, [right, wrong]) == (
        "golden image 2 of 2 should be answered 'rose' 0.6, 'tulip' 0.3 and is answered 'daisy' 0.9, 'tulip' 0.05; scores may"
        " differ by 0.001"
    )
