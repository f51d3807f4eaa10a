"""Gives pods loopback addresses that nobody else on this machine has, without root: all of 127.0.0.0/8 is ours to bind."""

import random
import socket

_GUARD_PORT = 12794
"""Held open for as long as the address is in use, so that another node on the machine takes another address."""
_ADDRESSES = 256 * 254


class Addresses:
    def __init__(self) -> None:
        self._next = random.SystemRandom().randrange(_ADDRESSES)
        self._guards: dict[str, socket.socket] = {}

    def take(self) -> str:
        for _ in range(_ADDRESSES):
            self._next = (self._next + 1) % _ADDRESSES
            address = f"127.1.{self._next // 254}.{self._next % 254 + 1}"
            guard = socket.socket()
            try:
                guard.bind((address, _GUARD_PORT))
            except OSError:
                guard.close()
                continue
            self._guards[address] = guard
            return address
        raise OSError("Every address of 127.1.0.0/16 is taken.")

    def give_back(self, address: str) -> None:
        if guard := self._guards.pop(address, None):
            guard.close()
