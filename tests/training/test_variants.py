"""int8 variants: made of a version, compared with it, served only where they are as good."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from quick_training import TEXT

from training import bundles, pipeline, promotion, variants
from training.image_recipe import ImageRecipe
from training.listing import leaderboard
from training.recipes import recipe_for
from zoo import bundle
from zoo.errors import InvalidInput, PromotionRefused
from zoo.models.llama import LlamaConfig
from zoo.version import Variant

pytestmark = pytest.mark.slow

Version = tuple[str, str]

NAME = "lenet5-mnist-5k"
RECIPE: ImageRecipe = replace(recipe_for("lenet5", "mnist-5k"), images_per_class=100, epochs=6, bar=None)


@pytest.fixture
def trained(home: Path) -> str:
    result = pipeline.train(RECIPE)
    assert result
    return result.version


def test_variant_is_a_version_beside_its_original(
    trained: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert bundles.export(NAME, None, tmp_path / "int8", "int8") == f"{NAME} version 2"
    assert not caplog.records, "the quantiser has nothing to advise"
    logging.warning("of somebody else")
    assert caplog.messages == ["of somebody else"]
    rows = {row["version"]: row for row in leaderboard(None)}
    assert (rows["1"]["variant"], rows["2"]["variant"]) == ("fp32", "int8")
    assert (rows["1"]["champion"], rows["2"]["champion"]) == (True, False)
    assert rows["2"]["value"] >= rows["1"]["value"] - variants.ACCURACY_LOST
    assert rows["2"]["onnx_bytes"] < rows["1"]["onnx_bytes"] / 2
    assert "within half a point" in rows["2"]["gate_reason"]
    made = bundle.load(tmp_path / "int8")
    made.replay(made.open())
    weights = {i.data_type for i in onnx.load(made.graph_path).graph.initializer if len(i.dims) in (2, 4)}
    assert weights == {onnx.TensorProto.INT8}
    origin = json.loads((tmp_path / "int8" / "origin.json").read_text())
    assert (origin["record"]["variant"], origin["record"]["variant_of"]) == ("int8", trained)
    assert variants.make(NAME, trained, "int8") == "2"  # made once
    promotion.promote(NAME, "2")
    assert promotion.champion(NAME) == "2"


def test_a_variant_that_lost_too_much_is_not_served(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "ACCURACY_LOST", -1.0)
    with pytest.raises(PromotionRefused, match="more than half a point"):
        bundles.export(NAME, trained, tmp_path / "int8", "int8")
    assert not (tmp_path / "int8").exists()
    with pytest.raises(PromotionRefused, match="failed its gate"):
        promotion.promote(NAME, "2")


def test_half_a_point_may_be_lost_and_no_more(trained: str) -> None:
    record = promotion.record_of(NAME, trained).model_copy(update={"value": 0.822})
    task = bundle.load(promotion.download(NAME, trained)).task
    passed = [variants._judged(task, {"accuracy": value}, record)[0] for value in (0.817, 0.816)]
    assert passed == [True, False]


def test_what_has_no_variants_is_said(zoo: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no variant int8; there are none"):
        bundles.export("linear-regression-diabetes", None, tmp_path / "int8", "int8")


WRITER = replace(
    recipe_for("llama", "text:PATH"),
    dataset=TEXT,
    epochs=1,
    model=LlamaConfig(layers=1, width=64, heads=2, key_value_heads=1, hidden=64),
    context=64,
    places=128,
)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Version]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
        result = pipeline.train(WRITER)
        assert result
        yield result.model, result.version


@pytest.mark.parametrize("variant", ["int8", "int4"])
def test_variants_of_a_language_model(writer: Version, tmp_path: Path, variant: Variant) -> None:
    name, version = writer
    said = bundles.export(name, None, tmp_path / "made", variant)
    before, made = promotion.record_of(name, version), promotion.record_of(name, said.split()[-1])
    assert (made.variant, made.variant_of) == (variant, version)
    assert made.metrics["perplexity"] <= 1.05 * before.metrics["perplexity"]
    assert made.gate_reason.endswith("within five hundredths")
    assert made.onnx_bytes < before.onnx_bytes / 2
    loaded = bundle.load(tmp_path / "made")
    loaded.replay(loaded.open())


def test_a_language_model_that_lost_too_much(writer: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    name, version = writer
    monkeypatch.setattr(variants, "PERPLEXITY_GAINED", 0.5)
    monkeypatch.setattr(promotion, "variant_of", lambda *_: None)
    record = promotion.record_of(name, variants.make(name, version, "int4"))
    assert record.gate == "failed"
    assert "more than five hundredths above it" in record.gate_reason
