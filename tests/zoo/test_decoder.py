"""Texts in slots: each is read as if it were alone, whoever comes, goes and moves beside it."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.llama_graph import build
from zoo.decoder import Decoder
from zoo.graph import Graph
from zoo.models.llama import Llama, LlamaConfig

VOCABULARY, CONTEXT, SLOTS = 53, 24, 4
CONFIG = LlamaConfig(layers=2, width=64, heads=4, key_value_heads=2, hidden=64)
Tokens = NDArray[np.int64]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def model() -> Llama:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = Llama(CONFIG, VOCABULARY).eval()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.fixture(scope="module")
def graph(model: Llama) -> Graph:
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    return Graph(build(CONFIG, weights, "fp32", CONTEXT))


@pytest.fixture
def decoder(graph: Graph) -> Decoder:
    return Decoder(graph, CONFIG.layers, CONFIG.key_value_heads, CONFIG.head_width, CONTEXT, SLOTS)


@pytest.fixture
def alone(model: Llama) -> Callable[[list[int]], Floats]:
    """The logits after a text that is read by itself, at once, by torch."""

    @torch.no_grad()
    def logits(text: list[int]) -> Floats:
        return model(torch.tensor([text]))[0, -1].numpy()

    return logits


def text(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()


def near(answer: Floats, expected: Floats) -> None:
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def begin(decoder: Decoder, tokens: list[int]) -> int:
    slot = decoder.open()
    decoder.read(slot, np.array(tokens), np.array([], np.int64))
    return slot


def test_a_prompt_in_chunks_then_token_by_token(
    decoder: Decoder, alone: Callable[[list[int]], Floats]
) -> None:
    tokens, slot = text(0, CONTEXT), decoder.open()
    assert decoder.held(slot) == 0
    first = decoder.read(slot, np.array(tokens[:5]), np.array([0, 4]))
    near(first, np.stack([alone(tokens[:1]), alone(tokens[:5])]))
    near(decoder.read(slot, np.array(tokens[5:11]), np.array([5]))[0], alone(tokens[:11]))
    for place in range(11, CONTEXT):
        near(decoder.step({slot: tokens[place]})[slot], alone(tokens[: place + 1]))
    assert decoder.held(slot) == CONTEXT
    for read in (lambda: decoder.step({slot: 0}), lambda: decoder.read(slot, np.array([0]), np.array([0]))):
        with pytest.raises(
            ValueError, match=f"a text of {CONTEXT} tokens and 1 more is longer than {CONTEXT}"
        ):
            read()


def test_texts_come_go_and_move(decoder: Decoder, alone: Callable[[list[int]], Floats]) -> None:
    """A thousand random moves: every slot's logits are those of its text alone."""
    random, written = np.random.default_rng(0), dict[int, list[int]]()
    steps = 0
    for _ in range(1000):
        free = len(written) < SLOTS
        open_slots = list(written)
        match random.choice(["open", "close", "read", "step", "step", "step"]):
            case "open" if free:
                slot = decoder.open()
                assert slot not in written
                written[slot] = []
            case "close" if written and random.random() < 0.5:
                slot = int(random.choice(open_slots))
                decoder.close(slot)
                del written[slot]
            case "read" if written:
                slot = int(random.choice(open_slots))
                chunk = random.integers(0, VOCABULARY, random.integers(1, 9))
                if len(written[slot]) + len(chunk) <= CONTEXT:
                    logits = decoder.read(slot, chunk, np.array([len(chunk) - 1]))
                    written[slot] += chunk.tolist()
                    near(logits[0], alone(written[slot]))
            case "step":
                ready = [
                    slot for slot in open_slots if len(written[slot]) < CONTEXT and random.random() < 0.7
                ]
                tokens = {slot: int(random.integers(VOCABULARY)) for slot in ready}
                if tokens:
                    answers = decoder.step(tokens)
                    assert answers.keys() == tokens.keys()
                    for slot, token in tokens.items():
                        written[slot].append(token)
                        near(answers[slot], alone(written[slot]))
                        steps += len(tokens) > 1
        assert decoder.free == SLOTS - len(written)
        assert {slot: decoder.held(slot) for slot in written} == {s: len(t) for s, t in written.items()}
    assert steps > 100


def test_what_a_step_answers_stays(decoder: Decoder) -> None:
    slot = begin(decoder, text(0, 3))
    first = decoder.step({slot: 1})[slot]
    kept = first.copy()
    decoder.step({slot: 2})
    np.testing.assert_array_equal(first, kept)


def test_no_slot_is_open_twice(decoder: Decoder) -> None:
    slots = {decoder.open() for _ in range(SLOTS)}
    assert len(slots) == SLOTS
    with pytest.raises(IndexError):
        decoder.open()
    decoder.close(min(slots))
    assert decoder.open() == min(slots)


def test_a_text_begins_as_another(decoder: Decoder, alone: Callable[[list[int]], Floats]) -> None:
    first = text(0, 12)
    source = begin(decoder, first)
    prefix = decoder.prefix(source, 9)
    slot = begin(decoder, text(1, 3))  # which is forgotten
    near(decoder.step({source: 6})[source], alone([*first, 6]))
    decoder.close(source)
    decoder.copy_prefix(prefix, slot, 7)
    assert decoder.held(slot) == 7
    near(decoder.step({slot: 5})[slot], alone([*first[:7], 5]))
    with pytest.raises(ValueError, match="is longer"):
        decoder.copy_prefix(prefix, slot, CONTEXT)


def test_the_cache_is_not_copied(decoder: Decoder) -> None:
    """A run writes one place of each row's buffers, and nothing else."""
    slots = [begin(decoder, text(seed, length)) for seed, length in enumerate((3, 8))]
    decoder._cache[:, :, :, 10:] = 123
    before = decoder._cache.copy()
    decoder.step({slots[0]: 1, slots[1]: 2})
    changed = np.argwhere((decoder._cache != before).any(axis=(0, 2, 4)))
    assert changed.tolist() == [[0, 3], [1, 8]]


def test_places_without_text_take_no_memory(graph: Graph) -> None:
    slots = 1 << 18
    before = resident_bytes()
    roomy = Decoder(graph, CONFIG.layers, CONFIG.key_value_heads, CONFIG.head_width, CONTEXT, slots)
    begin(roomy, text(0, 5))
    assert roomy._cache.nbytes > 3e9
    assert resident_bytes() - before < 1e8


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
