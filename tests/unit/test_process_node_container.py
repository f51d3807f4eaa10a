"""How a container becomes a local process."""

from pathlib import Path
from typing import Any

import pytest

from expansion_development.process_node.container import ConfigMissing, Mount, expanded, launch, translated
from expansion_development.process_node.images import Program

MOUNTS = (
    Mount(path="/models", local=Path("/local/a")),
    Mount(path="/models/cache", local=Path("/local/b")),
    Mount(path="/dev/termination-log", local=Path("/local/t")),
)
POD = {
    "metadata": {"name": "pod-1", "namespace": "team", "labels": {"app": "web"}},
    "spec": {},
    "status": {"podIP": "127.1.0.5"},
}
OBJECTS = {("secrets", "keys"): {"USER": "me", "PASSWORD": "open"}, ("configmaps", "settings"): {"a": "1"}}


def launched(program: Program | None = None, **container: Any) -> Any:
    return launch(
        container,
        POD,
        program or Program(entrypoint=("/bin/run",)),
        MOUNTS,
        lambda *key: OBJECTS.get(key),
    )


@pytest.mark.parametrize(
    ("text", "local"),
    [
        pytest.param("/models", "/local/a", id="the mount itself"),
        pytest.param("/models/1/x", "/local/a/1/x", id="below it"),
        pytest.param("/models/cache/x", "/local/b/x", id="the longest mount wins"),
        pytest.param("--config=/models/c", "--config=/local/a/c", id="inside an option"),
        pytest.param("/x:/models:/y", "/x:/local/a:/y", id="in a list of paths"),
        pytest.param("file:///models/x", "file:///local/a/x", id="a file's address"),
        pytest.param("s3://models/x", "s3://models/x", id="a bucket of that name"),
        pytest.param("s3://b/models", "s3://b/models", id="a prefix of that name"),
        pytest.param("/models2", "/models2", id="a longer name"),
        pytest.param("/my/models", "/my/models", id="a deeper folder"),
        pytest.param("http://host/models", "http://host/models", id="a path on a server"),
    ],
)
def test_paths_below_a_mount_become_local_and_nothing_else_does(text: str, local: str) -> None:
    assert translated(text, MOUNTS) == local


@pytest.mark.parametrize(
    ("text", "value"),
    [("$(A)-$(A)", "1-1"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("$", "$")],
)
def test_references_expand_as_kubernetes_says(text: str, value: str) -> None:
    assert expanded(text, {"A": "1"}) == value


def test_a_variable_sees_those_before_it_and_the_arguments_see_all() -> None:
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    server = {"name": "SERVER", "value": "http://$(POD_IP):8501"}
    made = launched(env=[address, server], args=["--at", "$(SERVER)"])
    assert made.arguments == ("/bin/run", "--at", "http://127.1.0.5:8501")
    assert made.environment["SERVER"] == "http://127.1.0.5:8501"


def test_own_variables_win_over_those_of_a_secret_and_these_over_the_images() -> None:
    program = Program(entrypoint=("x",), environment={"USER": "image", "PASSWORD": "image", "HOME": "/"})
    made = launched(
        program, envFrom=[{"secretRef": {"name": "keys"}}], env=[{"name": "USER", "value": "own"}]
    )
    assert {name: made.environment[name] for name in ("USER", "PASSWORD", "HOME")} == {
        "USER": "own",
        "PASSWORD": "open",
        "HOME": "/",
    }


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secret "none" not found'),
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, 'configmap "none" not found'),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}}]},
            "couldn't find key x in Secret team/keys",
        ),
    ],
)
def test_what_is_missing_is_named_as_a_kubelet_names_it(container: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigMissing) as problem:
        launched(**container)
    assert str(problem.value) == message


def test_what_is_missing_and_optional_is_left_out() -> None:
    source = {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}
    made = launched(
        envFrom=[{"secretRef": {"name": "none", "optional": True}}], env=[{"name": "A", "valueFrom": source}]
    )
    assert set(made.environment) == {"EXPANSION_TERMINATION_LOG"}


def test_a_program_named_by_its_path_in_the_image_is_replaced_by_the_local_one() -> None:
    program = Program(programs={"/usr/bin/server": ("python", "-m", "server")})
    made = launched(program, command=["/usr/bin/server"], args=["--config=/models/c"])
    assert made.arguments == ("python", "-m", "server", "--config=/local/a/c")


def test_the_termination_log_is_told_by_its_variable() -> None:
    assert launched().environment["EXPANSION_TERMINATION_LOG"] == "/local/t"
