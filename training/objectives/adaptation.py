"""Low-rank adaptation: minimises a decoder's cross entropy by training few added parameters."""

from typing import Any

from torch import nn

from training.export import as_run
from training.low_rank import additions, merge
from training.objectives.base import Exhibits, Tensors
from training.objectives.language_modelling import NextTokenInContext
from zoo.tasks.language_modelling import GenerateTextRequest, LanguageModelling, Message

QUESTIONS = ("What is the capital of France?", "My computer is slow. What can I do?", "Tell me a joke.")


class Adaptation(NextTokenInContext):
    """Trains only the low-rank additions of a network; all other weights are frozen."""

    def export_module(self) -> nn.Module:
        """Returns the module with the additions merged into the weights."""
        step = super().export_module()
        merge(step)
        return step

    def exhibits(self) -> Exhibits:
        """Returns the model's answers to QUESTIONS."""
        return {"answers": answers(self.export_module(), self.task)}

    def weights(self) -> Tensors:
        """Returns a copy of the additions only, because the other weights do not change."""
        return {name: tensor.clone() for name, tensor in additions(self.model).items()}

    def load_weights(self, weights: Tensors) -> None:
        self.model.load_state_dict(weights, strict=False)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "weights": self.weights()}


def answers(module: nn.Module, task: LanguageModelling) -> str:
    """Returns QUESTIONS with a module's answer to each, as text."""
    run, lines = as_run(module, task), []
    for question in QUESTIONS:
        messages = [Message(role="user", content=question)]
        request = GenerateTextRequest(model="-", messages=messages, max_tokens=48, temperature=0)
        lines += [question, f"-> {task.answer(run, request)['text']}", ""]
    return "\n".join(lines)
