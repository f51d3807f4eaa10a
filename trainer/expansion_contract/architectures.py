"""The networks that can be grown, by name: known here so that a wrong name is refused before a GPU is asked for."""

from difflib import get_close_matches

EFFICIENTNET_LITE0 = "EfficientNetLite0"

KERAS = (
    "Xception",
    "VGG16",
    "VGG19",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNet50V2",
    "ResNet101V2",
    "ResNet152V2",
    "InceptionV3",
    "InceptionResNetV2",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "NASNetMobile",
    "NASNetLarge",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2S",
    "EfficientNetV2M",
    "EfficientNetV2L",
    "ConvNeXtTiny",
    "ConvNeXtSmall",
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtXLarge",
)
"""keras.applications' classifiers; a test compares this list with the installed Keras."""

ALL = (EFFICIENTNET_LITE0, *KERAS)


def problem_with(architecture: str) -> str | None:
    """Why no such network can be grown, with the nearest names; None if it can."""
    if architecture in ALL:
        return None
    near = get_close_matches(architecture, ALL, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"spec.base.pretrained.architecture {architecture!r} is not known.{hint} Known: {', '.join(ALL)}."
