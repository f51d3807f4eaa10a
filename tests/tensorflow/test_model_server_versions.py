"""Which versions the stand-in loads and unloads: TensorFlow Serving's rules, each test with its source.

Paths are below tensorflow_serving/ in github.com/tensorflow/serving.
"""

from pathlib import Path

import pytest

from expansion_development.model_server import protos
from expansion_development.model_server.errors import StatusError
from expansion_development.model_server.sources import Stage, aspired, next_action

pytestmark = pytest.mark.tensorflow


def asked_for(base: Path, policy: str = "") -> list[int]:
    text = f'name: "m" base_path: "{base}" model_platform: "tensorflow" {policy}'
    return sorted(aspired(protos.parsed_text("ModelConfig", text)))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("1", "2", "00003", ".4.tmp", "5.partial", "_6", "seven", "8x"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        pytest.param("", [3], id="latest one is the default"),
        pytest.param("model_version_policy { latest { num_versions: 2 } }", [2, 3], id="latest two"),
        pytest.param("model_version_policy { all {} }", [1, 2, 3], id="all"),
        pytest.param("model_version_policy { specific { versions: 1 versions: 3 } }", [1, 3], id="specific"),
        pytest.param("model_version_policy { specific { versions: 9 } }", [], id="specific and not there"),
    ],
)
def test_only_names_that_parse_as_integers_are_versions(base: Path, policy: str, versions: list[int]):
    """sources/storage_path/file_system_storage_path_source.cc: ParseVersionNumber, Aspire{All,Latest,Specific}Versions."""
    assert asked_for(base, policy) == versions


def test_a_base_path_that_is_missing_is_an_error_and_an_empty_one_asks_for_nothing(tmp_path: Path):
    """sources/storage_path/file_system_storage_path_source.cc: PollFileSystemForServable."""
    with pytest.raises(StatusError, match="Could not find base path"):
        asked_for(tmp_path / "missing")
    assert asked_for(tmp_path) == []


@pytest.mark.parametrize(
    ("stages", "wanted", "action"),
    [
        pytest.param({7: Stage.READY, 8: Stage.NEW}, {8}, ("load", 8), id="load before unloading"),
        pytest.param({7: Stage.READY, 8: Stage.LOADING}, {8}, None, id="the old one waits for the new one"),
        pytest.param({7: Stage.READY, 8: Stage.READY}, {8}, ("unload", 7), id="now the old one may go"),
        pytest.param(
            {7: Stage.READY, 8: Stage.FAILED}, {8}, None, id="the old one stays if the new one fails"
        ),
        pytest.param({7: Stage.READY}, set(), ("unload", 7), id="nothing wanted unloads all"),
        pytest.param({7: Stage.NEW, 8: Stage.NEW}, {7, 8}, ("load", 8), id="the highest first"),
        pytest.param(
            {6: Stage.READY, 7: Stage.READY, 8: Stage.NEW},
            {8},
            ("unload", 6),
            id="of two old ones one is enough",
        ),
    ],
)
def test_an_old_version_goes_only_when_a_new_one_is_there(
    stages: dict[int, Stage], wanted: set[int], action: tuple[str, int] | None
):
    """core/availability_preserving_policy.cc: GetNextAction."""
    assert next_action(stages, wanted) == action


def test_a_config_with_labels_is_read():
    """config/model_server_config.proto; the text form of g3doc/serving_config.md."""
    text = """model_config_list { config { name: "clf" base_path: "/models/clf" model_platform: "tensorflow"
      model_version_policy { specific { versions: 7 versions: 8 } }
      version_labels { key: "stable" value: 7 } version_labels { key: "canary" value: 8 } } }"""
    config = protos.parsed_text("ModelServerConfig", text).model_config_list.config[0]
    assert dict(config.version_labels) == {"stable": 7, "canary": 8}
    with pytest.raises(StatusError, match="Error parsing text-format ModelServerConfig"):
        protos.parsed_text("ModelServerConfig", "model_config_list { conf")
