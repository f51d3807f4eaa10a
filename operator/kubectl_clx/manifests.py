"""Reads ClassifierExpansions out of a file, and says where it is wrong. Pure."""

from typing import Any

import yaml
from pydantic import ValidationError

from expansion_contract.problems import sentences
from expansion_contract.resource import GROUP, KIND, ClassifierExpansion, parsed
from kubectl_clx.problem import Problem

Body = dict[str, Any]


def expansions(text: str, file: str) -> list[Body]:
    """Those of ours among the file's documents, at least one."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise Problem(f"{file} is no YAML: {error}") from None
    ours = [one for one in documents if isinstance(one, dict) and _is_ours(one)]
    if not ours:
        raise Problem(f"{file} has no {KIND} ({GROUP}) in it.")
    for one in ours:
        if not isinstance(one.get("metadata"), dict) or not one["metadata"].get("name"):
            raise Problem(
                f"{file}: a {KIND} without metadata.name. Give it the name that it has in the cluster."
            )
    return ours


def _is_ours(body: Body) -> bool:
    return body.get("kind") == KIND and str(body.get("apiVersion", "")).startswith(f"{GROUP}/")


def namespace_of(body: Body, chosen: str | None, default: str) -> str:
    """As kubectl has it: the file's own, which -n may repeat and not contradict."""
    own = body["metadata"].get("namespace")
    if own and chosen and own != chosen:
        raise Problem(
            f"The file says metadata.namespace {own} of {body['metadata']['name']}, and -n says {chosen}. Leave one of them out."
        )
    return str(own or chosen or default)


def resource(body: Body) -> ClassifierExpansion:
    """Raises Refusal with a sentence for each thing that the API server would refuse, too."""
    try:
        return parsed(body)
    except ValidationError as error:
        raise Refusal(" ".join(sentences(error))) from None


class Refusal(Exception):
    """What is written is no valid resource."""
