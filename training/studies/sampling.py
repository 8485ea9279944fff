"""Sampling: the effect of temperature and nucleus on a model's probabilities and on its text.

A character model writes at several temperatures, from all characters and from the nucleus, the likeliest
characters whose probabilities sum to nine tenths. There are two measures: the share of words that occur in
the training text, and the share of words that were not written before. At a low temperature the model repeats
itself; at a high one it misspells words; the nucleus removes the improbable characters that spoil a word, at
any temperature.

Source: Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
"""

import dataclasses
import re
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from training.export import as_run
from training.figures import COLOURS, new_figure
from training.laboratory import Laboratory
from training.recipes.gru import TEXT_RECIPE
from training.study import Findings
from zoo.models.gru import GRUConfig
from zoo.tasks.language_modelling import GenerateTextRequest, LanguageModelling
from zoo.tasks.sampling import Floats, Sampling

RECIPE = dataclasses.replace(
    TEXT_RECIPE,
    dataset="python-topics",
    epochs=4,
    log_steps=20,
    precision="32-true",
    model=GRUConfig(width=128),
)
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)
NUCLEUS = 0.9
CHARACTERS, TEXTS = 600, 4
PROMPT = "The statement "
SHOWN = (0.5, 1.0, 1.5)
LIKELIEST = 22  # characters in the figure
WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True)
class Written:
    """Texts written at one setting, with their measures."""

    spelled: float
    """Share of words that occur in the training text."""
    fresh: float
    """Share of words that were not written before in the same text."""
    sample: str


def run(laboratory: Laboratory) -> Findings:
    """Trains one model, which then writes at every temperature with and without the nucleus."""
    recipe = dataclasses.replace(RECIPE, epochs=laboratory.scaled(RECIPE.epochs))
    with laboratory.trial("the model", recipe) as trial:
        trial.train()
        task = trial.prepared.task
        assert isinstance(task, LanguageModelling)
        model = as_run(trial.prepared.objective.export_module(), task)
        known = set(WORD.findall(recipe.load_data().train["text"].tobytes().decode()))
    length = laboratory.scaled(CHARACTERS)
    written = {}
    for top_p in (1.0, NUCLEUS):
        for temperature in TEMPERATURES:
            name = f"temperature {temperature:g}, top-p {top_p:g}"
            with laboratory.run(name, {"temperature": temperature, "top_p": top_p}) as log:
                asked = GenerateTextRequest(
                    model="-", prompt=PROMPT, max_tokens=length, temperature=temperature, top_p=top_p
                )
                texts = [
                    task.answer(model, asked.model_copy(update={"seed": seed}))["text"]
                    for seed in range(TEXTS)
                ]
                shares = [_measured(text, known) for text in texts]
                log.points({"spelled": [(i, spelled) for i, (spelled, _) in enumerate(shares)]})
                log.points({"fresh": [(i, fresh) for i, (_, fresh) in enumerate(shares)]})
                log.text("\n\n---\n\n".join(PROMPT + text for text in texts), "texts.txt")
                spelled, fresh = np.mean(shares, axis=0).tolist()
                written[temperature, top_p] = Written(spelled, fresh, PROMPT + texts[0])
    metrics = {
        f"{measure}_{temperature:g}_top_p_{top_p:g}": getattr(made, measure)
        for (temperature, top_p), made in written.items()
        for measure in ("spelled", "fresh")
    }
    (logits,), _ = task.memory.read(model, task.tokens(PROMPT)[None], task.memory.start(1, len(PROMPT)))
    letters = [task.text(np.array([token])) for token in range(task.vocabulary)]
    samples = {
        f"temperature_{temperature:g}_top_p_{top_p:g}.txt": made.sample
        for (temperature, top_p), made in written.items()
    }
    return Findings(_figure(logits, letters, written), _conclusion(written), metrics, samples)


def _measured(text: str, known: set[str]) -> tuple[float, float]:
    """Returns the shares `spelled` and `fresh` of a text's words."""
    words = WORD.findall(text)
    count = max(1, len(words))
    return sum(word in known for word in words) / count, len(set(words)) / count


def _conclusion(written: dict[tuple[float, float], Written]) -> str:
    lines = ["Share of words spelled as in the training text, and not written before:"]
    for top_p in (1.0, NUCLEUS):
        shares = ", ".join(
            f"{t:g}: {written[t, top_p].spelled:.2f} and {written[t, top_p].fresh:.2f}" for t in TEMPERATURES
        )
        lines.append(f"- top-p {top_p:g}, by temperature: {shares}")
    hot = 1.0
    plain, nucleus = written[hot, 1.0], written[hot, NUCLEUS]
    lines.append(
        f"\nAt temperature {hot:g} the nucleus changes the share spelled right by "
        f"{nucleus.spelled - plain.spelled:+.2f} and that of new words by {nucleus.fresh - plain.fresh:+.2f}."
    )
    return "\n".join(lines)


def _figure(logits: Floats, letters: list[str], written: dict[tuple[float, float], Written]) -> Figure:
    """Draws the probabilities of the next character, and both measures by temperature."""
    figure, ((bars, spelled, fresh),) = new_figure(1, 3)
    order = np.argsort(-logits)[:LIKELIEST]
    places = np.arange(len(order))
    for index, temperature in enumerate(SHOWN):
        shares = Sampling(temperature).probabilities(logits)[order]
        bars.bar(places + (index - 1) * 0.28, shares, 0.28, color=COLOURS[index], label=f"{temperature:g}")
    inside = Sampling(top_p=NUCLEUS).probabilities(logits)[order] > 0
    bars.axvline(inside.sum() - 0.5, color="black", linewidth=1, linestyle=":")
    bars.set_xticks(places, [letters[token].replace(" ", "␣").replace("\n", "⏎") for token in order])
    bars.set(
        title=f"after “{PROMPT.strip()}␣”", xlabel=f"dotted: the nucleus of {NUCLEUS:g}", ylabel="probability"
    )
    bars.legend(title="temperature")
    for axis, measure in ((spelled, "spelled"), (fresh, "fresh")):
        for colour, top_p in zip(COLOURS[3:], (1.0, NUCLEUS), strict=False):
            values = [getattr(written[temperature, top_p], measure) for temperature in TEMPERATURES]
            axis.plot(TEMPERATURES, values, color=colour, marker="o", label=f"top-p {top_p:g}")
        axis.set(xlabel="temperature", ylim=(0, 1.02))
        axis.legend()
    spelled.set_title("words of the training text")
    fresh.set_title("words not written before")
    return figure
