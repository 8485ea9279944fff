"""Conversion of the Open Inference Protocol's texts to and from requests and answers of typed endpoints."""

from typing import Any

from pydantic import ValidationError

from serving.memory import Body
from serving.protocols.v2.model import TEXT_INPUT
from serving.protocols.v2.request import json_object, member, require_few_values
from zoo.errors import InvalidInput
from zoo.tasks import Task
from zoo.tasks.base import Request
from zoo.tasks.language_modelling import LanguageModelling

SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop")
BEAMS = ("beam_size", "max_tokens")
OF_THE_PROTOCOL = {
    "timeout",
    "priority",
    "binary_data_output",
    "sequence_id",
    "sequence_start",
    "sequence_end",
}
"""Parameters of the protocol, which are not passed to the task."""
REPORTED = 5  # maximum number of wrong parameters that a message names


def requests_for(task: Task, texts: list[str], parameters: dict[str, Any]) -> list[Request]:
    """Returns one request per text, or one for all if the kind takes several texts.

    Raises `InvalidInput`, which names the invalid parameters.
    """
    one_each = isinstance(task, LanguageModelling)
    allowed = SAMPLING if one_each else BEAMS
    given = {name: value for name, value in parameters.items() if name not in OF_THE_PROTOCOL}
    if unknown := given.keys() - set(allowed):
        named = ", ".join(name[:64] for name in sorted(unknown)[:REPORTED])
        raise InvalidInput(f"no parameter {named}; the model takes {', '.join(allowed)}")
    fields = [{"prompt": text} for text in texts] if one_each else [{"text": texts, "scores": False}]
    try:
        return [task.request_type.model_validate({"model": "-", **given, **own}) for own in fields]
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)[:REPORTED]
        raise InvalidInput("; ".join(f"{d['loc'][0]}: {d['msg']}" for d in details)) from None


def texts_of(answer: dict[str, Any]) -> list[str]:
    """Returns the written texts of an answer of a typed endpoint."""
    texts: list[str] = answer["texts"] if "texts" in answer else [answer["text"]]
    return texts


def parse_generate(body: Body, streamed: bool) -> tuple[str, dict[str, Any]]:
    """Returns the text and the parameters of a body; parameters are beside the text or under `parameters`.

    Triton's clients repeat there, as `stream`, whether the answer is streamed.
    """
    require_few_values(body)
    fields = json_object(body)
    text = member(fields, TEXT_INPUT, str)
    nested = member(fields, "parameters", dict, {})
    flat = {name: value for name, value in fields.items() if name not in (TEXT_INPUT, "parameters", "id")}
    if twice := _given(flat) & _given(nested):
        raise InvalidInput(f"{sorted(twice)[0][:64]} is given twice")
    parameters = {**flat, **nested, **{name: flat[name] for name in _given(flat)}}
    if member(parameters, "stream", bool, streamed) is not streamed:
        raise InvalidInput(
            "stream: POST to generate_stream for a stream, to generate for an answer as a whole"
        )
    parameters.pop("stream", None)
    return text, parameters


def _given(parameters: dict[str, Any]) -> set[str]:
    return {name for name, value in parameters.items() if value is not None}
