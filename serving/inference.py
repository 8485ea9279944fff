"""Inference for all dialects: a dialect parses a request, calls this module and renders the result.

Only this module decides whether champion or challenger answers, counts texts, records inputs for drift and
keeps outputs for the comparison of the two.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from serving.catalogue import Served
from serving.contest import Contest
from serving.context import RequestContext
from serving.engine import Engine
from zoo.errors import InvalidInput
from zoo.tasks import Arrays
from zoo.tasks.base import Generation

log = logging.getLogger(__name__)


class Inference:
    """Runs served versions for requests of any dialect."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def assign(self, context: RequestContext, served: Served, *, exact: bool = False) -> Served:
        """Returns the version that answers: the challenger for its share of the requests, else the champion.

        `exact` is True if the request named a version, which then answers.
        """
        if served.challenge is not None and not exact:
            context.contest = Contest(served, served.challenge, context.key)
            served = context.contest.answering
        context.timing.model, context.timing.version = served.manifest.model, served.version
        return served

    async def predict(
        self, context: RequestContext, served: Served, inputs: Arrays, *, own: bool = True
    ) -> Arrays:
        """Returns the outputs of a version's graph for inputs.

        `own` is False for an additional run of the same model, such as for a heat map: its inputs do not
        count for drift, and its outputs are not compared with a challenger's. Raises the errors of
        `Engine.run`, and `InvalidInput` if the graph cannot process the inputs or an output is not finite, as
        JSON has no such numbers.
        """
        try:
            outputs = await self._engine.run(served.loaded, inputs, context)
        except InvalidArgument as error:  # valid for the graph's signature, but not for one of its operators
            log.warning("%s version %s: %s", served.manifest.model, served.version, error)
            raise InvalidInput("the model's graph cannot compute with inputs of this shape") from None
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InvalidInput(f"{name}: beyond the range of {array.dtype}; the inputs are too large")
        if own:
            served.loaded.asked.add(inputs)
            if context.contest is not None:
                context.contest.computed(inputs, outputs)
        return outputs

    async def generate(
        self, context: RequestContext, served: Served, generation: Generation, *, first: bool = True
    ) -> AsyncGenerator[str, None]:
        """Yields the pieces of the text that a version generates. Raises the errors of `Engine.pieces`.

        A language model's text that has begun ends at the deadline as it is. Nothing more is computed once
        the iterator is closed. `first` is False if another text for the same prompt was begun before.
        """
        context.timing.rows += generation.rows
        noted = not first  # the prompt counts once
        async with aclosing(self._engine.pieces(generation, context, served.loaded)) as pieces:
            async for piece in pieces:
                if not noted:
                    noted = True
                    served.loaded.asked.add(generation.inputs)
                yield piece
        if not noted:  # some kinds of generations have no pieces
            served.loaded.asked.add(generation.inputs)
