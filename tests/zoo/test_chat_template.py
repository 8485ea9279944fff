"""Chat templates: what they render, that transformers renders the same, and what one may not do."""

import time

import pytest

from zoo.errors import InputTooLarge, InvalidInput
from zoo.tasks.chat_template import MAX_TEXT, render

# SmolLM2's, ChatML with a system message of its own.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
)
INDENTED = """{%- set ns = namespace(n=0) %}
{% for message in messages %}
    {% if message.role == 'system' %}
    [SYS] {{ message.content | trim }}
    {% elif message['role'] == "user" %}
        {%- set ns.n = ns.n + 1 %}
Q{{ ns.n }}: {{ message.content.strip() }} ~ {{ loop.index0 % 2 == 0 }}
    {% else %}
A: {{ message['content'] | tojson }}{{ '</s>' if not loop.last }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
A: {% endif %}
"""
BACKWARDS = """{% macro turn(role, content) %}<{{ role ~ '>' ~ content }}</{{ role }}>{% endmacro %}
{% for m in messages[::-1] %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ turn(m.role, m.content) }}
{% set body %}{{ m.content | upper }} {{ m.content | length }}{% endset %}{{ body }}{% endfor %}"""

Messages = list[dict[str, str]]
USER: Messages = [{"role": "user", "content": " Hi {{ 1 }} "}]
TALK: Messages = [
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": "naïve 🙂"},
    {"role": "assistant", "content": 'a "b"'},
    *USER,
]
# What transformers 5.24 renders.
RENDERED = {
    "default system message": (CHATML, USER, SYSTEM + "<|im_start|>user\n Hi {{ 1 }} <|im_end|>\n"),
    "chatml": (
        CHATML,
        TALK,
        "<|im_start|>system\n Be brief.\n<|im_end|>\n<|im_start|>user\nnaïve 🙂<|im_end|>\n"
        '<|im_start|>assistant\na "b"<|im_end|>\n<|im_start|>user\n Hi {{ 1 }} <|im_end|>\n',
    ),
    "indented": (
        INDENTED,
        TALK,
        '    [SYS] Be brief.\nQ1: naïve 🙂 ~ False\nA: "a \\"b\\""</s>\nQ2: Hi {{ 1 }} ~ False\n',
    ),
    "backwards": (
        BACKWARDS,
        TALK,
        "<user> Hi {{ 1 }} </user>\n HI {{ 1 }}  12"
        '<assistant>a "b"</assistant>\nA "B" 5'
        "<user>naïve 🙂</user>\nNAÏVE 🙂 7",
    ),
}


@pytest.mark.parametrize(("template", "messages", "expected"), RENDERED.values(), ids=RENDERED)
def test_as_transformers_render(template: str, messages: Messages, expected: str) -> None:
    assert render(template, messages, add_generation_prompt=False) == expected


def test_the_answer_begins() -> None:
    asked = render(CHATML, USER)
    assert asked == render(CHATML, USER, add_generation_prompt=False) + "<|im_start|>assistant\n"


DOUBLED = (
    "{{% set ns = namespace(x='ab') %}}"
    "{{% for a in range(99) %}}{{% set ns.x = ns.x {} ns.x %}}{{% endfor %}}"
)
BOMBS = {
    "{{ ''.__class__.__mro__ }}": "unsafe",
    "{{ messages.append({}) }}": "unsafe",
    "{{ messages[0].update({}) }}": "unsafe",
    "{% include '/etc/passwd' %}": "no loader",
    "{{ lipsum.__globals__ }}": "undefined|unsafe",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}": "steps",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}": "steps",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}": "recursive",
    "{{ range(1000000000) | list }}": "Range too big",
    "{{ 'a' * 1000000000 }}": r"\* of a str",
    "{{ 9 ** 999999999 }}": r"\*\* of a int",
    "{{ '%999999999d' % 1 }}": "% of a str",
    "{{ '{:999999999}'.format(1) }}": "unsafe",
    "{{ 'a'.center(999999999) }}": "unsafe",
    "{{ 'a' | center(999999999) }}": "center",
    DOUBLED.format("~"): "at most",
    DOUBLED.format("+"): "at most",
    "{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 99: "at most",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 99 + "{{ x }}": "no text",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 99 + "{{ x | tojson }}": "steps",
    "a" * 100_000: "more than 65536",
}


@pytest.mark.parametrize(("template", "why"), BOMBS.items(), ids=[bomb[:60] for bomb in BOMBS])
def test_what_a_template_may_not_do(template: str, why: str) -> None:
    messages = [dict(message) for message in TALK]
    started = time.process_time()
    with pytest.raises(InvalidInput, match=why):
        render(template, messages)
    assert time.process_time() - started < 10
    assert messages == TALK


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "template: Roles must alternate"),
        ("{{ messages[9].content.parts }}", "no element 9"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% if %}", "Expected an expression"),
    ],
)
def test_a_template_that_fails(template: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        render(template, USER)


def test_a_conversation_that_is_too_long() -> None:
    half = [{"role": "user", "content": "a" * (MAX_TEXT // 2)}]
    assert len(render(CHATML, half)) > MAX_TEXT // 2
    with pytest.raises(InputTooLarge, match="at most 1048576 characters"):
        render(CHATML, half * 2)
