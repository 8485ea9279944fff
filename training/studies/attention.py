"""Attention: the source tokens that a Transformer attends to for each token that it writes.

German says the ones before the tens: forty-five is fünfundvierzig. A Transformer learns to translate numbers
in words from English to German, and its cross-attention shows the reordering: for the token for five it
attends to the end of the English word, and for the following token for forty it attends to an earlier part.

Source: Vaswani et al. (2017), "Attention Is All You Need", arXiv:1706.03762; the figure is as in Bahdanau,
Cho & Bengio (2015), "Neural Machine Translation by Jointly Learning to Align and Translate", arXiv:1409.0473.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.export import as_run
from training.figures import new_figure
from training.laboratory import Laboratory
from training.recipes.transformer import NUMBERS
from training.study import Findings
from zoo.models.transformer import Transformer
from zoo.tasks.sequence_to_sequence import BEGIN, END, SequenceToSequence, TransformTextRequest

RECIPE = dataclasses.replace(NUMBERS, dataset="numbers-en-de", bar=None)
HEADS = (1, 2, 4)
SENTENCE = "three hundred and forty-five thousand, six hundred and seventy-eight"
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """Result of one run."""

    exact: float
    """Share of the test numbers that are written exactly."""
    written: str
    read: list[str]
    made: list[str]
    weights: Weights
    """Cross-attention weights [H, T, S] of the last layer for SENTENCE."""

    @property
    def mean(self) -> Weights:
        """Mean weights [T, S] over the heads."""
        mean: Weights = self.weights.mean(axis=0)
        return mean

    @property
    def spread(self) -> float:
        """Effective number of tokens that a head attends to: the exponential of its weights' mean entropy."""
        return float(np.exp(-(self.weights * np.log(self.weights + 1e-9)).sum(axis=2).mean()))


def run(laboratory: Laboratory) -> Findings:
    """Trains models of the same width with one, two and four heads; each translates the same number."""
    outcomes = {heads: _translate(laboratory, heads) for heads in HEADS}
    metrics = {f"exact_{heads}_heads": outcome.exact for heads, outcome in outcomes.items()}
    metrics |= {f"spread_{heads}_heads": outcome.spread for heads, outcome in outcomes.items()}
    return Findings(_figure(outcomes), _conclusion(outcomes), metrics)


def _translate(laboratory: Laboratory, heads: int) -> Outcome:
    epochs = laboratory.scaled(RECIPE.epochs)
    model = dataclasses.replace(RECIPE.model, heads=heads)
    recipe = dataclasses.replace(RECIPE, epochs=epochs, model=model)
    with laboratory.trial(f"{heads} heads", recipe) as trial:
        trial.train()
        task, transformer = trial.prepared.task, trial.prepared.model.eval()
        assert isinstance(task, SequenceToSequence)
        assert isinstance(transformer, Transformer)
        graph = as_run(trial.prepared.objective.export_module(), task)
        written = task.answer(graph, TransformTextRequest(model="-", text=SENTENCE, beam_size=1))["texts"][0]
        test = trial.prepared.data.test
        answers = task.answers(graph, test["source"], beams=1)
        right = [text == task.text(row) for text, row in zip(answers, test["target"], strict=True)]
        exact = float(np.mean(right))
        trial.log.points({"test_exact": [(0, exact)]})
    source, target = ([*task.codec.encode(text).ids, END] for text in (SENTENCE, written))
    with torch.no_grad():
        weights = transformer.alignment(torch.tensor([source]), torch.tensor([[BEGIN, *target[:-1]]]))
    read, made = (
        [task.codec.decode([token], skip_special_tokens=False) for token in side] for side in (source, target)
    )
    return Outcome(exact, written, read, made, weights[0, -1].numpy())


def _conclusion(outcomes: dict[int, Outcome]) -> str:
    lines = ["Test numbers written to the letter, and tokens that a head of the last layer looks at:"]
    for heads, outcome in outcomes.items():
        lines.append(f"- {heads} heads: {outcome.exact:.1%}, {outcome.spread:.1f} tokens")
    most = outcomes[max(outcomes)]
    best = most.mean.argmax(axis=1)
    lines += [
        "",
        f"{SENTENCE!r} became {most.written!r}. Tokens written, and the token read that had the most weight",
        f"over the {max(outcomes)} heads:",
        *(f"- {token!r}: {most.read[place]!r}" for token, place in zip(most.made, best, strict=True)),
    ]
    return "\n".join(lines)


def _figure(outcomes: dict[int, Outcome]) -> Figure:
    """Draws one map per number of heads: the mean weights of the last layer's heads."""
    figure, (axes,) = new_figure(1, len(outcomes), 4.6, 4.8)
    for axis, (heads, outcome) in zip(axes, outcomes.items(), strict=True):
        axis.imshow(outcome.mean, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(outcome.read)), outcome.read, rotation=90)
        axis.set_yticks(range(len(outcome.made)), outcome.made)
        axis.grid(visible=False)
        axis.set(title=f"heads: {heads}", xlabel="read")
    axes[0].set_ylabel("written")
    return figure
