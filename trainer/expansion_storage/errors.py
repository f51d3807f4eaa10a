"""What can go wrong with storage, said once: the class tells what follows, the message what to do."""

from typing import Self


class StorageError(Exception):
    """`reason` is one word for a condition; the message names the address, what happened and what now."""

    reason = "StorageError"

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason


class StorageRefused(StorageError):
    """The store answered no (credentials, permission, bucket, address): only a person can change that."""

    reason = "StorageRefused"


class StorageUnavailable(StorageError):
    """The store did not answer, or asked to come back later: worth trying again."""

    reason = "StorageUnavailable"


class ObjectChanged(StorageError):
    """It is not what was read any more: somebody else has written it, and whoever wanted to must look again."""

    reason = "ObjectChanged"

    @classmethod
    def at(cls, address: str) -> Self:
        return cls(f"{address} has been written by somebody else since it was read; it is read again.")


class ObjectMissing(StorageError):
    """There is no such object."""

    reason = "ObjectMissing"
