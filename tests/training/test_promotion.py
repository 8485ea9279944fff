"""The alias `champion`: who gets it, who keeps it, and how it goes back. On a real SQLite registry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import INTERNAL_ERROR, MlflowException
from quick_training import QuickZoo
from registered_version import record, register

from training import promotion
from training.bundles import export
from training.store import connect
from zoo import bundle
from zoo.errors import BundleError, InvalidInput, NotFound, PromotionRefused, ZooError
from zoo.version import (
    CHALLENGER,
    CHALLENGER_MODE,
    CHAMPION,
    COPY_OF_MODEL,
    COPY_OF_VERSION,
    ChallengerMode,
    VersionRecord,
)


def trained(made: VersionRecord) -> str | None:
    """Registers a version and promotes it if it is better; why it was not."""
    return promotion.promote_if_better(*register(made))


def champion(name: str = "mlp-digits") -> str | None:
    return promotion.champion_of(connect(), name)


def history(name: str = "mlp-digits") -> list[str]:
    tags = connect().get_registered_model(name).tags
    return list(json.loads(tags[promotion.HISTORY]))


@pytest.mark.usefixtures("home")
class TestPromoteIfBetter:
    def test_the_first_is_champion(self) -> None:
        assert trained(record("mlp", 0.9)) is None
        assert champion() == "1"

    def test_better_is_promoted(self) -> None:
        trained(record("mlp", 0.9))
        assert trained(record("mlp", 0.91)) is None
        assert champion() == "2"
        assert history() == ["1", "2"]

    @pytest.mark.parametrize("value", [0.9, 0.89])
    def test_equal_and_worse_are_not(self, value: float) -> None:
        trained(record("mlp", 0.9))
        reason = trained(record("mlp", value))
        assert reason == f"accuracy {value:g} does not beat champion 1's 0.9"
        assert champion() == "1"

    def test_a_smaller_error_is_better(self) -> None:
        errors = [
            trained(record("mlp", mse, "diabetes", "tabular_regression")) for mse in (3000.0, 3100.0, 2900.0)
        ]
        assert [error is None for error in errors] == [True, False, True]
        assert champion("mlp-diabetes") == "3"

    def test_not_on_other_data(self) -> None:
        trained(record("mlp", 0.9))
        reason = trained(record("mlp", 0.99, data="e" * 64))
        assert reason is not None
        assert "champion 1 was measured on other data" in reason
        assert champion() == "1"

    def test_not_where_the_gate_failed(self) -> None:
        assert trained(record("mlp", 0.99, gate="failed")) == "too slow"
        assert champion() is None
        assert trained(record("mlp", 0.5)) is None
        assert champion() == "2"

    def test_a_value_that_is_no_number_never_wins(self) -> None:
        trained(record("mlp", 0.9))
        assert trained(record("mlp", float("nan"))) is not None
        assert champion() == "1"


@pytest.mark.usefixtures("home")
class TestByHand:
    def test_a_worse_version_may_be_promoted(self) -> None:
        trained(record("mlp", 0.9))
        trained(record("mlp", 0.8))
        promotion.promote("mlp-digits", "2")
        assert champion() == "2"
        assert history() == ["1", "2"]

    def test_a_version_on_other_data_may_be_promoted(self) -> None:
        trained(record("mlp", 0.9))
        trained(record("mlp", 0.8, data="e" * 64))
        promotion.promote("mlp-digits", "2")
        assert champion() == "2"

    def test_a_failed_gate_is_refused(self) -> None:
        trained(record("mlp", 0.9))
        trained(record("mlp", 0.99, gate="failed"))
        with pytest.raises(PromotionRefused, match="mlp-digits version 2 failed its gate: too slow"):
            promotion.promote("mlp-digits", "2")
        assert champion() == "1"
        assert history() == ["1"]

    def test_the_champion_again_changes_nothing(self) -> None:
        trained(record("mlp", 0.9))
        trained(record("mlp", 0.95))
        before = connect().get_registered_model("mlp-digits")
        promotion.promote("mlp-digits", "2")
        after = connect().get_registered_model("mlp-digits")
        assert (after.aliases, after.tags) == (before.aliases, before.tags)
        assert promotion.rollback("mlp-digits") == "1"

    def test_rollback_once_twice_and_no_further(self) -> None:
        for value in (0.7, 0.8, 0.9):
            trained(record("mlp", value))
        assert promotion.rollback("mlp-digits") == champion() == "2"
        assert promotion.rollback("mlp-digits") == champion() == "1"
        with pytest.raises(PromotionRefused, match="no earlier champion"):
            promotion.rollback("mlp-digits")
        assert champion() == "1"

    def test_promotions_after_a_rollback(self) -> None:
        for value in (0.7, 0.8):
            trained(record("mlp", value))
        promotion.rollback("mlp-digits")
        promotion.promote("mlp-digits", "2")
        assert history() == ["1", "2"]
        assert promotion.rollback("mlp-digits") == "1"

    def test_an_alias_that_someone_else_moved(self) -> None:
        for value in (0.7, 0.8):
            trained(record("mlp", value))
        connect().set_registered_model_alias("mlp-digits", CHAMPION, "1")
        trained(record("mlp", 0.9))
        assert champion() == "3"
        assert promotion.rollback("mlp-digits") == "1"

    @pytest.mark.parametrize(("name", "version"), [("mlp-mars", "1"), ("mlp-digits", "9"), ("digits", "1")])
    def test_names_that_are_none(self, name: str, version: str) -> None:
        trained(record("mlp", 0.9))
        expected = PromotionRefused if name == "digits" else NotFound
        with pytest.raises(expected, match=f"'{name}'"):
            promotion.promote(name, version)

    def test_rollback_of_a_name_that_is_none(self) -> None:
        with pytest.raises(NotFound, match="there is no model 'mlp-mars'"):
            promotion.rollback("mlp-mars")

    def test_rollback_of_a_data_sets_name(self) -> None:
        for value in (0.7, 0.8):
            trained(record("mlp", value))
        with pytest.raises(PromotionRefused, match="'digits' is a data set's name"):
            promotion.rollback("digits")
        assert promotion.resolve("digits") == ("mlp-digits", "2")


class TestChallenge:
    @pytest.fixture(autouse=True)
    def _versions(self, home: Path) -> None:
        for value in (0.9, 0.8, 0.7):
            trained(record("mlp", value))

    def challenger(self) -> dict[str, str]:
        """Versions with the tag of a challenger, and the tag; the alias names just that one."""
        client = connect()
        versions = client.search_model_versions("name='mlp-digits'")
        tagged = {str(v.version): v.tags[CHALLENGER_MODE] for v in versions if CHALLENGER_MODE in v.tags}
        alias = client.get_registered_model("mlp-digits").aliases.get(CHALLENGER)
        assert list(tagged) == ([] if alias is None else [str(alias)])
        return tagged

    def test_one_at_a_time(self) -> None:
        promotion.challenge("mlp-digits", "2", ChallengerMode())
        assert self.challenger() == {"2": "shadow"}
        promotion.challenge("mlp-digits", "2", ChallengerMode.of_share("10%"))
        assert self.challenger() == {"2": "share:0.1"}
        promotion.challenge("mlp-digits", "3", ChallengerMode())
        assert self.challenger() == {"3": "shadow"}
        assert champion() == "1"
        assert promotion.end_challenge("mlp-digits") == "3"
        assert self.challenger() == {}
        with pytest.raises(NotFound, match="zoo challenger mlp-digits VERSION"):
            promotion.end_challenge("mlp-digits")

    def test_promotion_and_rollback_end_it(self) -> None:
        promotion.challenge("mlp-digits", "2", ChallengerMode())
        promotion.promote("mlp-digits", "3")
        assert self.challenger() == {"2": "shadow"}, "against the new champion"
        promotion.promote("mlp-digits", "2")
        assert self.challenger() == {}
        promotion.challenge("mlp-digits", "3", ChallengerMode())
        promotion.rollback("mlp-digits")
        assert (champion(), self.challenger()) == ("3", {})

    def test_an_alias_without_a_mode(self) -> None:
        connect().set_registered_model_alias("mlp-digits", CHALLENGER, "2")
        promotion.promote("mlp-digits", "2")
        assert self.challenger() == {}

    def test_who_may_not(self) -> None:
        trained(record("mlp", 0.99, gate="failed"))
        trained(record("gan", 5.0, "mnist", "image_generation"))
        trained(record("gan", 6.0, "mnist", "image_generation"))
        trained(record("lenet5", 0.5, gate="failed"))
        for name, version, message in (
            ("mlp-digits", "1", "is the champion itself"),
            ("mlp-digits", "4", "failed its gate: too slow"),
            ("lenet5-digits", "1", "failed its gate"),
            ("gan-mnist", "2", "give it a --share"),
            ("digits", "1", "is a data set's name"),
        ):
            with pytest.raises(PromotionRefused, match=message):
                promotion.challenge(name, version, ChallengerMode())
        with pytest.raises(NotFound, match="no version 9"):
            promotion.challenge("mlp-digits", "9", ChallengerMode())
        assert self.challenger() == {}
        promotion.challenge("gan-mnist", "2", ChallengerMode(0.5))


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.1", 0.1), ("100%", 1.0), ("1", 1.0), ("0.5%", 0.005)]
)
def test_shares(text: str, share: float) -> None:
    mode = ChallengerMode.of_share(text)
    assert mode.share == pytest.approx(share)
    assert ChallengerMode.from_tag(str(mode)) == mode


@pytest.mark.parametrize("text", ["0", "0%", "10", "101%", "-1%", "nan", "inf", "a tenth", "%", ""])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="such as 10%"):
        ChallengerMode.of_share(text)
    with pytest.raises(InvalidInput):
        ChallengerMode.from_tag(text)


@pytest.mark.slow
@pytest.mark.usefixtures("home")
class TestDataSetsChampion:
    def test_it_is_the_best_of_all_architectures(self) -> None:
        trained(record("mlp", 0.9))
        assert promotion.resolve("digits") == ("mlp-digits", "1")
        trained(record("lenet5", 0.95))
        assert promotion.resolve("digits") == ("lenet5-digits", "1")
        trained(record("mlp", 0.92))
        assert promotion.resolve("digits") == ("lenet5-digits", "1")
        trained(record("mlp", 0.97))
        assert promotion.resolve("digits") == ("mlp-digits", "3")

    def test_it_follows_rollback_and_promotion_by_hand(self) -> None:
        for made in (record("mlp", 0.9), record("lenet5", 0.95), record("mlp", 0.97)):
            trained(made)
        promotion.rollback("mlp-digits")
        assert promotion.resolve("digits") == ("lenet5-digits", "1")
        promotion.promote("mlp-digits", "2")
        assert promotion.resolve("digits") == ("mlp-digits", "2")
        trained(record("mlp", 0.5))
        promotion.promote("mlp-digits", "3")
        assert promotion.resolve("digits") == ("lenet5-digits", "1")

    def test_versions_that_are_no_champions_do_not_count(self) -> None:
        trained(record("mlp", 0.9))
        trained(record("lenet5", 0.99, gate="failed"))
        assert promotion.resolve("digits") == ("mlp-digits", "1")

    def test_another_kind_does_not_compete(self) -> None:
        trained(record("mlp", 0.9))
        trained(record("linear-regression", 1e9, kind="tabular_regression"))
        assert champion("linear-regression-digits") == "1"
        assert promotion.resolve("digits") == ("mlp-digits", "1")

    def test_copies_say_what_they_are_copies_of(self) -> None:
        for made in (record("mlp", 0.9), record("lenet5", 0.95), record("mlp", 0.97)):
            trained(made)
        promotion.rollback("mlp-digits")
        versions = connect().search_model_versions("name='digits'")
        copies = {(v.tags[COPY_OF_MODEL], v.tags[COPY_OF_VERSION]) for v in versions}
        assert copies == {("mlp-digits", "1"), ("lenet5-digits", "1"), ("mlp-digits", "2")}
        assert len(versions) == 3, "going back makes no second copy"

    def test_a_data_set_without_champion(self) -> None:
        trained(record("mlp", 0.9, gate="failed"))
        with pytest.raises(NotFound, match="no champion answers to 'digits'"):
            promotion.resolve("digits")
        with pytest.raises(NotFound, match="no champion answers to 'mlp-digits'"):
            promotion.resolve("mlp-digits")


@pytest.mark.usefixtures("home")
class TestLeaderboard:
    def test_best_first_within_data_set_and_kind(self) -> None:
        for made in (
            record("mlp", 0.9),
            record("lenet5", 0.95),
            record("mlp", 0.97, gate="failed"),
            record("mlp", 3000.0, "diabetes", "tabular_regression"),
            record("linear-regression", 2900.0, "diabetes", "tabular_regression"),
        ):
            trained(made)
        rows = [(r.model, r.version, r.champion) for r in promotion.leaderboard()]
        assert rows == [
            ("linear-regression-diabetes", "1", True),
            ("mlp-diabetes", "1", True),
            ("mlp-digits", "2", False),
            ("lenet5-digits", "1", True),
            ("mlp-digits", "1", True),
        ]
        assert len(promotion.leaderboard("digits")) == 3
        assert promotion.leaderboard("mars") == []

    def test_models_of_others_in_the_same_registry(self) -> None:
        client = connect()
        client.create_registered_model("churn")
        run = client.create_run("0")
        client.create_model_version("churn", "file:///nowhere", run.info.run_id)
        client.set_registered_model_alias("churn", CHAMPION, "1")
        assert trained(record("mlp", 0.9)) is None
        assert [row.model for row in promotion.leaderboard()] == ["mlp-digits"]
        with pytest.raises(NotFound, match="churn"):
            promotion.promote("churn", "1")


# Two at once

RACER = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:3]  # the checkout, and the folder of this test
from registered_version import record, register
from training import promotion
versions = [register(record("mlp", float(value))) for value in sys.argv[4:]]
ready = Path(sys.argv[3])
ready.with_suffix(f".{sys.argv[4]}").touch()
while not ready.exists():
    time.sleep(0.002)
for name, version in versions:
    promotion.promote_if_better(name, version)
"""


@pytest.mark.slow
def test_a_store_that_fails_is_not_taken_for_a_missing_version(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: MlflowClient, name: str, version: str) -> None:
        raise MlflowException("operator does not exist", error_code=INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "get_model_version", fail)
    with pytest.raises(ZooError, match="version 1 of 'mlp-digits' cannot be read: operator"):
        promotion.promote("mlp-digits", "1")


def test_two_that_promote_at_once_leave_the_better_champion(home: Path) -> None:
    start = home / "start"
    values = [["0.10", "0.40", "0.30", "0.95"], ["0.20", "0.35", "0.90", "0.50"]]
    here = Path(__file__)
    command = [sys.executable, "-c", RACER, str(here.parents[2]), str(here.parent), str(start)]
    racers = [subprocess.Popen([*command, *given], stderr=subprocess.PIPE) for given in values]
    try:
        for given in values:
            wait_for(start.with_suffix(f".{given[0]}"), racers)
        start.touch()
        for racer in racers:
            assert racer.wait(60) == 0, racer.stderr and racer.stderr.read().decode()
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            assert racer.stderr
            racer.stderr.close()
    held = {row.version: row.record.value for row in promotion.leaderboard()}
    assert len(held) == 8
    assert held[champion() or ""] == 0.95
    assert promotion.resolve("digits") == ("mlp-digits", champion())
    ascent = [held[version] for version in history()]
    assert ascent == sorted(set(ascent)), "a worse version followed a better one"
    assert ascent[-1] == 0.95
    while len(history()) > 1:
        promotion.rollback("mlp-digits")
    assert held[champion() or ""] == ascent[0]


def wait_for(path: Path, processes: list["subprocess.Popen[bytes]"], seconds: float = 60) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline
        for process in processes:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.01)


# Bundles that leave the registry


def test_export_writes_a_bundle_with_its_origin(zoo: QuickZoo, tmp_path: Path) -> None:
    result = zoo.results["mlp", "xor"]
    for name in ("mlp-xor", "xor"):
        target = tmp_path / "new" / name
        assert export(name, None, target) == f"mlp-xor version {result.version}"
        loaded = bundle.load(target)
        loaded.replay(loaded.open())
        assert {p.name for p in target.iterdir()} == {*loaded.manifest.files, "manifest.json", "origin.json"}
        origin = json.loads((target / "origin.json").read_text())
        assert (origin["model"], origin["version"], origin["run_id"]) == ("mlp-xor", "1", result.run_id)
        assert VersionRecord(**origin["record"]) == promotion.record_of("mlp-xor", "1")
        assert [p.name for p in target.parent.iterdir() if p.name.startswith(".")] == []


def test_export_into_an_empty_folder(zoo: QuickZoo, tmp_path: Path) -> None:
    export("mlp-xor", "1", tmp_path)
    assert bundle.load(tmp_path).manifest.model == "mlp-xor"


def test_export_refuses_a_folder_that_is_not_empty(zoo: QuickZoo, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="is not empty; name a new folder"):
        export("mlp-xor", None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InvalidInput, match="is not empty"):
        export("mlp-xor", None, tmp_path / "mine.txt")


@pytest.mark.parametrize(("name", "version"), [("mlp-mars", None), ("mlp-xor", "99"), ("xor", "99")])
def test_export_of_what_is_not_there(zoo: QuickZoo, tmp_path: Path, name: str, version: str | None) -> None:
    with pytest.raises((NotFound, BundleError)):
        export(name, version, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_export_of_a_version_without_champion(zoo: QuickZoo, tmp_path: Path) -> None:
    """A version that is named needs no champion."""
    export("perceptron-xor", "1", tmp_path / "out")
    assert bundle.load(tmp_path / "out").manifest.model == "perceptron-xor"
