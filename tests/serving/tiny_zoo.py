"""Bundles of hand-made graphs, and a registry that holds them as training would put them there."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
from empty_database import empty_database
from mlflow import MlflowClient, initialize_logged_model, set_tracking_uri
from mlflow.exceptions import MlflowException
from onnx import TensorProto, helper, numpy_helper

from zoo import bundle
from zoo.bundle import Bundle, Identity
from zoo.graph import Graph
from zoo.tasks import (
    Arrays,
    ImageClassification,
    ImageGeneration,
    Schema,
    TabularClassification,
    TabularRegression,
    Task,
)
from zoo.tasks.chat import Chat
from zoo.tasks.forecasting import Forecasting
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import RecurrentState
from zoo.tasks.sequence_to_sequence import END, PADDING, SequenceToSequence
from zoo.tasks.text_tokenizer import byte_pair_tokenizer
from zoo.version import COPY_OF_MODEL, COPY_OF_VERSION, VersionRecord

FEATURES = ("age", "mass")
SPECIES = ("setosa", "versicolor", "virginica")
DIGITS = tuple("0123456789")
SIDE = 8
CORNER = (slice(0, 3), slice(0, 3))


TypedShape = tuple[str, int, list[str | int]]
"""Name, element type and shape of an input or output."""


def _graph(
    nodes: list[onnx.NodeProto], constants: Arrays, results: list[TypedShape], *sources: TypedShape
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*source) for source in sources],
        [helper.make_tensor_value_info(*result) for result in results],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def regression_graph(weights: list[float], bias: float) -> bytes:
    """`value` = `features` · weights + bias."""
    constants = {"weights": np.float32(weights), "bias": np.array(bias, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["value"]),
    ]
    features = ("features", TensorProto.FLOAT, ["batch", len(weights)])
    return _graph(nodes, constants, [("value", TensorProto.FLOAT, ["batch"])], features)


def softmax_graph(weights: np.ndarray) -> bytes:
    """`probabilities` = softmax(`features` · weights), weights [F, K]."""
    inputs, classes = weights.shape
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return _graph(
        nodes,
        {"weights": weights.astype(np.float32)},
        [("probabilities", TensorProto.FLOAT, ["batch", classes])],
        ("features", TensorProto.FLOAT, ["batch", inputs]),
    )


def image_graph(weights: np.ndarray, side: int = SIDE, channels: int = 1) -> bytes:
    """`probabilities` = softmax(flattened `image` / 255 · weights), weights [side² · channels, K]."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return _graph(
        nodes,
        {"weights": weights.astype(np.float32), "white": np.array(255, np.float32)},
        [("probabilities", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        ("image", TensorProto.UINT8, ["batch", side, side, channels]),
    )


def generator_graph(weights: np.ndarray, embedding: np.ndarray) -> bytes:
    """`image` = sigmoid(`latent` · weights + embedding[`class`]), weights [Z, 64], embedding [K, 64]."""
    nodes = [
        helper.make_node("MatMul", ["latent", "weights"], ["variation"]),
        helper.make_node("Gather", ["embedding", "class"], ["prototype"]),
        helper.make_node("Add", ["variation", "prototype"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["image"]),
    ]
    return _graph(
        nodes,
        {
            "weights": weights.astype(np.float32),
            "embedding": embedding.astype(np.float32),
            "shape": np.array([-1, SIDE, SIDE, 1]),
        },
        [("image", TensorProto.FLOAT, ["batch", SIDE, SIDE, 1])],
        ("latent", TensorProto.FLOAT, ["batch", len(weights)]),
        ("class", TensorProto.INT64, ["batch"]),
    )


def write(
    directory: Path, name: str, task: Task, graph: bytes | dict[str, bytes], train: Arrays, value: float
) -> Bundle:
    architecture, _, dataset = name.partition("-")
    identity = Identity(
        model=name,
        architecture=architecture,
        dataset=dataset,
        kind=task.kind,
        run_id="0" * 32,
        data_digest="d" * 64,
        parameters=3,
        metrics={task.primary_metric: value},
    )
    example = task.example_inputs(1)
    graphs = {"model": graph} if isinstance(graph, bytes) else graph
    return bundle.write(directory, identity, task, graphs, example, train, f"# {name}\n\nTiny.\n")


def write_regression(
    directory: Path, bias: float = 1.0, name: str = "linear_regression-diabetes", mse: float = 2900.0
) -> Bundle:
    """A model that answers age + 2 · mass + bias, so that an answer shows which version gave it."""
    random = np.random.default_rng(0)
    train = {"features": random.normal(5, 2, (50, 2)).astype(np.float32), "target": random.normal(size=50)}
    task = TabularRegression.fit(train, Schema(feature_names=FEATURES, target="progression", unit="points"))
    return write(directory, name, task, regression_graph([1.0, 2.0], bias), train, mse)


def write_classification(
    directory: Path, name: str = "perceptron-iris", classes: int = 3, accuracy: float = 0.9
) -> Bundle:
    """A model of species by two features."""
    random = np.random.default_rng(1)
    train = {"features": random.normal(size=(50, 2)).astype(np.float32), "target": np.zeros(50, np.int64)}
    task = TabularClassification.fit(train, Schema(feature_names=FEATURES, labels=SPECIES[:classes]))
    return write(directory, name, task, softmax_graph(random.normal(size=(2, classes))), train, accuracy)


def write_images(
    directory: Path, name: str = "lenet5-mnist", accuracy: float = 0.99, side: int = SIDE
) -> Bundle:
    """A model of digits by grey pixels."""
    random = np.random.default_rng(2)
    image = random.integers(0, 256, (50, side, side, 1), dtype=np.uint8)
    train = {"image": image, "target": np.zeros(50, np.int64)}
    task = ImageClassification.fit(train, Schema(labels=DIGITS))
    graph = image_graph(random.normal(size=(side * side, 10)), side)
    return write(directory, name, task, graph, train, accuracy)


def write_digits(directory: Path, train: Arrays, name: str = "mlp-digits") -> Bundle:
    """A model of real digits by 8 x 8 grey pixels, which it does not know."""
    task = ImageClassification.fit(train, Schema(labels=DIGITS))
    return write(directory, name, task, image_graph(np.zeros((SIDE * SIDE, 10))), train, 0.1)


def write_corner(directory: Path, name: str = "mlp-corner") -> Bundle:
    """A model for which 8 x 8 grey pixels are a 1 the more, the brighter their CORNER is."""
    train = {"image": np.zeros((9, SIDE, SIDE, 1), np.uint8)}
    weights = np.zeros((SIDE, SIDE, len(DIGITS)))
    weights[*CORNER, 1] = 1
    graph = image_graph(weights.reshape(-1, len(DIGITS)))
    return write(directory, name, ImageClassification.fit(train, Schema(labels=DIGITS)), graph, train, 0.9)


def write_photos(directory: Path, name: str = "alexnet-photos") -> Bundle:
    """A model of 96 x 96 colour pixels: `warm` where red outweighs blue, `cold` otherwise."""
    side = 96
    random = np.random.default_rng(4)
    train = {"image": random.integers(0, 256, (9, side, side, 3), dtype=np.uint8)}
    task = ImageClassification.fit(train, Schema(labels=("warm", "cold")))
    red_against_blue = np.tile([1, 0, -1], side * side)[:, None] * 20 / side**2
    weights = np.concatenate([red_against_blue, -red_against_blue], axis=1)
    return write(directory, name, task, image_graph(weights, side, 3), train, 0.9)


def write_generator(directory: Path, name: str = "gan-mnist", distance: float = 5.0) -> Bundle:
    """A generator of 8 x 8 grey pictures: of class k row k is bright, and the latent varies every pixel."""
    random = np.random.default_rng(3)
    task = ImageGeneration(height=SIDE, width=SIDE, channels=1, labels=DIGITS, latent_size=4)
    rows = np.kron(np.eye(len(DIGITS), SIDE), np.ones((1, SIDE)))  # [K, 64]; classes 8 and 9 have none
    graph = generator_graph(random.normal(size=(4, SIDE * SIDE)), 12 * rows - 3)
    return write(directory, name, task, graph, {}, distance)


def write_forecaster(directory: Path, name: str = "lstm-sales", mase: float = 0.8) -> Bundle:
    """A model of monthly sales, whose two steps ahead are the last value and the one before."""
    series = np.random.default_rng(5).normal(100, 10, (60, 1)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(series, 6, axis=0).transpose(0, 2, 1)  # [N, W + H, V]
    train = {"history": views[:, :4], "target": views[:, 4:]}
    node = helper.make_node("Gather", ["history", "places"], ["forecast"], axis=1)
    graph = _graph(
        [node],
        {"places": np.array([-1, -2])},
        [("forecast", TensorProto.FLOAT, ["batch", 2, 1])],
        ("history", TensorProto.FLOAT, ["batch", "time", 1]),
    )
    schema = Schema(feature_names=("sales",), unit="EUR", period="M", season=12)
    task = Forecasting.fit(train, schema).calibrated(Graph(graph), train)
    return write(directory, name, task, graph, train, mase)


LETTERS = "abcdefghij\n"
"""What the tiny language model writes, again and again."""


TALK = Chat(template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}a", ends=("j",))
"""Of a tiny model that holds conversations: whatever is said, its answer is bcdefghi."""


def table_graph(table: np.ndarray, slow: int = 1) -> bytes:
    """`logits` = table[`tokens`], table [V, V]; the larger `slow`, the slower."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["expected"]),
        # A product of two large matrices of zeros, which come from the state and so cannot be known before.
        helper.make_node("ReduceSum", ["state"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Expand", ["nothing", "size"], ["wide"]),
        helper.make_node("MatMul", ["wide", "wide"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["delay"], keepdims=0),
        helper.make_node("Add", ["expected", "delay"], ["logits"]),
        helper.make_node("Add", ["state", "one"], ["next_state"]),
    ]
    constants = {
        "table": table,
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "size": np.array([slow, slow]),
    }
    state: list[str | int] = ["batch", *RecurrentState().shape]
    return _graph(
        nodes,
        constants,
        [
            ("logits", TensorProto.FLOAT, ["batch", "time", len(table)]),
            ("next_state", TensorProto.FLOAT, state),
        ],
        ("tokens", TensorProto.INT64, ["batch", "time"]),
        ("state", TensorProto.FLOAT, state),
    )


def write_writer(
    directory: Path, name: str = "rnn-letters", slow: int = 1, chat: Chat | None = None, bits: float = 1.5
) -> Bundle:
    """A model that expects each of LETTERS to be followed by the next; the larger `slow`, the slower."""
    train = {"text": np.frombuffer(LETTERS.encode() * 20, np.uint8)}
    task = LanguageModelling.fit(train, Schema()).model_copy(update={"chat": chat})
    ids = [task.codec.token_to_id(letter) for letter in LETTERS]
    table = np.zeros((task.vocabulary, task.vocabulary), np.float32)
    table[ids, np.roll(ids, -1)] = 4
    return write(directory, name, task, table_graph(table, slow), task.examples(train), bits)


REPLY = "abcd\N{LATIN SMALL LETTER E WITH ACUTE}fghij"
"""What the tiny model that holds conversations answers."""
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TURN_ENDS = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{{ '<|assistant|>' }}"
)


def write_talker(directory: Path, name: str = "rnn-reply", slow: int = 1) -> Bundle:
    """A model that answers REPLY in every conversation of 300 tokens at most, a byte a token."""
    bytes_alone = byte_pair_tokenizer([], 256 + len(ROLES) + 1, (*ROLES, TURN_ENDS))
    task = LanguageModelling(
        tokenizer=bytes_alone.to_str(),
        opening="abc",
        places=300,
        chat=Chat(template=TEMPLATE, ends=(TURN_ENDS,)),
    )
    ids = task.tokens(f"{ROLES[-1]}{REPLY}{TURN_ENDS}")
    table = np.random.default_rng(6).normal(size=(task.vocabulary, task.vocabulary)).astype(np.float32)
    table[ids[:-1], ids[1:]] = 12
    examples = {"tokens": ids[None], "target": ids[None]}
    return write(directory, name, task, table_graph(table, slow), examples, 1.5)


def copier_graphs(vocabulary: int) -> dict[str, bytes]:
    """Writes the source again: the decoder counts by its past how many tokens it has written."""
    cache: list[str | int] = ["batch", 1, 1, "places", 1]
    source = ("source", TensorProto.INT64, ["batch", "source"])
    memory = [(name, TensorProto.FLOAT, cache) for name in ("memory_keys", "memory_values")]
    past = [(name, TensorProto.FLOAT, cache) for name in ("past_keys", "past_values")]
    encoder = _graph(
        [
            helper.make_node("Cast", ["source"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["float", "axes"], ["memory_keys"]),
            helper.make_node("Neg", ["memory_keys"], ["memory_values"]),
        ],
        {"axes": np.array([1, 2, 4])},
        memory,
        source,
    )
    decoder = _graph(
        [
            helper.make_node("Shape", ["past_keys"], ["written"], start=3, end=4),
            # Enough ends behind the source for whatever is written after it.
            helper.make_node("Pad", ["source", "behind", "end"], ["longer"]),
            helper.make_node("Gather", ["longer", "written"], ["following"], axis=1),
            helper.make_node("Equal", ["following", "padding"], ["over"]),
            helper.make_node("Where", ["over", "end", "following"], ["token"]),
            helper.make_node("OneHot", ["token", "depth", "sureness"], ["logits"]),
            helper.make_node("Cast", ["tokens"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["float", "axes"], ["new"]),
            helper.make_node("Concat", ["past_keys", "new"], ["keys"], axis=3),
            helper.make_node("Concat", ["past_values", "new"], ["values"], axis=3),
        ],
        {
            "behind": np.array([0, 0, 0, 200]),
            "end": np.array(END),
            "padding": np.array(PADDING),
            "depth": np.array(vocabulary),
            "sureness": np.array([0, 9], np.float32),
            "axes": np.array([1, 2, 4]),
        },
        [
            ("logits", TensorProto.FLOAT, ["batch", "tokens", vocabulary]),
            *((name, TensorProto.FLOAT, cache) for name in ("keys", "values")),
        ],
        ("tokens", TensorProto.INT64, ["batch", "tokens"]),
        source,
        *memory,
        *past,
    )
    return {"encoder": encoder, "decoder": decoder}


def write_copier(directory: Path, name: str = "transformer-echo") -> Bundle:
    """A model that answers a text by the same text."""
    texts = np.array([text.encode() for text in ("one two three", "four five", "six", "seven eight nine")])
    train = {"source": texts, "target": texts}
    task = SequenceToSequence.fit(train, Schema(metric="bleu", vocabulary=290))
    graphs = copier_graphs(task.vocabulary)
    return write(directory, name, task, graphs, task.examples(train), 99.0)


def record_of(made: Bundle, gate: str = "passed", reason: str = "better than before") -> VersionRecord:
    """The record that training would tag the version with."""
    manifest, task = made.manifest, made.task
    return VersionRecord(
        architecture=manifest.architecture,
        dataset=manifest.dataset,
        kind=manifest.kind,
        metric=task.primary_metric,
        value=manifest.metrics[task.primary_metric],
        metrics=manifest.metrics,
        gate=gate,
        gate_reason=reason,
        digest=made.digest,
        data_digest=manifest.data_digest,
        seed=0,
        parameters=manifest.parameters,
        train_seconds=1.0,
        onnx_bytes=sum(path.stat().st_size for path in made.graph_paths),
        latency_ms=0.1,
    )


class TinyRegistry:
    """An MLflow registry in a SQLite file of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        database = home / "mlflow.db"
        if not database.exists():
            database.write_bytes(empty_database())
        self.uri = f"sqlite:///{database}"
        set_tracking_uri(self.uri)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        self.experiment = self.client.create_experiment("tiny", artifact_location=str(home / "artifacts"))

    def register(self, made: Bundle, gate: str = "passed", reason: str = "better than before") -> str:
        """Logs a bundle as a model and registers it; returns the version's number."""
        set_tracking_uri(self.uri)  # a test may have made another registry since
        run = self.client.create_run(self.experiment)
        model = initialize_logged_model(
            name="model", source_run_id=run.info.run_id, experiment_id=self.experiment
        )
        self.client.log_model_artifacts(model.model_id, str(made.directory))
        self.client.finalize_logged_model(model.model_id, "READY")
        name, tags = made.manifest.model, record_of(made, gate, reason).to_tags()
        with contextlib.suppress(MlflowException):  # it has versions already
            self.client.create_registered_model(name)
        source = f"models:/{model.model_id}"
        version = self.client.create_model_version(
            name, source, run.info.run_id, tags=tags, model_id=model.model_id
        )
        return str(version.version)

    def promote(self, name: str, version: str) -> None:
        """Moves the champion."""
        self.client.set_registered_model_alias(name, "champion", version)

    def copy_to_data_set(self, name: str, version: str, data_set: str) -> None:
        """Makes a version the champion of its data set."""
        copied = self.client.copy_model_version(f"models:/{name}/{version}", data_set)
        for key, value in ((COPY_OF_MODEL, name), (COPY_OF_VERSION, version)):
            self.client.set_model_version_tag(data_set, copied.version, key, value)
        self.promote(data_set, str(copied.version))

    def files(self, name: str, version: str) -> Path:
        """The directory with a version's files."""
        return Path(self.client.get_model_version_download_uri(name, version))
