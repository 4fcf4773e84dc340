"""The claims: when each is met, tied, missed or not judged."""

from __future__ import annotations

import numpy as np
import pytest

from sage.bench.residency.belady import fewest_loads
from sage.bench.residency.claims import claims_table, judge
from sage.bench.residency.figures import figures
from sage.bench.residency.peers import Clairvoyant
from sage.bench.residency.simulate import simulate
from sage.bench.residency.streams import Stream
from sage.bench.residency.world import Model, World

OTHERS = ("lru_knn", "keepalive", "min_evict_cost", "gdsf", "best_single_resident")


def figure(swaps: float = 10, quality: float = 0.5, rate: float = 1.0, over: int = 0) -> dict[str, float]:
    return {
        "swaps": swaps,
        "belady": swaps,  # its own choices cannot be served with fewer
        "quality": quality,
        "quality_per_s": rate,
        "budget_violations": over,
    }


@pytest.mark.parametrize(
    ("own", "not_met"),
    [
        (figure(rate=1.1, swaps=9), {}),
        (figure(rate=1.1, swaps=11), {"fewest": "missed", "swaps": "missed"}),
        (figure(rate=1.1, swaps=9.5, quality=0.6), {}),
        (figure(rate=1.1), {"swaps": "tied"}),
        (figure(rate=1.1, swaps=9, over=1), {"budget": "missed"}),
        (figure(rate=1.1, swaps=9, quality=0.48), {"equal": "missed", "fewest": "unequal"}),
        (figure(rate=1.004, swaps=9), {"single": "tied", "lru": "tied", "keepalive": "tied"}),
        (figure(rate=0.9, swaps=9), {"single": "missed", "lru": "missed", "keepalive": "missed"}),
    ],
)
def test_claims_are_met_tied_or_missed(own: dict[str, float], not_met: dict[str, str]) -> None:
    bound = {"belady": [figure(swaps=8)]}
    judged = judge({"sage": [own], **{name: [figure()] for name in OTHERS}, **bound}, "sage")
    assert {each.claim: each.verdict for each in judged if each.verdict != "met"} == not_met
    assert all(each.seeds == (each.verdict == "met") for each in judged)
    shown = {line["claim"]: line["bursty"] for line in claims_table({"bursty": judged})}
    assert all(shown[claim].startswith(verdict) for claim, verdict in not_met.items())


def test_loads_are_held_against_the_routers_choices_not_its_own() -> None:
    """Room for two of three models that answer alike: who asks all three in turn needs many loads, however
    well it plans them."""
    asked = 24
    model = Model(name="a", bytes=1, file_bytes=1, load_s=1.0, prompt_tok_s=100.0, generate_tok_s=10.0)
    world = World(
        name="made up",
        ids=tuple(map(str, range(asked))),
        texts=("x",) * asked,
        categories=("one",) * asked,
        models=(model,) * 3,
        scores=np.ones((asked, 3)),
        tokens=np.full((asked, 3), 10.0),
        prompt_tokens=np.full(asked, 100.0),
        left_out={},
    )
    stream = Stream(kind="uniform", rows=np.arange(asked), at=10.0 * np.arange(1, asked + 1.0))

    def run(choices: list[int]) -> dict[str, float]:
        plan = fewest_loads(choices, [1, 1, 1], 2)
        return figures(simulate(world, stream, Clairvoyant(choices, plan), budget=2), plan)

    steady, fickle = run([0, 0, 1, 1] * 6), run([0, 1, 2] * 8)
    assert fickle["swaps"] == fickle["belady"]
    runs = {"belady": [steady], **{name: [steady] for name in OTHERS}, "fickle": [fickle]}
    verdicts = {
        policy: {each.claim: each for each in judge(runs, policy)} for policy in ("fickle", "lru_knn")
    }
    assert verdicts["fickle"]["fewest"].verdict == "missed"
    assert verdicts["lru_knn"]["fewest"].verdict == "met"
