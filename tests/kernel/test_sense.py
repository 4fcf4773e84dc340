"""From what was typed to a situation."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.errors import UsageError
from sage.kernel.sense import KINDS, Request, clean, count_tokens, kind_of, sense
from sage.types import Message


def request(prompt: str, **changes: object) -> Request:
    return Request(messages=(Message(role="user", content=prompt),), session="s", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("Write a Python function that reverses a list.", "code"),
        ("```\nfor x in y: pass\n```\nwhat does this do", "code"),
        ("Fix the bug in my script", "code"),
        ("def f(x): return x", "code"),
        ("Which regex matches an IPv4 address?", "code"),
        ("What is 17 + 25?", "math"),
        ("12*12", "math"),
        ("7 x 8 =", "math"),
        ("144 ÷ 12", "math"),
        ("How many apples are left if 3 of 10 are eaten?", "math"),
        ("What is 20 percent of 50", "math"),
        ("Is the sentence 'I loved it' positive or negative?", "classify"),
        ("Classify this review: dreadful.", "classify"),
        ("The earth is flat. True or false?", "classify"),
        ("What is the opposite of hot?", "rewrite"),
        ("Translate to French: good morning", "rewrite"),
        ("Summarise the following text: ...", "rewrite"),
        ("Give me a synonym of quick", "rewrite"),
        ("What is the capital of France?", "fact"),
        ("who wrote Hamlet", "fact"),
        ("Does water boil at sea level?", "fact"),
        ("東京はどこですか?", "fact"),
        ("Tell me a story about a lighthouse.", "chat"),
        ("hello", "chat"),
        ("I codified my thoughts.", "chat"),
        ("🦀🦀🦀", "chat"),
    ],
)
def test_kinds(prompt: str, kind: str) -> None:
    assert kind_of(prompt) == kind
    assert sense(request(prompt), default_max_tokens=64).kind == kind


def test_a_schema_makes_it_json_whatever_the_words() -> None:
    situation = sense(request("What is 2 + 2?", schema={"type": "object"}), default_max_tokens=64)
    assert situation.kind == "json"
    assert situation.schema == {"type": "object"}


@given(prompt=st.text(max_size=300))
def test_every_text_has_a_kind(prompt: str) -> None:
    assert kind_of(prompt) in KINDS


@pytest.mark.parametrize("prompt", ["", " ", "\n\t ", "\u3000", "\u00a0"])
def test_nothing_to_answer_is_refused(prompt: str) -> None:
    with pytest.raises(UsageError, match="empty") as caught:
        sense(request(prompt), default_max_tokens=64)
    assert caught.value.exit_code == 2


def test_a_conversation_without_a_question_is_refused() -> None:
    messages = (Message(role="system", content="Be brief."), Message(role="assistant", content="Yes."))
    with pytest.raises(UsageError):
        sense(Request(messages=messages, session="s"), default_max_tokens=64)


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"properties": []}, {"pattern": 3}])
def test_what_is_no_schema_is_refused_before_any_work(schema: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="schema"):
        sense(request("hi", schema=schema), default_max_tokens=64)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("caf\udce9", "caf\ufffd"),
        ("\ud83dend", "\ufffdend"),
        ("end\ud83d", "end\ufffd"),
        ("\udc00\ud800", "\ufffd\ufffd"),
        ("\ud83e\udd80", "🦀"),  # two halves that belong together
        ("🦀 𝄞 e\u0301", "🦀 𝄞 e\u0301"),
        ("\ufeffmark", "\ufeffmark"),
        ("nul \x00 tab\t", "nul \x00 tab\t"),
    ],
)
def test_half_characters_are_replaced_and_whole_ones_kept(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    situation = sense(request(f"Say {text}"), default_max_tokens=64)
    assert situation.prompt == f"Say {cleaned}"
    situation.prompt.encode()


@given(text=st.text(st.characters(), max_size=50))
def test_whatever_is_typed_can_be_stored(text: str) -> None:
    clean(text).encode()
    assert clean(clean(text)) == clean(text)


@given(text=st.text(max_size=50))
def test_sound_text_is_not_touched(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize("unit", ["word and ", "9 + ", "return ", "猫", "how much a", "\n", "a"])
def test_a_megabyte_is_read_quickly_and_called_large(unit: str) -> None:
    prompt = unit * (1_000_000 // len(unit)) + "?"
    started = time.perf_counter()
    situation = sense(request(prompt), default_max_tokens=64)
    assert time.perf_counter() - started < 0.5
    assert situation.prompt_tokens > 200_000


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("東京は日本の首都です" * 10, 1 / 3),
        ("北京是中国的首都" * 10, 1 / 3),
        ("서울은 대한민국의 수도" * 10, 1 / 3),
        ("Москва столица России " * 10, 1 / 3),
        ("กรุงเทพเป็นเมืองหลวง" * 10, 1 / 3),
        ("🦀🐍" * 10, 1.0),
        ("The capital of France is Paris. " * 10, 0.2),
    ],
)
def test_the_estimate_of_tokens_is_not_too_low_for_any_script(text: str, least: float) -> None:
    assert len(text) * least <= count_tokens(text) <= len(text) * 2 + 4


@given(one=st.text(max_size=40), more=st.text(max_size=40))
def test_more_text_is_never_fewer_tokens(one: str, more: str) -> None:
    assert 0 < count_tokens(one) <= count_tokens(one + more)


def test_every_message_counts() -> None:
    messages = (
        Message(role="system", content="Be brief. " * 50),
        Message(role="user", content="First?"),
        Message(role="assistant", content="Yes."),
        Message(role="user", content="Second?"),
    )
    situation = sense(Request(messages=messages, session="s"), default_max_tokens=64)
    assert situation.prompt == "Second?"
    assert situation.prompt_tokens == sum(count_tokens(m.content) for m in messages) > 125
    assert [m.role for m in situation.messages] == ["system", "user", "assistant", "user"]


def test_what_was_asked_for_arrives() -> None:
    situation = sense(
        request("hi", max_tokens=7, temperature=0.3, seed=5, stop=("\n",), deadline_s=2.0),
        default_max_tokens=64,
    )
    assert (situation.max_tokens, situation.temperature, situation.seed) == (7, 0.3, 5)
    assert (situation.stop, situation.deadline_s, situation.session) == (("\n",), 2.0, "s")
    assert sense(request("hi"), default_max_tokens=64).max_tokens == 64
