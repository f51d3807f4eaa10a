"""What the operator is started with, and how it refuses what makes no sense."""

import pytest

from expansion_operator.options import options

NEEDED = ["--trainer-image", "t:1", "--model-sync-image", "m:1", "--all-namespaces"]


def test_everything_is_looked_at_once_an_hour_if_nothing_is_said() -> None:
    assert options(NEEDED, {}).full_look_seconds == 3600


def test_the_environment_says_what_a_flag_does_not() -> None:
    environment = {"EXPANSION_FULL_LOOK_SECONDS": "600"}
    assert options(NEEDED, environment).full_look_seconds == 600
    assert options([*NEEDED, "--full-look-seconds", "60"], environment).full_look_seconds == 60


@pytest.mark.parametrize("text", ["0", "9", "-1", "1h", ""])
def test_a_time_that_makes_no_sense_is_refused_with_the_rule(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options([*NEEDED, f"--full-look-seconds={text}"], {})
    assert "give a whole number, 10 or more" in capsys.readouterr().err
