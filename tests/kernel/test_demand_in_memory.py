"""What the last requests wanted decides who is in memory: worth is told, the next model is loaded ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import pytest

from sage.config import ModelSettings, SelectorSettings, Settings
from sage.errors import LoadFailed, WeightsMissing
from sage.kernel.candidates import USUAL, Found, Pricing, candidate
from sage.kernel.sense import Request
from sage.kernel.tick import Kernel
from sage.types import Message, Situation
from sage.zoo.card import Figure, ModelCard

MakeCard = Callable[..., ModelCard]
MakeKernel = Callable[..., Kernel]
Ask = Callable[..., Request]

SLOW = {"load_s": Figure(value=500.0, provenance="published")}
"""A load that no single request is worth."""


def test_after_each_turn_the_host_knows_what_is_worth_keeping(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make_kernel(make_card("quick", prior=0.6), make_card("good", prior=0.9, rates=SLOW))
    told: list[Mapping[str, float]] = []
    monkeypatch.setattr(kernel.host, "appraise", told.append)
    assert kernel.tick(ask()).model == "quick"
    reply = kernel.tick(ask())
    assert reply.model == "quick"
    assert told[-1]["quick"] > 0.0
    assert "good" not in told[-1]  # the requests have not paid for its load
    assert "good would do it better once loaded" in reply.decision.reason


def test_who_was_just_chosen_is_worth_something_before_it_is_loaded(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever loads at the same time would push it out before all others."""
    kernel = make_kernel(make_card("quick", prior=0.6))
    told: list[Mapping[str, float]] = []
    monkeypatch.setattr(kernel.host, "appraise", told.append)
    kernel.tick(ask())
    assert told[0]["quick"] > 0.0
    monkeypatch.setattr(kernel.host, "prefetch", lambda _card: None)
    kernel.anticipate()
    assert told[-1] == told[0]


def test_who_is_loaded_goes_on_answering_without_its_file(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    kernel = make_kernel(make_card("found", prior=0.6, default=False))
    kernel.tick(ask())
    missing = WeightsMissing("its weights are not here")
    gone = Found(present=False, obstacle=missing, memory_bytes=1)
    kernel.choosing.surroundings = replace(kernel.choosing.surroundings, look=lambda _card: gone)
    assert kernel.tick(ask()).model == "found"
    kernel.host.unload("found")
    assert kernel.choosing.candidates(USUAL, pinned=None) == []


def test_a_load_in_flight_is_not_paid_twice(make_card: MakeCard, make_kernel: MakeKernel, ask: Ask) -> None:
    """While one request waits for its model, for the next it is as loaded, but for the rest of the wait."""
    kernel = make_kernel(make_card("slow", script={"load_s": 3.0, "resident_mb": 50}, rates=SLOW))
    first = threading.Thread(target=kernel.tick, args=(ask(),))
    first.start()
    until = time.monotonic() + 20.0
    while not kernel.host.picture.models and time.monotonic() < until:
        time.sleep(0.01)
    free = kernel.choosing.surroundings.free_bytes()
    [slow] = kernel.choosing.candidates(USUAL, pinned=None)
    left = kernel.choosing.limits(pinned=None).free_bytes
    first.join()
    assert slow.resident
    assert slow.load_bytes == 0
    assert 490.0 < slow.est_load_s < 500.0
    assert left < free - 20_000_000  # set aside for it, though not yet taken


def test_the_model_whose_load_is_paid_is_loaded_between_turns(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """Each question saves a third of the price scale (10): two pay for 6.2 s. While one alone has paid, what
    is loaded goes first."""
    at_once = {name: Figure(value=1e5) for name in ("prompt_tok_s", "generate_tok_s")}
    kernel = make_kernel(
        make_card("quick", prior=0.6, rates=at_once),
        make_card("good", prior=0.9, rates=at_once | {"load_s": Figure(value=6.2)}),
        settings=Settings(
            models=ModelSettings(stop_timeout_s=0.5),
            selector=SelectorSettings(explore_share=0.0, price_scale=10.0),
        ),
    )
    kernel.anticipate()
    assert kernel.host.resident() == {}
    assert kernel.tick(ask()).model == "quick"
    assert kernel.tick(ask()).model == "quick"
    kernel.anticipate()
    until = time.monotonic() + 20.0
    while "good" not in kernel.host.resident() and time.monotonic() < until:
        time.sleep(0.05)
    assert set(kernel.host.resident()) == {"quick", "good"}
    assert kernel.tick(ask()).model == "good"


def test_what_is_dear_is_told_from_who_is_here(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """Where a machine is ten times as fast, the scale is a tenth; a number in the settings stands."""

    def scale(rate: float, price_scale: float | Literal["auto"]) -> float:
        rates = {name: Figure(value=rate) for name in ("prompt_tok_s", "generate_tok_s")}
        chosen = SelectorSettings(explore_share=0.0, price_scale=price_scale)
        settings = Settings(models=ModelSettings(stop_timeout_s=0.5), selector=chosen)
        kernel = make_kernel(make_card(f"one-{rate:g}", rates=rates), settings=settings)
        rule = kernel.tick(ask()).decision.rule
        assert rule is not None
        return rule.scale

    assert scale(10.0, "auto") == pytest.approx(3.0 * (128 + 64) / 10.0)
    assert scale(100.0, "auto") == pytest.approx(3.0 * (128 + 64) / 100.0)
    assert scale(100.0, 7.0) == 7.0


def test_what_is_dear_is_told_anew_once_models_are_measured(
    make_card: MakeCard, make_kernel: MakeKernel, ask: Ask
) -> None:
    """On a slow board the guess of 30 tokens a second must not stand until the process ends."""
    kernel = make_kernel(make_card("slow", script={"token_s": 0.2}))
    guessed, measured = (kernel.tick(ask()).decision.rule for _ in range(2))
    assert guessed is not None
    assert measured is not None
    assert guessed.scale == pytest.approx(3.0 * (128 / 200 + 64 / 30))
    assert measured.scale != guessed.scale


def test_who_rests_is_no_candidate_and_says_until_when(make_card: MakeCard) -> None:
    situation = Situation(
        messages=(Message(role="user", content="Why?"),),
        kind="fact",
        prompt_tokens=10,
        max_tokens=64,
        session="s",
    )
    pricing = Pricing(rates={}, resident=(), disk_bytes_s=1e8, context=4096, resting={"a": 12.3})
    found = [
        candidate(make_card(name), situation, pricing, obstacle=None, memory_bytes=lambda _card: 1)
        for name in ("a", "b")
    ]
    assert isinstance(found[0].unavailable, LoadFailed)
    assert "rests for 12 s more" in found[0].unavailable.message
    assert found[1].unavailable is None


def test_a_candidate_says_what_loading_it_again_would_take(make_card: MakeCard) -> None:
    situation = Situation(
        messages=(Message(role="user", content="Why?"),),
        kind="fact",
        prompt_tokens=10,
        max_tokens=64,
        session="s",
    )
    pricing = Pricing(rates={"a": {"load_s": 7.0}}, resident=("a",), disk_bytes_s=1e8, context=4096)
    loaded = candidate(make_card("a"), situation, pricing, obstacle=None, memory_bytes=lambda _card: 1)
    assert (loaded.est_load_s, loaded.load_bytes) == (0.0, 0)
    assert (loaded.reload_s, loaded.reload_bytes) == (7.0, 1_000_000)
