"""Report on a text-to-text model: examples, the baseline of copying, and a figure of attention."""

import numpy as np
import torch
from matplotlib.figure import Figure

from training import figures
from training.report import Report, Trained
from training.text_metrics import first_words, signatures, summary_metrics
from zoo.models.transformer import DecoderStep
from zoo.tasks.sequence_to_sequence import BEGIN, END, PADDING, SequenceToSequence

SHOWN = 6  # examples in the model card
MAPPED = 24  # maximum number of tokens in a text whose attention is drawn


def add_texts(reported: Report, trained: Trained) -> None:
    """Adds a figure of attention, examples for the card, and the baseline of summaries or the signatures."""
    task, test = trained.task, trained.data.test
    assert isinstance(task, SequenceToSequence)
    places = np.linspace(0, len(test["source"]) - 1, SHOWN).astype(np.int64)
    written = task.answers(trained.run, test["source"][places])
    lines = []
    for place, text in zip(places, written, strict=True):
        source, target = (task.text(test[side][place]) for side in ("source", "target"))
        lines += [f"- {source}", f"  - written: {text}", f"  - expected: {target}"]
    reported.sections += ["## Examples of the test split", "", *lines, ""]
    expected = [task.text(row) for row in test["target"]]
    if task.metric == "rouge_l":
        length = round(np.mean([len(task.text(row).split()) for row in trained.data.train["target"]]))
        copied = summary_metrics(first_words([task.text(row) for row in test["source"]], length), expected)
        reported.metrics |= {f"copy_{name}": value for name, value in copied.items()}
        reported.sections += [
            f"Copying the first {length} words of each source gives ROUGE-L {copied['rouge_l']:.3f}.",
            "",
        ]
    else:
        reported.sections += [*(f"- {line}" for line in signatures(expected, expected)), ""]
    reported.figures["attention"] = _attention(trained, task)


def _attention(trained: Trained, task: SequenceToSequence) -> Figure:
    """Plots the last layer's attention to the source, averaged over heads, for one test text."""
    lengths = (trained.data.test["source"] != PADDING).sum(axis=1)
    place = int(np.argmax(np.where(lengths <= MAPPED, lengths, 0)))
    source = trained.data.test["source"][place, : lengths[place]]
    tokens = task.answers(trained.run, source[None], beams=1)
    target = task.codec.encode(tokens[0]).ids[:MAPPED]
    step = trained.module.get_submodule("decoder")
    assert isinstance(step, DecoderStep)
    with torch.no_grad():
        weights = step.transformer.alignment(
            torch.from_numpy(source)[None], torch.tensor([[BEGIN, *target]])
        )[0, -1].mean(dim=0)  # [B, L, H, T, S] -> [T, S]
    shown = [task.codec.decode([int(token)], skip_special_tokens=False) for token in source]
    made = [task.codec.decode([token], skip_special_tokens=False) for token in [*target, END]]
    return figures.attention(weights.numpy(), shown, made)
