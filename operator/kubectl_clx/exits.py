"""How `kubectl clx` ends; scripts may rely on it."""

from enum import IntEnum


class Exit(IntEnum):
    """The codes from 10 are `diff`'s: what the edit does. Of several effects, the dearest."""

    DONE = 0
    """What was asked was done. `diff`: the edit changes nothing that is trained, published or served."""
    PROBLEM = 1
    """It was not done; stderr says why, and what now."""
    USAGE = 2
    RUN_FAILED = 3
    """`logs -f`: the run it followed has failed."""
    SERVING = 10
    """The model servers change; the model does not."""
    GATE = 11
    """The gate is asked again about a model that is there."""
    PUBLISH = 12
    """Another model that is there is published or served."""
    TRAIN = 13
    """A Job trains."""
    STOP = 14
    """A run under way is stopped, or none is started until the resource is resumed."""
    REFUSED = 15
    """The edit is refused by the API server or by the operator."""
    UNKNOWN = 16
    """It cannot be said before the images are listed again."""
