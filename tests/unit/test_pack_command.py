"""What `expansion pack build` says before it computes anything, and how it tells how far it is."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from expansion_contract.report import Progress
from expansion_trainer import resource_file
from expansion_trainer.command_line import main
from expansion_trainer.resource_file import Refused

GIVEN = ["pack", "build", "--architecture", "EfficientNetLite0", "--images", "photos", "--out", "pack"]


@pytest.mark.parametrize(
    "arguments",
    [["pack"], ["pack", "build"], GIVEN[:-2], [*GIVEN[:4], *GIVEN[6:]], ["pack", "explode"]],
    ids=["no action", "nothing", "no --out", "no --images", "unknown action"],
)
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: expansion pack" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(["--weights", "w.h5"], "--weights and --sha256 go together", id="no digest"),
        pytest.param(["--sha256", "0" * 64], "--weights and --sha256 go together", id="no weights"),
        pytest.param(["--weights", "w.h5", "--sha256", "0"], "weights.sha256", id="no SHA-256"),
        pytest.param(
            ["--architecture", "EfficientNetLite1"],
            "--architecture 'EfficientNetLite1' is not known. Did you mean EfficientNetLite0",
            id="unknown network",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(capsys, more, message):
    assert main([*GIVEN, *more]) == 1
    assert message in capsys.readouterr().err


def test_local_weights_are_relative_to_where_the_command_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = resource_file.pretrained("MobileNetV2", "w.h5", "0" * 64)
    assert given.weights.uri == str(tmp_path / "w.h5")
    assert resource_file.pretrained("MobileNetV2", None, None).weights.name == "imagenet"
    with pytest.raises(Refused):
        resource_file.pretrained("MobileNetV2", "w.h5", None)


def test_help_and_refusals_do_without_tensorflow():
    asked = [["pack", "build", "--help"], [*GIVEN, "--weights", "w.h5"]]
    program = f"""
import sys
from expansion_trainer.command_line import main
for arguments in {json.dumps(asked)}:
    try:
        main(arguments)
    except SystemExit:
        pass
    assert not {{"tensorflow", "keras", "scipy"}} & set(sys.modules), arguments
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_progress_counts_what_was_taken_up_but_not_as_speed():
    from expansion_trainer.packs.pace import Pace

    shown: list[Progress] = []
    moments = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=10 * n) for n in range(9))
    pace = Pace(total=1000, message="through the network", show=shown.append, clock=lambda: next(moments))
    for done in (400, 450, 600):
        pace.tell(done)
    assert [progress.percent for progress in shown] == [40, 45, 60]
    assert [progress.images_per_second for progress in shown] == [None, 5, 10]
    assert [progress.eta_seconds for progress in shown] == [None, 110, 40]
    assert shown[0].message == "through the network"
