"""One way to reach objects, in S3-compatible storage or in a local folder, with errors a person can act on.

Beside the contract the only package that operator, trainer and model-sync share; nothing here knows what the objects mean.
"""

from expansion_storage.address import Credentials, open_prefix
from expansion_storage.errors import (
    ObjectChanged,
    ObjectMissing,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from expansion_storage.prefix import Entry, Prefix, Tagged

__all__ = [
    "Credentials",
    "Entry",
    "ObjectChanged",
    "ObjectMissing",
    "Prefix",
    "StorageError",
    "StorageRefused",
    "StorageUnavailable",
    "Tagged",
    "open_prefix",
]
