"""OpenAI-compatible API for the zoo's language models, for the `openai` client and chat front ends.

https://platform.openai.com/docs/api-reference
"""

import time
from collections.abc import Callable
from typing import Any

import orjson

from serving.catalogue import Catalogue
from serving.child_process import ChildProcesses
from serving.exchange import Exchange
from serving.inference import Inference
from serving.problem import let_go, not_ready
from serving.protocols.openai.inference import OpenAIInference
from serving.protocols.openai.preparation import language_model
from serving.protocols.openai.problem import openai_problem_of
from serving.routes import Handler, Routes
from serving.turns import ClientLeft, Turns
from zoo.tasks.language_modelling import LanguageModelling

ONE_MODEL = "/v1/models/"  # followed by the model's name
OWNER = "model-zoo"
KIND = LanguageModelling.model_fields["kind"].default


class OpenAIProtocol:
    """Answers each exchange at a path under `/v1`."""

    def __init__(
        self,
        inference: Inference,
        turns: Turns,
        children: ChildProcesses,
        catalogue: Callable[[], Catalogue | None],
        deadline: float,
        generations: int,
    ) -> None:
        """`catalogue` returns the current snapshot; for the others, see `OpenAIInference`."""
        self._catalogue = catalogue
        self._begun = int(time.time())
        self._inference = openai = OpenAIInference(
            inference, turns, children, self._snapshot, deadline, generations
        )
        paths: dict[str, tuple[str, Handler]] = {
            "/v1/models": ("GET", self._list_models),
            "/v1/completions": ("POST", openai.complete),
            "/v1/chat/completions": ("POST", openai.chat),
        }
        self._routes = Routes(paths, ONE_MODEL, self._show_model)

    def handler(self, path: str, method: str) -> Handler:
        """Returns the handler of a path and method; raises `Problem` 404 or 405 if there is none."""
        return self._routes.handler(path, method)

    def close(self) -> None:
        """Stops the process that compiles schemas, if there is one."""
        self._inference.close()

    async def __call__(self, exchange: Exchange) -> None:
        """Answers an exchange; errors become error responses."""
        try:
            await self.handler(exchange.path, exchange.method)(exchange)
        except ClientLeft as error:  # nobody is left to answer
            let_go(error)
        except Exception as error:
            await exchange.refuse(openai_problem_of(error))

    async def _list_models(self, exchange: Exchange) -> None:
        catalogue = self._snapshot()
        models = [self._entry(catalogue, entry.name) for entry in catalogue.entries if entry.kind == KIND]
        await exchange.answer(200, orjson.dumps({"object": "list", "data": models}))

    async def _show_model(self, exchange: Exchange) -> None:
        name = exchange.path.removeprefix(ONE_MODEL)
        await exchange.answer(200, orjson.dumps(self._entry(self._snapshot(), name)))

    def _entry(self, catalogue: Catalogue, name: str) -> dict[str, Any]:
        task, served = language_model(catalogue, name)
        return {
            "id": name,
            "object": "model",
            "created": self._begun,  # start of this service: the time of training is not known here
            "owned_by": OWNER,
            "chat": task.chat is not None,
            "lineage": served.lineage_json,
        }

    def _snapshot(self) -> Catalogue:
        catalogue = self._catalogue()
        if catalogue is None:
            raise not_ready()
        return catalogue
