"""Reads what the model server should serve. An answer that cannot be read changes nothing: the caller keeps the last one."""

from pydantic import ValidationError

from expansion_contract import layout
from expansion_contract.version import ServingDocument
from expansion_storage import ObjectMissing, Prefix


class DesiredError(Exception):
    """serving.json is there and says nothing that can be followed."""


def read(output: Prefix, model_name: str) -> ServingDocument | None:
    """None: there is nothing to serve yet. Who leads the operators is none of our business. Raises DesiredError and StorageError."""
    try:
        content = output.read(layout.SERVING)
    except ObjectMissing:
        return None
    address = output.address(layout.SERVING)
    try:
        document = ServingDocument.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise DesiredError(
            f"{address} cannot be read: {where}: {first['msg']}. The operator writes it again at its next turn."
        ) from None
    if document.model_name != model_name:
        raise DesiredError(
            f"{address} is for the model {document.model_name!r}, this pod serves {model_name!r}. Give each resource its own"
            " spec.output.models."
        )
    return document.model_copy(update={"term": 0})
