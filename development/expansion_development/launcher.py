"""Runs a program that dies with its parent, in a child that has few threads and no locks to inherit: `launcher PARENT PROGRAM...`.

A preexec_fn would do the same inside a process full of threads, where it can hang.
The signal follows the *thread* that started the program: start long-lived programs from threads that live as long.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was asked for
        os._exit(1)
    try:
        os.execvpe(program[0], program, os.environ)
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main()
