"""Measures what a local process and its children hold in memory."""

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(process: int) -> int:
    """0 for a process that is gone. Shared pages count once for each process, so this is an upper bound."""
    folder = Path("/proc") / str(process)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        listed = [task.read_text().split() for task in folder.glob("task/*/children")]
    except (OSError, IndexError, ValueError):
        return 0
    return pages * _PAGE + sum(resident_bytes(int(child)) for children in listed for child in children)
