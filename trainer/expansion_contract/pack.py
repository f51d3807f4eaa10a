"""What a pack says of itself: `pack/pack.json`, which names the network its bottlenecks come from and every file beside it."""

from expansion_contract.report import Category, File
from expansion_contract.schema import Lenient

FORMAT_VERSION = 1
"""Raised when an older release would misread the files."""


class Extractor(Lenient):
    """Everything that turns an image into a bottleneck. Two packs can be used together only if all of it agrees."""

    architecture: str
    weights: str
    """SHA-256 of the network's weights."""
    layer: str
    """Whose output the bottleneck is."""
    bottleneck_size: int
    input_size: int
    """Pixels, square."""
    preprocessing: str
    """Of pixels, by name."""
    decoding: str
    """Version of decoding and resizing."""

    def __str__(self) -> str:
        return (
            f"{self.architecture} (weights {self.weights[:12]}, {self.layer}, {self.bottleneck_size} numbers,"
            f" {self.input_size} pixels, preprocessing {self.preprocessing}, decoding {self.decoding})"
        )

    def differences(self, other: "Extractor") -> tuple[str, ...]:
        """The names of what does not agree."""
        fields = type(self).model_fields
        return tuple(name for name in fields if getattr(self, name) != getattr(other, name))


class Expansion(Lenient):
    """How the answers of one expansion were brought to the base's scale. Each solves the rows of earlier ones again, so that the last
    one's words count for all added categories."""

    offset: float = 0.0
    """Of the added logits; it is folded into the rows."""
    scale: float = 1.0
    """Of how far an added logit is ahead of the highest of the pretrained network's; it is not."""


class PackDocument(Lenient):
    format_version: int = FORMAT_VERSION
    extractor: Extractor
    precision: str
    """In which the bottlenecks were computed: float32 or tensorfloat32."""
    salt: str
    """Under which the contents' digests chose the real bottlenecks."""
    categories: list[Category]
    """In the order of the head's columns."""
    temperature: float
    """scores = softmax(logits / temperature), after the scale"""
    expansions: list[Expansion] = []
    """The first is group 1; group 0 is the pretrained network's."""
    images: str = ""
    """Digest of the listing it was made from; empty in a published version."""
    files: list[File]
    """Everything else in the folder."""
