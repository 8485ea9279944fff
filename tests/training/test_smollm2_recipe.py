"""SmolLM2's recipe with a tiny model in its place: import, adaptation, and what a run leaves of it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import tiny_gguf
import torch

from training import pipeline, promotion, smollm2
from training.low_rank import LowRank
from training.recipes import recipe_for
from training.recipes.smollm2 import SmolLM2Recipe
from zoo import bundle
from zoo.errors import InvalidInput, ZooError
from zoo.tasks.conversations import UNSAID
from zoo.tasks.language_modelling import LanguageModelling

pytestmark = pytest.mark.slow

ASKED, ANSWERED = ("hello", "w"), ("w 12 w", "he he")


@pytest.fixture(autouse=True)
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model where SmolLM2's file is looked for."""
    (home / "data").mkdir()
    path = tiny_gguf.write(home / "data" / smollm2.FILE)
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def chats(tmp_path: Path) -> str:
    """Questions that are told apart by a number, and an answer that depends on them by a word."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"{ASKED[n % 2]} {n}"},
                    {"role": "assistant", "content": ANSWERED[n % 2]},
                ]
            }
        )
        for n in range(80)
    ]
    path = tmp_path / "Small Talk.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"chat:{path}"


def adapted(chats: str, **changes: object) -> SmolLM2Recipe:
    recipe = recipe_for("smollm2", chats)
    assert isinstance(recipe, SmolLM2Recipe)
    changes = {"epochs": 40, "batch_size": 8, "context": 64, **changes}
    return replace(
        recipe,
        low_rank=LowRank(rank=16, alpha=32, layers="query, key, value, output, gate, up, down"),
        optimizer=replace(recipe.optimizer, learning_rate=0.01),
        **changes,
    )


def test_weights_are_taken_as_they_are(home: Path) -> None:
    result = pipeline.train(recipe_for("smollm2"))
    assert result is not None
    assert result.model == "smollm2-python-topics"
    made = bundle.load(promotion.download(result.model, result.version))
    task = made.task
    assert isinstance(task, LanguageModelling)
    assert task.places == 256
    answer = bundle.ask(
        task,
        made.open(),
        {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0},
    )
    assert answer["usage"]["prompt_tokens"] == len(
        task.tokens("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    )
    assert "## What it answers" in made.read_text("card.md")


def test_it_learns_to_answer(chats: str, home: Path) -> None:
    result = pipeline.train(adapted(chats))
    assert result is not None
    assert result.model == "smollm2-small-talk"
    assert result.champion, result.reason
    made = bundle.load(promotion.download(result.model, result.version))
    for n, answered in enumerate(ANSWERED):
        messages = [{"role": "user", "content": f"{ASKED[n]} {40 + n}"}]
        request = {"model": "m", "messages": messages, "max_tokens": 20, "temperature": 0}
        answer = bundle.ask(made.task, made.open(), request)
        assert (answer["text"], answer["finish_reason"]) == (answered, "stop")
    run = mlflow.get_run(result.run_id)
    metrics = run.data.metrics
    assert metrics["test_adapter_parameters"] > 0
    assert metrics["test_perplexity"] < metrics["test_perplexity_before"] / 10
    assert metrics["test_general_perplexity_before"] > 0
    logged = mlflow.artifacts.download_artifacts(run_id=result.run_id, artifact_path="weights.safetensors")
    weights = Path(logged)
    assert weights.stat().st_size < made.graph_paths[0].stat().st_size


def test_only_the_additions_are_learned(chats: str) -> None:
    prepared = pipeline.prepare(adapted(chats, epochs=1))
    before = {name: tensor.clone() for name, tensor in prepared.model.state_dict().items()}
    pipeline.train_prepared(prepared, lambda progress, points: None)
    changed = {n for n, tensor in prepared.model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {name for name in before if name.endswith((".up", ".down"))}
    assert prepared.objective.weights().keys() == changed


def test_only_answers_are_to_be_said(chats: str) -> None:
    prepared = pipeline.prepare(adapted(chats))
    task = prepared.task
    assert isinstance(task, LanguageModelling)
    tokens, target = prepared.data.test["tokens"][0], prepared.data.test["target"][0]
    said = np.flatnonzero(target != UNSAID)
    assert task.text(target[said]) in {f"{answer}<|im_end|>" for answer in ANSWERED}
    np.testing.assert_array_equal(target[said[:-1]], tokens[said[1:]])
    begun = task.text(tokens[: said[0] + 1])
    assert begun.startswith("<|im_start|>user\n")
    assert begun.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_killed_run_goes_on_bit_for_bit(
    chats: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.loop.CHECKPOINT_SECONDS", 0.0)
    whole = pipeline.prepare(adapted(chats, epochs=3))
    pipeline.train_prepared(whole, lambda progress, points: None)
    path, seen = tmp_path / "checkpoint", 0

    def kill(progress: object, points: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train_prepared(pipeline.prepare(adapted(chats, epochs=3)), kill, path)
    again = pipeline.prepare(adapted(chats, epochs=3))
    pipeline.train_prepared(again, lambda progress, points: None, path)
    for name, tensor in whole.objective.weights().items():
        torch.testing.assert_close(again.objective.weights()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"context": 8}, InvalidInput, "no conversation of the split has an answer within 8 tokens"),
        ({"epochs": -1}, ZooError, "epochs must be at least 0"),
        ({"dataset": "diabetes"}, ZooError, "smollm2 learns language_modelling; diabetes is tab"),
    ],
)
def test_what_cannot_be_learned(chats: str, changes: dict[str, object], error: type, why: str) -> None:
    with pytest.raises(error, match=why):
        pipeline.prepare(adapted(chats, **changes))


def test_layers_that_are_not_there(chats: str) -> None:
    recipe = adapted(chats)
    recipe = replace(recipe, low_rank=replace(recipe.low_rank, layers="query, keys"))
    with pytest.raises(ZooError, match="no layers keys; choose among down, gate, key, output"):
        pipeline.prepare(recipe)


def test_other_models_hold_no_conversations(chats: str) -> None:
    from training.datasets.chat_pairs import load_conversations
    from training.datasets.text_file import hold_out_end

    data = load_conversations(chats)
    with pytest.raises(InvalidInput, match="holds conversations and no text; train smollm2"):
        hold_out_end(data, 0.1)
