"""Starts a process node as a process of its own, for tests and the demo."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from expansion_development.process_node import images
from expansion_development.process_node.images import Program
from expansion_development.processes import python_environment, start, stop


class RunningNode:
    """`images` may grow while it runs."""

    def __init__(
        self, kubeconfig: Path, folder: Path, programs: Mapping[str, Program], *options: str
    ) -> None:
        self.folder, self.log = folder, folder / "process-node.log"
        self._images, self._programs = folder / "images.json", dict(programs)
        self._arguments = [
            *(sys.executable, "-m", "expansion_development.process_node"),
            *("--kubeconfig", str(kubeconfig)),
            *("--images", str(self._images)),
            *("--folder", str(folder)),
            *options,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        images.write(self._programs, self._images)
        self.process = start(self._arguments, self.log, python_environment())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process:
            stop(self.process, grace_seconds=10)

    def add_image(self, name: str, program: Program) -> None:
        self._programs[name] = program
        images.write(self._programs, self._images)

    def logs_of(self, namespace: str, pod: str, container: str) -> str:
        file = self.folder / "logs" / namespace / pod / f"{container}.log"
        return file.read_text(errors="replace") if file.is_file() else ""
