"""The base classes of every document that crosses a process boundary, and rules said once for Python and for CEL."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One cross-field rule: the API server evaluates `cel`, Python evaluates `holds`, both answer with `message`.

    `holds` is None where only a cluster can break the rule (a local folder is fine on a laptop).
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None


class Strict(BaseModel):
    """Written by strangers: unknown fields are errors, values never change after parsing."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise ValueError(rule.message)
        return self

    def to_wire(self) -> dict[str, Any]:
        """As it stands in YAML or JSON: camelCase, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> bytes:
        """As it lies in storage."""
        return f"{json.dumps(self.to_wire(), indent=1, ensure_ascii=False)}\n".encode()


class Lenient(Strict):
    """Written by another release of ours: unknown fields are ignored, so a newer trainer can answer an older operator."""

    model_config = ConfigDict(extra="ignore")
