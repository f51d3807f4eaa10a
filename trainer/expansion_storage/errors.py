"""What can go wrong with storage, said once: the class tells what follows, the message what to do."""


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


class ObjectMissing(StorageError):
    """There is no such object."""

    reason = "ObjectMissing"
