"""The map: whose figure is shown, what is flagged, and choices that follow from measurements alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.zoo.card import Figure, ModelCard
from sage.zoo.catalog import every_card
from sage.zoo.inventory import LEAST_N, Inventory, Learned, Measured, Share, take_inventory

CARD = ModelCard(
    name="small",
    source="fake",
    backend="fake",
    sha256="",
    bytes=1000,
    license="MIT",
    context_length=512,
    parameters=2000,
    bits=4.0,
    rates={
        "load_s": Figure(value=2.0, provenance="published"),
        "rss_bytes": Figure(value=3.0, provenance="measured"),
        "generate_usd_mtok": Figure(value=1.0, provenance="published"),
        "prompt_tok_s": Figure(value=9.0),
    },
)
BIG = replace(CARD, name="big", rates={}, bits=0.0)


def shares(**quality: tuple[float, float, float | None]) -> dict[str, dict[str, Share]]:
    """model_task=(quality, n, cpu_s)."""
    found: dict[str, dict[str, Share]] = {}
    for key, (share, n, cpu) in quality.items():
        model, _, task = key.partition("_")
        found.setdefault(model, {})[task] = Share(quality=share, n=n, cpu_s=cpu)
    return found


def take(*measured: Measured, home: Path = Path("/nowhere")) -> Inventory:
    return take_inventory({card.name: card for card in (CARD, BIG)}, home, measured)


def test_figures_come_with_who_says_them() -> None:
    here = Measured(source="measured here", machine="laptop", rates={"small": {"load_s": 1.0, "other": 5.0}})
    bench = Measured(source="bench", machine="server", rates={"small": {"generate_tok_s": 7.0}})
    small, big = take(here, bench).entries
    assert [(s.who, s.machine, dict(s.rates)) for s in small.speed] == [
        ("measured here", "laptop", {"load_s": 1.0}),
        ("bench", "server", {"generate_tok_s": 7.0}),
        ("measured", "", {"rss_bytes": 3.0}),
        ("published", "", {"load_s": 2.0}),
    ]
    assert small.ran_on == ("laptop", "server"), "a card's figure is no run that was recorded"
    here = replace(here, platform="linux aarch64")
    assert take(here, replace(here, machine="another"), bench).entries[0].ran_on == (
        "linux aarch64",
        "server",
    )
    assert (big.speed, big.ran_on) == ((), ())


def test_bits_claimed_and_stored() -> None:
    small, big = take().entries
    assert (small.bits_claimed, small.bits_stored, small.bits_kept) == (4.0, 4.0, True)
    assert (big.bits_stored, big.bits_kept) == (None, None)


def test_every_shipped_model_is_on_the_map(home: Path) -> None:
    catalog = every_card(home)
    taken = take_inventory(catalog, home, ())
    assert [entry.name for entry in taken.entries] == list(catalog)
    entries = {entry.name: entry for entry in taken.entries}
    assert entries["qwen3-omni-30b-fp4"].bits_kept is False
    assert entries["qwen3-omni-30b-fp4"].status == "unfit"
    assert entries["qwen3-omni-30b"].bytes_are == "published"
    assert entries["smollm2-135m-instruct"].bytes_are == "counted"
    assert entries["smollm2-135m-instruct"].mend == "sage models pull smollm2-135m-instruct"
    assert (taken.by_task, taken.by_memory, taken.by_speed) == ((), (), ())


def test_by_task_the_best_and_the_cheapest_that_is_as_good() -> None:
    tasks = shares(
        small_facts=(0.80, 100, 1.0),
        big_facts=(0.84, 100, 3.0),
        small_sums=(0.10, 100, 1.0),
        big_sums=(0.90, 100, 3.0),
        big_only=(0.20, 100, 3.0),
    )
    chosen = {c.where: c for c in take(Measured(source="bench", machine="m", tasks=tasks)).by_task}
    assert (chosen["facts"].best, chosen["facts"].cheapest) == ("big", "small")
    assert (chosen["facts"].quality, chosen["facts"].cheapest_quality) == (0.84, 0.80)
    assert (chosen["sums"].best, chosen["sums"].cheapest) == ("big", "big")
    assert (chosen["only"].best, chosen["only"].n) == ("big", 100)


def test_nobody_is_best_where_nobody_was_right() -> None:
    tasks = shares(small_sums=(0.0, 100, 1.0), big_sums=(0.0, 100, 3.0))
    (choice,) = take(Measured(source="bench", machine="m", tasks=tasks)).by_task
    assert (choice.best, choice.cheapest, choice.quality, choice.n) == ("", "", 0.0, 100)


def test_without_times_the_best_is_the_cheapest_known() -> None:
    tasks = shares(small_facts=(0.80, 9, None), big_facts=(0.84, 9, None))
    (choice,) = take(Measured(source="trust", machine="m", tasks=tasks)).by_task
    assert (choice.best, choice.cheapest) == ("big", "big")


def test_within_a_bound_only_changes_are_listed() -> None:
    tasks = shares(
        small_a=(0.2, 10, 1.0), small_b=(0.4, 30, 1.0), big_a=(1.0, 10, 2.0), big_b=(0.9, 30, 2.0)
    ) | shares(worse_a=(0.1, 10, 1.0), worse_b=(0.1, 30, 1.0), other_a=(1.0, 10, 1.0))
    rates = {
        "small": {"rss_bytes": 100.0, "generate_tok_s": 90.0},
        "worse": {"rss_bytes": 200.0, "generate_tok_s": 95.0},
        "big": {"rss_bytes": 300.0, "generate_tok_s": 20.0},
        "other": {"rss_bytes": 50.0, "generate_tok_s": 99.0},  # it was asked the easy half
    }
    taken = take(Measured(source="bench", machine="m", rates=rates, tasks=tasks))
    assert [(c.where, c.best, c.quality) for c in taken.by_memory] == [
        ("100", "small", 0.35),
        ("300", "big", 0.925),
    ]
    assert [(c.where, c.best) for c in taken.by_speed] == [("95", "worse"), ("90", "small"), ("20", "big")]


def test_a_model_without_that_rate_is_in_no_bound() -> None:
    tasks = shares(small_a=(0.2, 10, 1.0), big_a=(1.0, 10, 2.0))
    taken = take(
        Measured(source="b", machine="m", rates={"small": {"rss_bytes": 5.0}, "big": {}}, tasks=tasks)
    )
    assert [c.best for c in taken.by_memory] == ["small"]
    assert taken.by_speed == ()


def test_only_those_who_were_asked_the_same_are_compared() -> None:
    tasks = shares(
        small_facts=(0.9, 20, 1.0), big_facts=(1.0, 10, 3.0), small_few=(1.0, LEAST_N - 1, 1.0)
    ) | shares(big_sums=(0.5, LEAST_N, 3.0))
    choices = take(Measured(source="bench", machine="m", tasks=tasks)).by_task
    assert [(c.where, c.best, c.n) for c in choices] == [("facts", "small", 20), ("sums", "big", LEAST_N)]


def test_what_was_learned_chooses_nobody() -> None:
    learned = [
        Learned(kind="fact", model="big", quality=0.5, n=3),
        Learned(kind="fact", model="small", quality=0.9, n=2),
        Learned(kind="chat", model="big", quality=0.1, n=9),
    ]
    taken = take_inventory({}, Path("/nowhere"), (), learned)
    assert [(one.kind, one.model) for one in taken.learned] == [
        ("chat", "big"),
        ("fact", "small"),
        ("fact", "big"),
    ]
    assert taken.by_task == ()


def test_the_error_of_a_share() -> None:
    assert Share(quality=1.0, n=16).error == pytest.approx((0.9 * 0.1 / 20) ** 0.5)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.floats(0.001, 1), st.floats(0.001, 9)),
        min_size=1,
    ),
    st.floats(LEAST_N, 500),
)
def test_a_choice_is_never_worse_than_chance_would_allow(
    table: dict[str, tuple[float, float]], n: float
) -> None:
    tasks = {name: {"t": Share(quality=quality, n=n, cpu_s=cpu)} for name, (quality, cpu) in table.items()}
    (choice,) = take(Measured(source="s", machine="m", tasks=tasks)).by_task
    best, cheap = tasks[choice.best]["t"], tasks[choice.cheapest]["t"]
    assert best.quality == max(share["t"].quality for share in tasks.values())
    assert best.quality - cheap.quality <= (best.error**2 + cheap.error**2) ** 0.5 + 1e-12
    assert cheap.cpu_s is not None
    assert best.cpu_s is not None
    assert cheap.cpu_s <= best.cpu_s
