"""Runs a process node until it is told to stop; everything it started ends with it."""

import argparse
import logging
import signal
import sys
from pathlib import Path

from expansion_development.process_node.node import Node, Settings


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="expansion_development.process_node", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="JSON: image -> local program")
    parser.add_argument("--folder", type=Path, required=True, help="for logs, volumes and working folders")
    parser.add_argument("--gpus", type=int, default=0, help="how many nvidia.com/gpu to pretend")
    parser.add_argument("--cpus", type=int, default=16, help="how many CPUs to pretend")
    parser.add_argument("--back-off", type=float, default=1.0, help="first pause before a restart, seconds")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    node = Node(
        Settings(
            kubeconfig=given.kubeconfig,
            images=given.images,
            folder=given.folder.resolve(),
            gpus=given.gpus,
            cpus=given.cpus,
            back_off_seconds=given.back_off,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop())
    print(f"Logs of containers: {given.folder.resolve()}/logs/<namespace>/<pod>/<container>.log", flush=True)
    node.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
