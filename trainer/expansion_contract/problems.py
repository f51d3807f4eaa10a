"""Turns pydantic's errors about a resource into sentences with the path as the user would type it."""

from typing import Any

from pydantic import ValidationError

_LONGEST = 200
"""Characters of a value that are repeated."""


class SpecError(ValueError):
    """The resource asks for something that cannot be; only editing it helps."""


def sentences(error: ValidationError) -> tuple[str, ...]:
    """`spec.split.testPercent: Input should be less than or equal to 50, got 60.`"""
    return tuple(_sentence(detail) for detail in error.errors(include_url=False))


def _sentence(detail: Any) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{message}."
    where = path(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where}: there is no such field."
    if detail["type"] == "missing":
        return f"{where} is required."
    if detail["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        message = "must be a mapping of names to values"  # pydantic's words name our classes
    return f"{where}: {message[0].lower()}{message[1:]}, got {_clipped(repr(detail['input']))}."


def _clipped(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}… ({len(value)} characters)"


def path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
