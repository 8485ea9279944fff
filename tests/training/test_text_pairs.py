"""The Transformer from pairs of texts to a registered version of two graphs."""

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from quick_training import QuickZoo
from torch import nn

from training import pipeline, promotion
from training.export import export, parity, same_tokens
from training.loop import by_length
from training.pipeline import Prepared, RunResult
from training.recipes import recipe_for
from training.recipes.transformer import TransformerRecipe
from training.text_metrics import first_words, signatures, summary_metrics, translation_metrics
from zoo import bundle
from zoo.errors import ZooError
from zoo.graph import GraphSet, open_graphs
from zoo.models.transformer import TransformerConfig
from zoo.tasks import Arrays
from zoo.tasks.sequence_to_sequence import END, PADDING, SequenceToSequence

pytestmark = pytest.mark.slow

KEY = ("transformer", "numbers-en-fr")
TINY = TransformerConfig(width=32, heads=2, layers=2, hidden=48, dropout=0.0)
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Digits in words, and as figures."""
    lines = [f"{' '.join(DIGITS[int(d)] for d in str(n))}\t{n}" for n in range(0, 1000, 2)]
    path = tmp_path / "Digits.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def small(path: Path, **changes: object) -> TransformerRecipe:
    recipe = recipe_for("transformer", f"tsv:{path}")
    assert isinstance(recipe, TransformerRecipe)
    fixed = {"model": TINY, "vocabulary": 320, "epochs": 2, "batch_size": 32, "precision": "32-true"}
    return replace(recipe, **{**fixed, **changes})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, nn.Module, dict[str, bytes]]:
    path = tmp_path_factory.mktemp("pairs") / "digits.tsv"
    path.write_text(
        "".join(f"{DIGITS[i % 10]} {DIGITS[i // 10]}\t{i}\n" for i in range(100)), encoding="utf-8"
    )
    prepared = pipeline.prepare(small(path, epochs=1))
    pipeline.train_prepared(prepared, lambda progress, points: None)
    module = prepared.objective.export_module()
    return prepared, module, export(module, prepared.task)


def test_names_types_and_axes(exported: tuple[Prepared, nn.Module, dict[str, bytes]]) -> None:
    prepared, _, graphs = exported
    varying = prepared.task.varying_axes()
    for signature in prepared.task.signatures():
        graph = onnx.load_model_from_string(graphs[signature.name]).graph
        assert tuple(i.name for i in graph.input) == signature.inputs
        assert tuple(o.name for o in graph.output) == signature.outputs
        for value in graph.input:
            tensor = value.type.tensor_type
            whole = value.name in ("source", "tokens")
            assert tensor.elem_type == (onnx.TensorProto.INT64 if whole else onnx.TensorProto.FLOAT)
            free = {i for i, size in enumerate(tensor.shape.dim) if size.dim_param}
            assert free == {0, varying[value.name].place}


def test_the_graphs_are_the_module(exported: tuple[Prepared, nn.Module, dict[str, bytes]]) -> None:
    prepared, module, graphs = exported
    run, task = open_graphs(list(graphs.values())), prepared.task
    assert isinstance(run, GraphSet)
    assert parity(module, run, task, prepared.data.test).holds
    assert same_tokens(module, run, task, prepared.data.test)
    other = pipeline.prepare(replace(prepared.recipe, seed=5)).objective.export_module()
    assert not parity(other, run, task, prepared.data.test).holds
    assert not same_tokens(other, run, task, prepared.data.test)


@pytest.mark.parametrize("wrong", ["source", "tokens", "past_keys"])
def test_parity_sees_every_length(exported: tuple[Prepared, nn.Module, dict[str, bytes]], wrong: str) -> None:
    prepared, module, graphs = exported
    run, task = open_graphs(list(graphs.values())), prepared.task
    axis = task.varying_axes()[wrong]
    usual = {
        examples[wrong].shape[axis.place]
        for signature in task.signatures()
        for examples in [task.examples_for(signature, 1)]
        if wrong in examples
    }

    def only_the_usual_length(inputs: Arrays) -> Arrays:
        off = wrong in inputs and inputs[wrong].shape[axis.place] not in usual
        return {key: array + np.float32(off) for key, array in run(inputs).items()}

    assert not parity(module, only_the_usual_length, task, prepared.data.test).holds


@pytest.mark.parametrize("beams", [1, 4])
def test_padding_changes_no_answer(
    exported: tuple[Prepared, nn.Module, dict[str, bytes]], beams: int
) -> None:
    prepared, _, graphs = exported
    run, task = open_graphs(list(graphs.values())), prepared.task
    assert isinstance(task, SequenceToSequence)
    texts = ["one", "seven seven seven seven seven seven", "two three", "nine nine nine nine"]
    request = task.request_type(model="m", text=texts, beam_size=beams)
    together = task.answer(run, request)
    for text, made, score in zip(texts, together["texts"], together["scores"], strict=True):
        alone = task.answer(run, task.request_type(model="m", text=text, beam_size=beams))
        assert alone["texts"] == [made]
        assert alone["scores"] == pytest.approx([score], abs=1e-5)


def test_it_learns(pairs: Path, home: Path) -> None:
    result = pipeline.train(small(pairs, epochs=25))
    assert isinstance(result, RunResult)
    assert result.model == "transformer-digits"
    assert (result.metric, result.metrics["exact"] > 0.8) == ("bleu", True), result.metrics
    made = bundle.load(promotion.download(result.model, result.version))
    answer = bundle.ask(made.task, made.open(), {"model": "m", "text": "four five six"})
    assert answer["texts"] == ["456"]
    client = mlflow.MlflowClient()
    padding = client.get_metric_history(result.run_id, "train_padding")
    assert len(padding) == 25
    assert 0 < padding[0].value < 0.3


def test_what_a_run_leaves(zoo: QuickZoo) -> None:
    result = zoo.results[KEY]
    made = bundle.load(promotion.download(result.model, result.version))
    assert {path.name for path in made.graph_paths} == {"encoder.onnx", "decoder.onnx"}
    assert made.manifest.files.keys() >= {"encoder.onnx", "decoder.onnx", "tokenizer.json"}
    card = made.read_text("card.md")
    assert "## Examples of the test split" in card
    assert "BLEU: nrefs:1|case:mixed" in card
    assert result.metrics.keys() == {"exact", "bleu", "chrf"}
    client = mlflow.MlflowClient()
    drawn = {file.path for file in client.list_artifacts(result.run_id, "figures")}
    assert drawn == {"figures/attention.png", "figures/learning_curves.png"}
    assert [f.path for f in client.list_artifacts(result.run_id, "samples")] == [
        "samples/examples_epoch_001.txt"
    ]


def test_any_mlflow_loads_it(zoo: QuickZoo) -> None:
    result = zoo.results[KEY]
    made = bundle.load(promotion.download(result.model, result.version))
    loaded = mlflow.pyfunc.load_model(f"models:/{result.model}/{result.version}")
    answered = loaded.predict(loaded.input_example)
    assert answered["text"].tolist() == made.golden.answer["texts"]
    files = [path.name for path in promotion.download(result.model, result.version).rglob("*")]
    assert "text_model.py" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]


def test_batches_are_of_like_length() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 100, (10_000,), generator=generator)
    order = torch.randperm(10_000, generator=generator)
    batches = by_length(order, lengths, 16, generator)
    assert sorted(torch.cat(batches).tolist()) == list(range(10_000))
    assert max(len(batch) for batch in batches) == 16
    spread = [float(lengths[batch].max() - lengths[batch].min()) for batch in batches]
    assert np.mean(spread) < 5
    means = [float(lengths[batch].float().mean()) for batch in batches[:50]]
    assert np.std(means) > 10, "batches come in random order"


def test_sources_end_before_they_are_filled_up(
    exported: tuple[Prepared, nn.Module, dict[str, bytes]],
) -> None:
    prepared, _, _ = exported
    for row in prepared.data.train["source"]:
        assert row[row != PADDING][-1] == END
        assert (np.diff((row == PADDING).astype(int)) >= 0).all()


def test_translation_metrics() -> None:
    said = ["the cat sat on the mat today", "a dog barks at the old tree"]
    assert translation_metrics(said, said) == pytest.approx({"bleu": 100, "chrf": 100})
    half = translation_metrics([said[0], "no words shared anywhere here friend"], said)
    assert 20 < half["bleu"] < 80
    assert [line.split(":")[0] for line in signatures(said, said)] == ["BLEU", "chrF"]


def test_summary_metrics() -> None:
    scores = summary_metrics(["the cat", "x"], ["the cat sat here", "y"])
    assert scores.keys() == {"rouge_1", "rouge_2", "rouge_l"}
    assert scores["rouge_l"] == pytest.approx((2 * 1 * 0.5 / 1.5) / 2)
    assert first_words(["one two three", "four"], 2) == ["one two", "four"]


@pytest.mark.parametrize("wrong", [{"no_repeat_ngram_size": -1}, {"clip": 0.0}], ids=str)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ZooError, match=f"{name} must be"):
        replace(recipe_for(*KEY), **wrong)


def test_the_task_has_what_may_not_come_twice(pairs: Path) -> None:
    recipe = replace(recipe_for(*KEY), dataset=f"tsv:{pairs}", no_repeat_ngram_size=2)
    task = recipe.fit_task(recipe.load_data())
    assert isinstance(task, SequenceToSequence)
    assert task.no_repeat_ngram_size == 2
