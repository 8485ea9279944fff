"""Many conversations at once with one decoder, some given up: each that ends is the one that it is alone."""

import asyncio
import random
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from openai import AsyncOpenAI, OpenAI
from server import Server, memory, running, wait_for
from tiny_zoo import ROLES, TEMPLATE, TURN_ENDS, write
from tokenizers import Tokenizer

from training import smollm2
from training.llama_graph import Variant, build
from zoo.models.llama import Llama, LlamaConfig
from zoo.tasks.chat import Chat
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.memory import KeyValueCache
from zoo.tasks.text_tokenizer import byte_pair_tokenizer

MODEL, SLOTS = "llama-talk", 8
CONFIG = LlamaConfig(layers=2, width=64, heads=4, key_value_heads=2, hidden=64)
PLACES = 512
PATIENCE = 900.0  # seconds, of those who are asked last
RULES = "You answer briefly and never say more than you were asked. " * 3
GROWTH = 0.05
"""Share of its memory that the service may have grown since all slots have been in use once."""


def write_tiny(directory: Path) -> None:
    """A decoder of random numbers, whose tokens are bytes."""
    tokenizer = byte_pair_tokenizer([], 256 + len(ROLES) + 1, (*ROLES, TURN_ENDS))
    numbers = np.random.default_rng(0)
    weights = {
        name: numbers.normal(1 if "norm" in name else 0, 0.3, weight.shape).astype(np.float32)
        for name, weight in Llama(CONFIG, tokenizer.get_vocab_size()).state_dict().items()
    }
    write_decoder(directory, CONFIG, weights, tokenizer, Chat(template=TEMPLATE, ends=(TURN_ENDS,)), "fp32")


def write_smollm2(directory: Path) -> None:
    """The real one, in 4 bits; its file is fetched where it is not there."""
    model = smollm2.load()
    chat = Chat(template=model.chat_template, ends=model.ends)
    write_decoder(directory, model.config, model.weights, model.tokenizer, chat, "int4")


def write_decoder(
    directory: Path,
    config: LlamaConfig,
    weights: dict[str, np.ndarray],
    tokenizer: Tokenizer,
    chat: Chat,
    variant: Variant,
) -> None:
    """A bundle of a decoder that holds conversations."""
    memory = KeyValueCache(layers=config.layers, heads=config.key_value_heads, width=config.head_width)
    task = LanguageModelling(
        tokenizer=tokenizer.to_str(), opening="abc", memory=memory, places=PLACES, chat=chat
    )
    tokens = task.tokens("abcdefgh")[None]
    graph = build(config, weights, variant, PLACES)
    write(directory, MODEL, task, graph, {"tokens": tokens, "target": tokens}, 1.5)


@pytest.fixture(scope="module", params=[write_tiny, pytest.param(write_smollm2, marks=pytest.mark.soak)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("talk")
    request.param(folder / "bundles" / "talk")
    settings = {"ZOO_GENERATIONS": str(SLOTS), "ZOO_QUEUE": "200", "ZOO_DEADLINE": str(PATIENCE)}
    with running(folder / "log", ZOO_BUNDLES=str(folder / "bundles"), **settings) as server:
        yield server


def asked(number: int) -> dict:
    """A conversation with rules that many share, of some length, and an answer of some length."""
    chosen = random.Random(number)
    messages = [{"role": "user", "content": "ha " * chosen.randint(1, 40)}]
    if number % 2:
        messages.insert(0, {"role": "system", "content": RULES})
    return {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": chosen.randint(5, 120)}


@pytest.mark.slow
@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.soak)])
def test_conversations_at_once(server: Server, count: int) -> None:
    with OpenAI(base_url=f"{server.url}/v1", api_key="-", timeout=PATIENCE) as client:
        alone = [client.chat.completions.create(**asked(i)).choices[0] for i in range(count)]
    expected = [(choice.message.content, choice.finish_reason) for choice in alone]
    given_up = set(random.Random(7).sample(range(count), count * 3 // 10))

    async def talk(client: AsyncOpenAI, number: int) -> tuple[str, str | None] | None:
        stream = await client.chat.completions.create(**asked(number), stream=True)
        text, reason = "", None
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            reason = chunk.choices[0].finish_reason or reason
            if number in given_up and text:
                await stream.close()
                return None
        return text, reason

    async def all_at_once() -> list[tuple[str, str | None] | None]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-", timeout=PATIENCE) as client:
            return await asyncio.gather(*(talk(client, number) for number in range(count)))

    taken = []
    for _ in range(3):
        answers = asyncio.run(all_at_once())
        ended = [i for i, answer in enumerate(answers) if answer is not None]
        assert len(ended) >= count - len(given_up)
        assert [answers[i] for i in ended] == [expected[i] for i in ended]
        wait_for(lambda: slots(server) == (0, SLOTS))
        taken.append(memory(server))
    assert taken[-1] < (1 + GROWTH) * taken[0], taken


def slots(server: Server) -> tuple[int, int]:
    """Those in which a text is written, and those that are free."""
    page = httpx.get(f"{server.url}/metrics").text
    found = dict(re.findall(rf'zoo_generation_slots{{model="{MODEL}",state="(\w+)"}} ([\d.]+)', page))
    return int(float(found["busy"])), int(float(found["free"]))
