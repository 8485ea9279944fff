"""Recipes for SmolLM2, a pretrained model: as published, and adapted to conversations or texts."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training import figures, smollm2
from training.datasets import Data, chat_pairs, python_topics, text_file
from training.export import as_run
from training.gguf_model import ImportedModel
from training.low_rank import LowRank, additions
from training.objectives.adaptation import Adaptation, answers
from training.objectives.base import Objective
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.report import Report, Trained
from zoo.models.llama import Llama, LlamaStep
from zoo.tasks import Arrays, Task
from zoo.tasks.chat import Chat
from zoo.tasks.conversations import CONVERSATIONS
from zoo.tasks.language_modelling import OPENING, LanguageModelling
from zoo.tasks.memory import KeyValueCache

GENERAL_ROWS, GENERAL_CONTEXT = 16, 256  # of the text that measures the loss of general ability


@dataclass(frozen=True, kw_only=True)
class SmolLM2Recipe(Recipe):
    """SmolLM2-135M-Instruct (Ben Allal et al. 2025) as published or, with epochs above 0, adapted by LoRA."""

    epochs: int = 0
    """Passes over the training split; 0 keeps the published weights."""
    batch_size: int = 16
    validation_share: float = 0.05
    """Share of the training split held out for validation if the data set has no such split."""
    context: int = 256
    """Number of tokens per sequence in training and evaluation."""
    low_rank: LowRank = LowRank()
    optimizer: Optimizer = Optimizer("adamw", 1e-3, schedule="cosine", warmup=0.1)
    clip: float = 1.0
    """Maximum norm of the gradient; larger gradients are clipped."""

    architecture: ClassVar[str] = "smollm2"
    paper: ClassVar[str] = "Ben Allal et al. 2025"
    parameters: ClassVar[int] = 134_515_008
    kinds: ClassVar[tuple[str, ...]] = ("language_modelling",)
    least_epochs: ClassVar[int] = 0

    @property
    def dataset_name(self) -> str:
        if self.dataset.startswith(chat_pairs.PREFIX):
            return chat_pairs.dataset_name(self.dataset)
        return text_file.dataset_name(self.dataset)

    @cached_property
    def imported(self) -> ImportedModel:
        """Published model, as imported from its file."""
        return smollm2.load()

    def load_data(self) -> Data:
        chats = self.dataset.startswith(chat_pairs.PREFIX)
        data = (chat_pairs.load_conversations if chats else text_file.load_text)(self.dataset)
        if data.kind not in self.kinds:
            return data  # fitting a task to it fails
        held = chat_pairs.hold_out_conversations if CONVERSATIONS in data.train else text_file.hold_out_end
        return held(data, self.validation_share)

    def fit_task(self, data: Data) -> Task:
        self.check_kind(data)
        model, config = self.imported, self.imported.config
        memory = KeyValueCache(layers=config.layers, heads=config.key_value_heads, width=config.head_width)
        return LanguageModelling(
            tokenizer=model.tokenizer.to_str(),
            opening=_opening(data),
            context=self.context,
            memory=memory,
            places=model.context,
            chat=Chat(template=model.chat_template, ends=model.ends),
        )

    def build_model(self, task: Task) -> nn.Module:
        model = self.published()
        if self.epochs:
            self.low_rank.adapt(model)
        return model

    def published(self) -> Llama:
        """Returns a model with the published weights."""
        with torch.device("meta"):  # skips the random initial weights, which are replaced anyway
            model = Llama(self.imported.config, self.imported.tokenizer.get_vocab_size())
        weights = {name: torch.from_numpy(weight) for name, weight in self.imported.weights.items()}
        model.load_state_dict(weights, assign=True)
        return model

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(model, Llama)
        assert isinstance(task, LanguageModelling)
        return Adaptation(model, task, self.optimizer, fabric, max(1, steps), self.clip)

    def kept_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Returns only the low-rank additions; all other weights are in the published file."""
        return additions(model) if self.epochs else {}

    def report(self, trained: Trained) -> Report:
        """Reports the model's answers; for an adapted model also perplexities before and after adaptation."""
        assert isinstance(trained.task, LanguageModelling)
        said = answers(trained.module, trained.task).splitlines()
        reported = Report(sections=["## What it answers", "", *(f"    {line}" for line in said), ""])
        if self.epochs:
            reported.figures["learning_curves"] = figures.learning_curves(trained.progress.history)
            self._compare(trained, trained.task, reported)
        return reported

    def _compare(self, trained: Trained, task: LanguageModelling, reported: Report) -> None:
        with torch.device("meta"):
            model = Llama(self.imported.config, task.vocabulary)
            self.low_rank.adapt(model)
        added = sum(tensor.numel() for tensor in additions(model).values())
        before = as_run(LlamaStep(self.published()).eval(), task)
        general = _general_examples(task)
        reported.metrics |= {
            "adapter_parameters": float(added),
            "perplexity_before": task.evaluate(before, trained.data.test)["perplexity"],
            "general_perplexity": task.evaluate(trained.run, general)["perplexity"],
            "general_perplexity_before": task.evaluate(before, general)["perplexity"],
        }
        rows = [f"| {name} | {value:.6g} |" for name, value in reported.metrics.items()]
        reported.sections += [
            "## What adaptation changed",
            "",
            f"{added:,} numbers ({4 * added / 1e6:.1f} MB) were learned and added to those of "
            f"{smollm2.NAME}. The `general` text is the test split of {python_topics.NAME}.",
            "",
            "| metric | value |",
            "|---|---|",
            *rows,
            "",
        ]


def _general_examples(task: LanguageModelling) -> Arrays:
    """Returns rows of a text that every Python installation contains."""
    rows = task.model_copy(update={"context": GENERAL_CONTEXT}).examples(python_topics.load().test)
    return {name: array[:GENERAL_ROWS] for name, array in rows.items()}


def _opening(data: Data) -> str:
    """Returns the beginning of the training text, or of the first conversation."""
    if CONVERSATIONS not in data.train:
        return data.train["text"].tobytes().decode()[:OPENING]
    line = data.train[CONVERSATIONS].tobytes().decode().partition("\n")[0]
    return str(json.loads(line)["messages"][0]["content"])[:OPENING]


IMPORT = SmolLM2Recipe(dataset="python-topics", validation_share=0.0, bar=1.0)
CHAT_RECIPE = SmolLM2Recipe(dataset="chat:PATH", epochs=2)
TEXT_RECIPE = SmolLM2Recipe(dataset="text:PATH", epochs=1)
RECIPES = ()
# The published model has 0.99 bits per character on ChatterBot's answers.
LONG_RECIPES = (IMPORT, replace(CHAT_RECIPE, dataset="chatterbot", bar=0.75))
