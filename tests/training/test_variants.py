"""int8 variants: made of a version, compared with it, served only where they are as good."""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from training import bundles, pipeline, promotion, variants
from training.image_recipe import ImageRecipe
from training.listing import leaderboard
from training.recipes import recipe_for
from zoo import bundle
from zoo.errors import InvalidInput, PromotionRefused

NAME = "lenet5-mnist-5k"
RECIPE: ImageRecipe = replace(recipe_for("lenet5", "mnist-5k"), images_per_class=100, epochs=3, bar=None)


@pytest.fixture
def trained(home: Path) -> str:
    result = pipeline.train(RECIPE)
    assert result
    return result.version


def test_variant_is_a_version_beside_its_original(trained: str, tmp_path: Path) -> None:
    assert bundles.export(NAME, None, tmp_path / "int8", "int8") == f"{NAME} version 2"
    rows = {row["version"]: row for row in leaderboard(None)}
    assert (rows["1"]["variant"], rows["2"]["variant"]) == ("fp32", "int8")
    assert (rows["1"]["champion"], rows["2"]["champion"]) == (True, False)
    assert rows["2"]["value"] >= rows["1"]["value"] - variants.TOLERANCE
    assert rows["2"]["onnx_bytes"] < rows["1"]["onnx_bytes"] / 2
    assert "within half a point" in rows["2"]["gate_reason"]
    made = bundle.load(tmp_path / "int8")
    made.replay(made.open())
    weights = {i.data_type for i in onnx.load(made.graph_path).graph.initializer if len(i.dims) in (2, 4)}
    assert weights == {onnx.TensorProto.INT8}
    origin = json.loads((tmp_path / "int8" / "origin.json").read_text())
    assert (origin["record"]["variant"], origin["record"]["variant_of"]) == ("int8", trained)
    assert variants.int8(NAME, trained) == "2"  # made once
    promotion.promote(NAME, "2")
    assert promotion.champion(NAME) == "2"


def test_a_variant_that_lost_too_much_is_not_served(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "TOLERANCE", -1.0)
    with pytest.raises(PromotionRefused, match="more than half a point"):
        bundles.export(NAME, trained, tmp_path / "int8", "int8")
    assert not (tmp_path / "int8").exists()
    with pytest.raises(PromotionRefused, match="failed its gate"):
        promotion.promote(NAME, "2")


def test_what_has_no_variants_is_said(zoo: object, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no fp32 image classifier"):
        bundles.export("linear-regression-diabetes", None, tmp_path / "int8", "int8")
