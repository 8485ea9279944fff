"""Recipes for the Transformer, on pairs of texts: translations, numbers in words, and summaries."""

from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_fabric import Fabric
from torch import nn

from training.datasets import Data, pairs
from training.objectives.base import Objective
from training.objectives.sequence_to_sequence import NextTargetToken
from training.optimizer import Optimizer
from training.recipe import Recipe
from training.report import Report, Trained
from training.text_metrics import summary_metrics, translation_metrics
from training.text_report import add_texts
from zoo.errors import ZooError
from zoo.models.transformer import Transformer, TransformerConfig
from zoo.tasks import Run, Task
from zoo.tasks.sequence_to_sequence import SequenceToSequence


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe(Recipe):
    """The Transformer, attention instead of recurrence (Vaswani et al. 2017)."""

    model: TransformerConfig = TransformerConfig()
    optimizer: Optimizer = Optimizer()
    vocabulary: int = 4000
    """Number of tokens of the byte-pair encoding, which source and target share."""
    label_smoothing: float = 0.1
    """Probability mass moved from the target token to all tokens."""
    clip: float = 1.0
    """Maximum norm of the gradient; larger gradients are clipped."""
    no_repeat_ngram_size: int = 0
    """Length of n-grams that no answer may repeat; 0 allows all."""

    architecture: ClassVar[str] = "transformer"
    paper: ClassVar[str] = "Vaswani et al. 2017"
    parameters: ClassVar[int] = 418_176
    kinds: ClassVar[tuple[str, ...]] = ("sequence_to_sequence",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip <= 0:
            raise ZooError(f"clip must be above 0, not {self.clip}")
        if self.no_repeat_ngram_size < 0:
            raise ZooError(f"no_repeat_ngram_size must be at least 0, not {self.no_repeat_ngram_size}")

    @property
    def dataset_name(self) -> str:
        return pairs.dataset_name(self.dataset)

    def load_data(self) -> Data:
        data = pairs.load_pairs(self.dataset)
        return replace(data, schema=replace(data.schema, vocabulary=self.vocabulary))

    def fit_task(self, data: Data) -> Task:
        model = self.model
        cache = model.layers, model.heads, model.width // model.heads
        update = {"cache_shape": cache, "no_repeat_ngram_size": self.no_repeat_ngram_size}
        return super().fit_task(data).model_copy(update=update)

    def build_model(self, task: Task) -> nn.Module:
        assert isinstance(task, SequenceToSequence)
        return Transformer(self.model, task.vocabulary)

    def build_objective(self, model: nn.Module, task: Task, fabric: Fabric, steps: int) -> Objective:
        assert isinstance(model, Transformer)
        assert isinstance(task, SequenceToSequence)
        return NextTargetToken(model, task, self.optimizer, fabric, steps, self.label_smoothing, self.clip)

    def evaluate(self, task: Task, run: Run, data: Data) -> dict[str, float]:
        """Returns the task's metrics and those of libraries, for answers with its usual number of beams."""
        assert isinstance(task, SequenceToSequence)
        written = task.answers(run, data.test["source"])
        references = [task.text(row) for row in data.test["target"]]
        measure = summary_metrics if task.metric == "rouge_l" else translation_metrics
        right = [text == reference for text, reference in zip(written, references, strict=True)]
        return {"exact": sum(right) / len(right), **measure(written, references)}

    def report(self, trained: Trained) -> Report:
        reported = super().report(trained)
        add_texts(reported, trained)
        return reported


MUON = Optimizer(
    "muon", 0.03, momentum=0.9, betas=(0.9, 0.98), weight_decay=1e-2, schedule="cosine", warmup=0.1
)
NUMBERS = TransformerRecipe(
    dataset="numbers-en-fr",
    epochs=3,
    batch_size=64,
    validation_share=0.02,
    threads=1,
    vocabulary=500,  # enough for each word to be a token
    label_smoothing=0.0,  # there is only one right answer
    model=TransformerConfig(width=96, heads=4, layers=2, hidden=192, dropout=0.0),
    optimizer=MUON,
    bar=0.99,
)
TSV_RECIPE = TransformerRecipe(
    dataset="tsv:PATH",
    epochs=12,
    batch_size=64,
    validation_share=0.02,
    precision="auto",
    model=TransformerConfig(width=192, heads=4, layers=3, hidden=384, dropout=0.2),
    optimizer=MUON,
)
# Summaries contain rare words of their sources. With label smoothing, each token of the vocabulary would get
# a higher probability than copying gives to such words. The bars are the scores of the source's first words.
SUMMARY = replace(
    TSV_RECIPE,
    label_smoothing=0.0,
    model=TransformerConfig(width=192, heads=4, layers=2, hidden=384, dropout=0.1, copying=True),
)
RECIPES = (
    NUMBERS,
    replace(NUMBERS, dataset="numbers-en-de"),
)
LONG_RECIPES = (
    replace(TSV_RECIPE, dataset="multi30k-de-en", bar=36.0),
    replace(TSV_RECIPE, dataset="multi30k-en-fr", bar=30.0),
    replace(SUMMARY, dataset="docstrings", epochs=8, batch_size=32, no_repeat_ngram_size=2, bar=0.151),
    replace(SUMMARY, dataset="debian-summaries", epochs=3, bar=0.267),
)
