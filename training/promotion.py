"""Versions in MLflow's registry and their aliases: register, promote, roll back, challenge, compare.

`zoo/version.py` describes the contents of the registry. Every change of an alias holds one lock, so two
trainings that promote at the same time leave one correct champion. The lock is a file in ZOO_HOME; a team
whose homes share a tracking store should promote from only one of them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from training import datasets
from training.store import connect, locked
from zoo.credentials import hide_credentials
from zoo.errors import NotFound, PromotionRefused, ZooError
from zoo.tasks import TASKS
from zoo.version import (
    CHALLENGER,
    CHALLENGER_MODE,
    CHAMPION,
    COPY_OF_MODEL,
    COPY_OF_VERSION,
    ChallengerMode,
    VersionRecord,
)

HISTORY = "champions"  # tag of a registered model: its champions in order of promotion, as JSON
PAGE = 1000
LOGGED_MODEL = "models:/"  # followed by its id: the source of every version of the zoo
_GATE = "gate"  # one of the tags that every version of the zoo has


@dataclass(frozen=True)
class Row:
    """A registered version as a row of the leaderboard."""

    model: str
    version: str
    run_id: str
    champion: bool
    record: VersionRecord


def register(name: str, model_id: str, run_id: str, record: VersionRecord) -> str:
    """Registers a logged model with its record as tags; returns the version."""
    client = connect()
    _ensure_model(client, name)
    registered = client.create_model_version(
        name, LOGGED_MODEL + model_id, run_id, tags=record.to_tags(), model_id=model_id
    )
    version: str = str(registered.version)
    return version


def promote_if_better(name: str, version: str) -> str | None:
    """Promotes a version that passed its gate and beats the champion; otherwise returns the reason."""
    client = connect()
    with locked("promotion"):
        record = _record(client, name, version)
        if record.gate == "failed":
            return record.gate_reason
        champion = champion_of(client, name)
        if champion is not None:
            held = _record(client, name, champion)
            if held.data_digest != record.data_digest:
                return f"champion {champion} was measured on other data; compare them and use zoo promote"
            if not TASKS[record.kind].better(record.value, held.value):
                return (
                    f"{record.metric} {record.value:.6g} does not beat champion {champion}'s {held.value:.6g}"
                )
        _make_champion(client, name, version)
    return None


def promote(name: str, version: str) -> None:
    """Makes a version the champion, whatever its metric; raises `PromotionRefused` if its gate failed."""
    client = connect()
    with locked("promotion"):
        _passed(client, name, version)
        if champion_of(client, name) != version:
            _make_champion(client, name, version)


def rollback(name: str) -> str:
    """Reverts the last promotion; returns the version that is champion again."""
    client = connect()
    with locked("promotion"):
        history = _history(client, name)
        if history:
            _record(client, name, history[-1])  # refuses a data set's name
        if len(history) < 2:
            raise PromotionRefused(f"{name} has no earlier champion to go back to")
        previous = history[-2]
        _end_challenge(client, name, previous)
        client.set_registered_model_alias(name, CHAMPION, previous)
        client.set_registered_model_tag(name, HISTORY, json.dumps(history[:-1]))
        _follow(client, _record(client, name, previous))
    return previous


def challenge(name: str, version: str, mode: ChallengerMode) -> None:
    """Makes a version the challenger of the champion; ends an earlier challenge.

    Raises `PromotionRefused` if the version may not challenge.
    """
    client = connect()
    with locked("promotion"):
        record = _passed(client, name, version)
        champion = champion_of(client, name)
        if champion is None:
            raise PromotionRefused(f"{name} has no champion to challenge; zoo promote makes one")
        if champion == version:
            raise PromotionRefused(f"{name} version {version} is the champion itself")
        if not mode.share and TASKS[record.kind].alike is None:
            raise PromotionRefused(
                f"two answers of {name} may differ and both be good, so there is nothing to compare in the "
                "shadow: give it a --share of the requests"
            )
        _end_challenge(client, name)
        # The mode first: a service that reads in between finds no challenger, instead of one without a mode.
        client.set_model_version_tag(name, version, CHALLENGER_MODE, str(mode))
        client.set_registered_model_alias(name, CHALLENGER, version)


def end_challenge(name: str) -> str:
    """Ends a model's challenge; returns the challenger's version, or raises `NotFound` if there is none."""
    client = connect()
    with locked("promotion"):
        version = _alias_of(client, name, CHALLENGER)
        if version is None:
            raise NotFound(f"{name!r} has no challenger; zoo challenger {name} VERSION makes one")
        _end_challenge(client, name)
    return version


def leaderboard(dataset: str | None = None) -> list[Row]:
    """Returns every registered version, ordered by data set and kind, the best first."""
    client = connect()
    champions = {m.name: m.aliases.get(CHAMPION) for m in _all_models(client)}
    rows = [
        Row(v.name, str(v.version), v.run_id or "", str(champions.get(v.name)) == str(v.version), record)
        for v in _all_versions(client)
        if COPY_OF_MODEL not in v.tags
        and _GATE in v.tags  # a team's registry may hold other models too
        and (record := VersionRecord.from_tags(v.tags))
        and dataset in (None, record.dataset)
    ]

    def rank(row: Row) -> tuple[str, str, float]:
        sign = -1 if TASKS[row.record.kind].higher_is_better else 1
        return row.record.dataset, row.record.kind, sign * row.record.value

    return sorted(rows, key=rank)


def download(name: str, version: str) -> Path:
    """Downloads a registered version's artifacts, including its bundle; returns the local folder."""
    connect()
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}"))


def record_of(name: str, version: str) -> VersionRecord:
    """Returns the record of a registered version; raises `NotFound` if there is no such version."""
    return _record(connect(), name, version)


def champion_of(client: MlflowClient, name: str) -> str | None:
    """Returns the champion's version, or None if the model does not exist or has no champion."""
    return _alias_of(client, name, CHAMPION)


def _alias_of(client: MlflowClient, name: str, alias: str) -> str | None:
    try:
        version = client.get_registered_model(name).aliases.get(alias)
    except MlflowException:
        return None
    return None if version is None else str(version)


def champion(name: str) -> str | None:
    """Returns the champion's version, or None; see `champion_of`."""
    return champion_of(connect(), name)


def variant_of(name: str, version: str, variant: str) -> str | None:
    """Returns the version that is the given variant of a version, or None."""
    for found in _all_versions(connect(), name):
        if (found.tags.get("variant"), found.tags.get("variant_of")) == (variant, version):
            return str(found.version)
    return None


def run_of(name: str, version: str) -> str:
    """Returns the id of a version's run; raises `NotFound` if the zoo has no such version."""
    client = connect()
    _record(client, name, version)
    return str(client.get_model_version(name, version).run_id)


def resolve(name: str, alias: str = CHAMPION) -> tuple[str, str]:
    """Returns the model and version behind a model's or data set's name; raises `NotFound` if none."""
    client = connect()
    version = _alias_of(client, name, alias)
    if version is None:
        raise NotFound(f"no {alias} answers to {name!r}; zoo leaderboard lists what there is")
    tags = client.get_model_version(name, version).tags
    return tags.get(COPY_OF_MODEL, name), tags.get(COPY_OF_VERSION, version)


def _make_champion(client: MlflowClient, name: str, version: str) -> None:
    history = _history(client, name)
    _end_challenge(client, name, version)
    client.set_registered_model_alias(name, CHAMPION, version)
    client.set_registered_model_tag(name, HISTORY, json.dumps([*history, version]))
    _follow(client, _record(client, name, version))


def _end_challenge(client: MlflowClient, name: str, version: str | None = None) -> None:
    """Ends the challenge of a version, or any challenge if no version is given."""
    challenger = _alias_of(client, name, CHALLENGER)
    if challenger is not None and version in (None, challenger):
        client.delete_registered_model_alias(name, CHALLENGER)
        client.delete_model_version_tag(name, challenger, CHALLENGER_MODE)


def _history(client: MlflowClient, name: str) -> list[str]:
    """Returns champions in order of promotion, the current one last even if others moved the alias."""
    try:
        model = client.get_registered_model(name)
    except MlflowException:
        raise NotFound(f"there is no model {name!r}; zoo leaderboard lists them") from None
    history: list[str] = json.loads(model.tags.get(HISTORY, "[]"))
    present = model.aliases.get(CHAMPION)
    return history if present is None or history[-1:] == [str(present)] else [*history, str(present)]


def _follow(client: MlflowClient, changed: VersionRecord) -> None:
    """Points the data set's name at the best champion of any architecture."""
    dataset = changed.dataset
    kind = datasets.find(dataset).kind if dataset in datasets.names() else changed.kind
    if not TASKS[kind].names_data_sets:
        return
    champions = [row for row in leaderboard(dataset) if row.champion and row.record.kind == kind]
    if not champions:
        return
    best = champions[0]
    copies = [v for v in _all_versions(client, dataset) if v.tags.get(COPY_OF_MODEL) == best.model]
    copy = next((v for v in copies if v.tags[COPY_OF_VERSION] == best.version), None)
    if copy is None:
        _ensure_model(client, dataset)
        original = client.get_model_version(best.model, best.version)
        tags = original.tags | {COPY_OF_MODEL: best.model, COPY_OF_VERSION: best.version}
        source = str(original.source)
        model_id = source.removeprefix(LOGGED_MODEL)  # an MLflow server does not return it otherwise
        copy = client.create_model_version(dataset, source, original.run_id, tags=tags, model_id=model_id)
    client.set_registered_model_alias(dataset, CHAMPION, str(copy.version))


def _passed(client: MlflowClient, name: str, version: str) -> VersionRecord:
    """Returns a version's record; raises `PromotionRefused` if its gate failed."""
    record = _record(client, name, version)
    if record.gate == "failed":
        raise PromotionRefused(f"{name} version {version} failed its gate: {record.gate_reason}")
    return record


def _record(client: MlflowClient, name: str, version: str) -> VersionRecord:
    try:
        found = client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            reason = hide_credentials(str(error))
            raise ZooError(f"version {version} of {name!r} cannot be read: {reason}") from None
        raise NotFound(f"there is no version {version} of {name!r}; zoo leaderboard lists them") from None
    if _GATE not in found.tags:
        raise NotFound(f"version {version} of {name!r} was not registered by the zoo")
    if COPY_OF_MODEL in found.tags:
        raise PromotionRefused(f"{name!r} is a data set's name: promote {found.tags[COPY_OF_MODEL]} instead")
    return VersionRecord.from_tags(found.tags)


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _all_versions(client: MlflowClient, name: str | None = None) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = client.search_model_versions(f"name='{name}'" if name else None, PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _all_models(client: MlflowClient) -> Iterator["mlflow.entities.model_registry.RegisteredModel"]:
    token = None
    while True:
        page = client.search_registered_models(max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return
