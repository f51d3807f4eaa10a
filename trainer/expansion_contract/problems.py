"""Turns pydantic's errors about a resource into sentences with the path as the user would type it."""

from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel


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
    return f"{where}: {message[0].lower()}{message[1:]}, got {detail['input']!r}."


def path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{to_camel(part) if '_' in part else part}"
    return text.removeprefix(".")
