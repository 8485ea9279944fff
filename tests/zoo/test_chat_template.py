"""Chat templates: what they render, that transformers renders the same, and what one may not do."""

import time
import tracemalloc

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
    "{{ a }}" * 9000: "more than 6000 syntax nodes",
}
SPENT = "more than 8388608 steps"
LONG: Messages = [{"role": "user", "content": "a" * 65_000}] * 16
JOINED = (
    "{% set n = namespace(x='', l=[]) %}{% for m in messages %}{% set n.x = n.x ~ m.content %}{% endfor %}"
)
MANY = "{% for i in range(100000) %}"
NESTED = "{% set x = (1,) %}{% set y = (1,) %}" + "{% set x = (x, x) %}{% set y = (y, y) %}" * 60
CODE = "{% set z = messages[0].role %}" * 500
NEEDLE = "{% set a = messages[0].content[:30000] %}{% set b = a[:15000] ~ 'b' %}" + MANY
WORK = {
    "looks for a text": (MANY + "{% if 'ab' in messages[0].content %}{% endif %}{% endfor %}", SPENT),
    "looks for no text": (MANY + "{% if 'ab' not in messages[0].content %}{% endif %}{% endfor %}", SPENT),
    "long text in another": (NEEDLE + "{% if b in a %}{% endif %}{% endfor %}", SPENT),
    "long text in another by a test": (NEEDLE + "{% if b is in a %}{% endif %}{% endfor %}", SPENT),
    "long text by which to split": (NEEDLE + "{% set z = a.split(b) %}{% endfor %}", SPENT),
    "many letters to strip": (NEEDLE + "{% set z = a.strip(b) %}{% endfor %}", SPENT),
    "many letters to trim": (NEEDLE + "{% set z = a | trim(b) %}{% endfor %}", SPENT),
    "capitals": (JOINED + MANY + "{% set z = n.x.upper() %}{% endfor %}", SPENT),
    "capitals by a filter": (JOINED + MANY + "{% set z = n.x | upper %}{% endfor %}", SPENT),
    "texts kept": (JOINED + MANY + "{% set n.l = n.l + [n.x ~ i] %}{% endfor %}", SPENT),
    "parts kept": (JOINED + MANY + "{% set n.l = n.l + [n.x[1:]] %}{% endfor %}", SPENT),
    "letters kept": (JOINED + MANY + "{% set n.l = n.l + [n.x | list] %}{% endfor %}", SPENT),
    "pieces kept": (JOINED + MANY + "{% set n.l = n.l + [n.x.split('a')] %}{% endfor %}", SPENT),
    "lists kept": ("{% set n = namespace(l=[]) %}" + MANY + "{% set n.l = n.l + [i] %}{% endfor %}", SPENT),
    "many parts joined": (JOINED + "{{ " + " ~ ".join(["n.x"] * 2000) + " }}", SPENT),
    "a macro writes": (
        JOINED + "{% macro f() %}" + MANY + "{{ n.x }}{% endfor %}{% endmacro %}{{ f() }}",
        SPENT,
    ),
    "a block is set": ("{% set x %}" + MANY + "a" * 9000 + "{% endfor %}{% endset %}", SPENT),
    "a block is filtered": (
        MANY + "{% set x %}{% filter default %}" + "a" * 9000 + "{% endfilter %}{% endset %}{% endfor %}",
        SPENT,
    ),
    "texts compared": (JOINED + MANY + "{% if n.x ~ '' == n.x %}{% endif %}{% endfor %}", SPENT),
    "lists compared": (NESTED + "{{ x == y }}", SPENT),
    "lists compared by a test": (NESTED + "{{ x is eq(y) }}", SPENT),
    "lists compared by a loop": (NESTED + "{% for z in [x, y] %}{{ loop.changed(z) }}{% endfor %}", SPENT),
    "list looked for": (NESTED + "{{ x in [y] }}", SPENT),
    "key of a mapping": (NESTED + "{% set z = {x: 1} %}", SPENT),
    "key that is looked for": (NESTED + "{{ x in messages[0] }}", SPENT),
    "key that is got": (NESTED + "{{ messages[0].get(x) }}", SPENT),
    "key of an item": (NESTED + "{{ messages[0][x] }}", SPENT),
    "text of a list": (NESTED + "{{ x | upper }}", SPENT),
    "text of a list by a test": (NESTED + "{{ x is lower }}", SPENT),
    "JSON": (JOINED + MANY + "{% set z = n.x | tojson %}{% endfor %}", SPENT),
    "integers looked at": (MANY + "{% if '' in range(100000) %}{% endif %}{% endfor %}", SPENT),
    "code of a loop": (MANY + CODE + "{% endfor %}", SPENT),
    "code of a macro": ("{% macro f() %}" + CODE + "{% endmacro %}" + MANY + "{{ f() }}{% endfor %}", SPENT),
    "code of a call": (
        "{% macro f() %}"
        + MANY
        + "{{ caller() }}{% endfor %}{% endmacro %}{% call f() %}"
        + CODE
        + "{% endcall %}",
        SPENT,
    ),
    "code of a block": (
        "{% block a %}{% if not messages %}{% endif %}" + CODE + "{% endblock %}"
        "{% macro f() %}" + MANY + "{{ self.a() }}{% endfor %}{% endmacro %}{{ f() }}",
        SPENT,
    ),
    "large integers": (
        "{% set n = namespace(i=1) %}" + MANY + "{% set n.i = n.i + n.i %}{% endfor %}",
        "64 bits",
    ),
    "a large difference": (
        "{% set n = namespace(i=1) %}" + MANY + "{% set n.i = n.i - -n.i %}{% endfor %}",
        "64 bits",
    ),
    "a large literal": (MANY + "{% set z = 0x" + "f" * 60_000 + " % 7 %}{% endfor %}", "64 bits"),
    "bytes of an integer": ("{% set x = (1).to_bytes(1000000000, 'big') %}", "unsafe"),
    "escaped": ("{% autoescape true %}{{ messages[0].content }}{% endautoescape %}", "autoescape"),
    "in a chain": ("{{ 1 in [1] in [[1]] }}", "compare further"),
}


@pytest.mark.parametrize(("template", "why"), BOMBS.items(), ids=[bomb[:60] for bomb in BOMBS])
def test_what_a_template_may_not_do(template: str, why: str) -> None:
    messages = [dict(message) for message in TALK]
    started = time.process_time()
    with pytest.raises(InvalidInput, match=why):
        render(template, messages)
    assert time.process_time() - started < 10
    assert messages == TALK


@pytest.mark.parametrize(("template", "why"), WORK.values(), ids=WORK)
def test_work_is_bounded(template: str, why: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidInput, match=why):
        render(template, LONG)
    assert time.process_time() - started < 3  # a second with the compilation, half of it without


@pytest.mark.parametrize(
    "name", [name for name in WORK if name.endswith(("joined", "kept", "set", "writes"))]
)
def test_memory_is_bounded(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            render(WORK[name][0], LONG)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


PLAIN = {
    "{{ 'a' in 'abc' and 'd' not in 'abc' and 1 in [1] and 'role' in messages[0] }}": "True",
    "{{ 'a, b'.split(', ')[-1] }}{{ ' a'.strip() }}{{ 'xa'.lstrip('x') }}": "baa",
    "{{ 'abc' | list | length }}{{ ('aß' | upper) }}{{ 1 - 3 }}{{ 7 % 4 }}{{ 1.5 + 1 }}": "3ASS-232.5",
    "{% for k, v in messages[0] | items %}{{ k ~ v }};{% endfor %}": "roleuser;content Hi {{ 1 }} ;",
    "{{ messages[0].get('tools') is none }}{{ messages[0] is mapping }}{{ 2 is in [2] }}": "TrueTrueTrue",
    "{% filter trim %} x {% endfilter %}{% set y | upper %}y{% endset %}{{ y }}": "xY",
    "{% block a %}b{% endblock %}{{ self.a() }}": "bb",
    "{% macro f(x=1) %}{{ x }}{{ caller() }}{% endmacro %}{% call f() %}c{% endcall %}": "1c",
    "{{ {'a': 1}['a'] }}{{ {1: 'b'}.get(1) }}{{ (1, 2)[0] }}{{ 1 < 2 < 3 }}": "1b1True",
}


@pytest.mark.parametrize(("template", "expected"), PLAIN.items())
def test_what_a_template_may_do(template: str, expected: str) -> None:
    assert render(template, USER) == expected


def test_the_longest_conversation_in_a_long_template() -> None:
    turns = [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "a </think> b"}] * 500
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.role + '\n' + m.content.strip() }}"
        "{% else %}{% set content = m.content %}{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{% if loop.last or (not loop.last and messages[loop.index0 + 1].role == 'user') %}{{ content }}"
        "{% endif %}{% endif %}{% if m.tool_calls %}"
        "{% for call in m.tool_calls %}{{ call | tojson }}{% endfor %}{% endif %}"
        "{{ '<|im_end|>\n' }}{% endfor %}"
    )
    assert render(template, turns).count("<|im_start|>user\nHi<|im_end|>\n b<|im_end|>") == 500


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
