"""One selector chooses experts of a layer, models of a zoo and devices: only the candidates differ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sage.economy.context import Codebook, View, fit_centroids
from sage.economy.filters import Limits
from sage.economy.pool import Pool, card_shift
from sage.economy.selector import Selector
from sage.economy.trust import TrustBook
from sage.errors import WeightsMissing, WorkerDied
from sage.types import Candidate, Outcome, Situation

Make = Callable[..., Candidate]
MakeSituation = Callable[..., Situation]
Tell = Callable[..., Outcome]

GB = 2**30


def test_experts_of_a_layer(make_candidate: Make, make_situation: MakeSituation, told: Tell) -> None:
    """64 experts of 8 MB, 16 of them in fast memory, hidden states as context, microseconds as price."""
    random = np.random.default_rng(0)
    hidden = random.standard_normal((600, 16))
    hidden /= np.linalg.norm(hidden, axis=1, keepdims=True)
    centroids = fit_centroids(hidden, 8, seed=0)
    book = Codebook([View(name="hidden", weight=1.0, size=8, centroids=centroids)])
    contexts = book.place_all({"hidden": hidden}, {})
    trust = TrustBook(book, origin="layer-3", half_life=1e4, prior_strength=4.0)
    home = (hidden @ centroids.T).argmax(1)
    for token, context in enumerate(contexts):  # expert n is good in cell n % 8
        for expert in random.choice(64, 8, replace=False):
            gate = 0.9 if expert % 8 == home[token] else 0.2
            trust.observe(told(gate, candidate=f"expert-{expert}", at=float(token)), context)
    pool = Pool(
        [
            make_candidate(
                f"expert-{n}",
                memory_bytes=8_000_000,
                resident=n < 16,
                load_bytes=0 if n < 16 else 8_000_000,
                est_load_s=0.0 if n < 16 else 4e-4,
                est_run_s=1e-5,
            )
            for n in range(64)
        ]
    )
    selector = Selector(hot_bonus=1.2, price_scale=2e-3, unit="seconds")
    limits = Limits(atp=1.0, capacity=1.0, memory_bytes=GB)
    right = loaded = 0
    for token, context in enumerate(contexts[:100]):
        decision = selector.choose(
            make_situation(kind="layer"), context, pool, trust, limits=limits, now=600.0
        )
        number = int(decision.chosen.removeprefix("expert-"))
        right += number % 8 == home[token]
        loaded += number < 16
        assert len(decision.candidates) == 8
    assert right > 70  # of 100, where chance is 12
    assert loaded > 90  # of 100, where chance is 25: two experts of each cell are loaded


def test_models_of_a_zoo(make_candidate: Make, make_situation: MakeSituation, told: Tell) -> None:
    """A small model that is loaded, a coder and a large one that must be read from storage."""
    kinds = ("chat", "code", "math")
    book = Codebook([View(name="kind", weight=1.0, size=3)])
    trust = TrustBook(book, origin="laptop", half_life=30 * 86_400.0, prior_strength=4.0)
    small = make_candidate(
        "small", prior={"*": 0.5, "math": 0.2}, memory_bytes=GB, resident=True, est_run_s=2.0
    )
    coder = make_candidate(
        "coder",
        prior={"*": 0.45, "code": 0.8},
        memory_bytes=4 * GB,
        load_bytes=4 * GB,
        est_load_s=3.0,
        est_run_s=5.0,
    )
    large = make_candidate(
        "large",
        prior={"*": 0.8},
        memory_bytes=9 * GB,
        load_bytes=9 * GB,
        est_load_s=8.0,
        est_run_s=20.0,
    )
    gone = make_candidate("gone", prior={"*": 0.95}, unavailable=WeightsMissing("not pulled"))
    pool = Pool([small, coder, large, gone])
    limits = Limits(atp=300.0, capacity=600.0, memory_bytes=12 * GB)

    def choose(kind: str, dial: float = 0.5, **needs: object) -> str:
        decision = Selector(hot_bonus=1.2, price_scale=30.0).choose(
            make_situation(kind=kind, **needs),
            book.place({}, {"kind": kinds.index(kind)}),
            pool,
            trust,
            limits=limits,
            now=0.0,
            dial=dial,
        )
        assert decision.excluded["gone"] == "not pulled"
        return decision.chosen

    assert [choose(kind) for kind in kinds] == ["small", "coder", "large"]
    assert choose("chat", dial=1.0) == "large"
    assert choose("math", deadline_s=10.0) == "coder"
    for _ in range(40):  # the coder's card was wrong
        context = book.place({}, {"kind": 1})
        shift = card_shift(coder.prior, "code")
        trust.observe(told(0.0, candidate="coder", kind="code", shift=shift), context)
        trust.observe(told(1.0, candidate="small", kind="code"), context)
    assert choose("code") == "small"


def test_devices(make_candidate: Make, make_situation: MakeSituation, told: Tell) -> None:
    """A laptop, a server that has the model loaded, and one that is down; each keeps a book of its own."""
    book = Codebook([View(name="size", weight=1.0, size=2)])
    short, long = (book.place({}, {"size": n}) for n in (0, 1))
    books = [
        TrustBook(book, origin=name, half_life=3600.0, prior_strength=4.0) for name in ("laptop", "phone")
    ]
    for number in range(30):  # the server answers short work, and drops half of the long
        for trust in books:
            trust.observe(told(1.0, candidate="server", at=float(number)), short)
            trust.observe(told(0.0, candidate="server", at=float(number)), long)
            trust.observe(told(0.8, candidate="laptop", at=float(number)), short if number % 2 else long)
    ours = books[0]
    ours.merge(books[1])
    laptop = make_candidate("laptop", prior={"*": 0.8}, est_load_s=2.0, load_bytes=2 * GB, est_run_s=4.0)
    server = make_candidate("server", prior={"*": 0.8}, resident=True, est_run_s=0.5)
    down = make_candidate("down", prior={"*": 0.9}, unavailable=WorkerDied("no heartbeat for 30 s"))
    pool = Pool([laptop, server, down])
    limits = Limits(atp=50.0, capacity=60.0, memory_bytes=8 * GB)
    selector = Selector(hot_bonus=1.2, price_scale=10.0)
    chosen = [
        selector.choose(make_situation(kind="any"), context, pool, ours, limits=limits, now=30.0)
        for context in (short, long)
    ]
    assert [decision.chosen for decision in chosen] == ["server", "laptop"]
    assert chosen[0].excluded == {"down": "no heartbeat for 30 s"}
    assert chosen[0].rule is not None
    assert chosen[0].rule.outcomes == pytest.approx(180.0, rel=0.02)
