"""`sage bench route` from folders to the result file, on small made-up data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sage.bench.policies import Mode
from sage.bench.route import Plan, measure_route, splits
from sage.bench.route_cost import measure_frontier
from sage.bench.route_data import Outcomes, load_outcomes
from sage.bench.route_run import RouteOptions, run_route, table_of
from sage.bench.route_views import Views, embed_texts, open_named_embedder
from sage.cli.main import app
from sage.errors import BackendMissing, UsageError
from sage.memory.hashing import HashingEmbedder

from .conftest import MakeOutcomes

FULL = {"random", "best_single", "topic", "oracle", "knn", "kmeans", "ridge", "sage"}
BANDIT = {"random", "thompson", "epsilon_greedy", "linucb", "squarecb", "sage"}


def quiet(_text: str) -> None:
    pass


@pytest.fixture
def world(make_outcomes: MakeOutcomes, home: Path) -> tuple[Outcomes, Views]:
    outcomes = load_outcomes(make_outcomes("world", count=210))
    return outcomes, embed_texts(outcomes.texts, HashingEmbedder(), home, progress=quiet)


def by_policy(rows: list[dict[str, Any]], mode: Mode = "full") -> dict[str, dict[str, Any]]:
    return {row["policy"]: row for row in rows if row["mode"] == mode and row["ceiling"] is None}


def test_every_question_is_tested_once_a_seed(world: tuple[Outcomes, Views]) -> None:
    outcomes, _ = world
    plan = Plan(modes=("full",), seeds=2, folds=4)
    for seed in range(2):
        parts = splits(outcomes, plan, seed)
        assert sorted(np.concatenate([part.test for part in parts])) == list(range(210))
        for part in parts:
            assert sorted([*part.train, *part.test]) == list(range(210))
    assert (splits(outcomes, plan, 0)[0].test != splits(outcomes, plan, 1)[0].test).any()
    assert (splits(outcomes, plan, 0)[0].train == splits(outcomes, plan, 0)[0].train).all()


def test_a_left_out_category_is_in_no_training_set(world: tuple[Outcomes, Views]) -> None:
    outcomes, _ = world
    parts = splits(outcomes, Plan(modes=("full",), seeds=1, leave_out_categories=True), 0)
    assert len(parts) == 3
    for part in parts:
        tested = {outcomes.categories[row] for row in part.test}
        assert len(tested) == 1
        assert tested.isdisjoint(outcomes.categories[row] for row in part.train)


def test_given_a_test_set_nothing_of_it_is_learned(world: tuple[Outcomes, Views]) -> None:
    outcomes, _ = world
    (part,) = splits(outcomes, Plan(modes=("full",), seeds=1, trained=140), 0)
    assert sorted(part.train) == list(range(140))
    assert list(part.test) == list(range(140, 210))


def test_figures_of_a_run(world: tuple[Outcomes, Views]) -> None:
    outcomes, views = world
    rows, notes = measure_route(
        outcomes, views, Plan(modes=("full", "bandit"), seeds=2, folds=2), progress=quiet
    )
    assert notes == []
    full, bandit = by_policy(rows), by_policy(rows, "bandit")
    assert (set(full), set(bandit)) == (FULL, BANDIT)
    single = float(outcomes.scores.mean(0).max())
    assert full["best_single"]["score"] == pytest.approx(single, abs=1e-5)
    assert full["best_single"]["worst_category"] == 0.0
    assert full["best_single"]["cost"] == pytest.approx(1.0)
    assert full["oracle"]["score"] == pytest.approx(float(outcomes.scores.max(1).mean()), abs=1e-5)
    assert full["oracle"]["regret"] == 0.0
    for row in full.values():
        assert row["score"] + row["regret"] == pytest.approx(full["oracle"]["score"], abs=1e-4)
    for row in rows:
        assert row["runs"] == 2
        assert row["calls"] <= (row["ceiling"] or 1.0) + 0.3  # a ceiling holds but for chance
        assert row["us_per_decision"] > 0.0
        assert (row["online"] is not None) == (row["mode"] == "bandit")
    assert full["sage"]["score"] > single + 0.15
    assert bandit["sage"]["score"] > single
    assert bandit["random"]["score_sd"] > 0.0
    for name in ("sage_cascade", "sage_cascade_served"):
        cascade = {row["ceiling"]: row for row in rows if row["policy"] == name}
        assert set(cascade) == {1.5, 2.0, 3.0, 5.0}
        assert cascade[5.0]["score"] > single
    shown = [row["policy"] for row in table_of(rows, worst=False)]
    assert {"cascade 1.5", "cascade_served 5"} <= set(shown)
    assert len(shown) == 22


def test_of_one_model_everybody_chooses_it(make_outcomes: MakeOutcomes, home: Path) -> None:
    outcomes = load_outcomes(make_outcomes("a"), models="plain")
    views = embed_texts(outcomes.texts, HashingEmbedder(), home, progress=quiet)
    plan = Plan(modes=("full", "bandit"), seeds=1, folds=2)
    rows, _ = measure_route(outcomes, views, plan, progress=quiet)
    for mode in plan.modes:
        assert len({row["score"] for row in by_policy(rows, mode).values()}) == 1
    assert measure_frontier(outcomes, views, plan, progress=quiet) == ([], None)


def test_leaving_out_reports_the_mean_over_categories(world: tuple[Outcomes, Views]) -> None:
    outcomes, views = world
    plan = Plan(modes=("full",), seeds=1, leave_out_categories=True)
    rows, _ = measure_route(outcomes, views, plan, progress=quiet)
    for row in rows:
        assert row["score"] == row["score_macro"]
    assert by_policy(rows)["topic"]["score"] == by_policy(rows)["best_single"]["score"]


def test_the_frontier_of_routers_lies_between_singles_and_oracle(world: tuple[Outcomes, Views]) -> None:
    outcomes, views = world
    rows, equal = measure_frontier(outcomes, views, Plan(modes=("full",), seeds=2, folds=2), progress=quiet)
    area = {(row["policy"], row["form"]): row["aiq"] for row in rows}
    assert area["singles", None] < area["sage", "additive"] < area["oracle", "additive"]
    assert {("sage", "product"), ("knn", "additive"), ("ridge", "additive"), ("topic", "additive")} <= set(
        area
    )
    points = {row["policy"]: len(row["points"]) for row in rows}
    assert (points["singles"], points["sage"], points["oracle"]) == (4, 81, 81)
    assert area["sage_cascade", None] > area["singles", None]
    assert equal is not None
    assert {row["model"] for row in equal["at_cost_of"]} == set(outcomes.models)


def test_models_without_a_price_are_left_out_of_the_frontier(make_outcomes: MakeOutcomes, home: Path) -> None:
    cards = [{"name": name, "params_b": size} for name, size in zip("abcd", (1, None, 3, 4), strict=True)]
    outcomes = load_outcomes(make_outcomes("a", cost=None, models=json.dumps(cards)))
    views = embed_texts(outcomes.texts, HashingEmbedder(), home, progress=quiet)
    rows, _ = measure_frontier(outcomes, views, Plan(modes=("full",), seeds=1, folds=2), progress=quiet)
    assert len(next(row for row in rows if row["policy"] == "singles")["points"]) == 3


def test_without_prices_there_is_no_frontier(make_outcomes: MakeOutcomes, home: Path) -> None:
    for name, replaced in (("bare", None), ("flat", np.ones((90, 4)))):
        outcomes = load_outcomes(make_outcomes(name, cost=replaced, tokens=None))
        views = embed_texts(outcomes.texts, HashingEmbedder(), home, progress=quiet)
        plan = Plan(modes=("full",), seeds=1)
        assert measure_frontier(outcomes, views, plan, progress=quiet) == ([], None)


def test_a_second_run_reads_vectors_from_disk(home: Path) -> None:
    class Counting(HashingEmbedder):
        asked = 0

        def embed(self, texts: Any) -> Any:
            self.asked += 1
            return super().embed(texts)

    embedder = Counting()
    first = embed_texts(["a b", "c d"], embedder, home, progress=quiet)
    again = embed_texts(["a b", "c d"], embedder, home, progress=quiet)
    assert embedder.asked == 1
    for name in first.vectors:
        assert (first.vectors[name] == again.vectors[name]).all()
    embed_texts(["a b", "c e"], embedder, home, progress=quiet)
    assert embedder.asked == 2
    (kept, _) = sorted((home / "cache" / "embeddings").glob("*.npz"))
    kept.write_bytes(b"broken")
    for texts in (["a b", "c d"], ["a b", "c e"]):
        embed_texts(texts, embedder, home, progress=quiet)
    assert embedder.asked == 3
    kept.write_bytes(kept.read_bytes()[:-100])  # the list of contents is at the end of the file
    for texts in (["a b", "c d"], ["a b", "c e"]):
        embed_texts(texts, embedder, home, progress=quiet)
    assert embedder.asked == 4


def test_vectors_of_another_make_are_not_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in ("one", "one", "another"):
        monkeypatch.setattr("sage.bench.route_views.MAKE", make)
        embed_texts(["a b"], HashingEmbedder(), home, progress=quiet)
    assert len(list((home / "cache" / "embeddings").glob("*.npz"))) == 2


def test_the_cache_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage.bench.route_views.CACHE_BYTES", 10_000)
    for number in range(4):
        embed_texts([f"text {number}"], HashingEmbedder(), home, progress=quiet)
    kept = list((home / "cache" / "embeddings").iterdir())
    assert 1 <= len(kept) <= 2
    assert all(path.suffix == ".npz" for path in kept)


def test_an_embedder_that_is_not_here_is_refused(home: Path) -> None:
    assert open_named_embedder(home, "hash").name == open_named_embedder(home, "auto").name == "hashing"
    with pytest.raises(BackendMissing):
        open_named_embedder(home, "minilm")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"folds": 50}, "cannot make 50 folds"),
        ({"test": "train", "leave_out_categories": True}, "cross-validates on the training set"),
    ],
)
def test_options_that_do_not_go_together(
    make_outcomes: MakeOutcomes, home: Path, changes: dict[str, Any], says: str
) -> None:
    folder = make_outcomes("a")
    changes = {key: folder if value == "train" else value for key, value in changes.items()}
    options = {"train": folder, "test": None, "modes": ("full",), "embedder": "hash", **changes}
    with pytest.raises(UsageError, match=says):
        run_route(RouteOptions(**options), home, progress=quiet)


def test_the_command_writes_result_and_plot(make_outcomes: MakeOutcomes, tmp_path: Path) -> None:
    out = tmp_path / "new" / "route.json"
    train, test = make_outcomes("a", count=120), make_outcomes("b", seed=1)
    arguments = ["--train", str(train), "--test", str(test), "--seeds", "2", "--embedder", "hash"]
    done = CliRunner().invoke(app, ["bench", "route", *arguments, "--json", str(out)])
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())
    assert {"suite", "command", "at", "machine", "settings", "rows"} <= set(written)
    assert {"results", "frontier", "equal_cost"} <= set(written)
    assert {(row["policy"], row["mode"]) for row in written["results"]} >= {
        *((name, "full") for name in FULL),
        *((name, "bandit") for name in BANDIT),
    }
    assert len(written["rows"]) == len(written["results"])
    settings = written["settings"]
    assert settings["queries"] == {"train": 120, "test": 90}
    assert (settings["embedder"], settings["seeds"], settings["split"]) == ("hashing", [0, 1], "train/test")
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.parent.iterdir()) == ["route.json", "route.png"]


def test_a_file_that_cannot_be_written_is_refused_at_once(
    make_outcomes: MakeOutcomes, tmp_path: Path
) -> None:
    train = make_outcomes("a")
    arguments = ["--train", str(train), "--json", str(tmp_path)]
    done = CliRunner().invoke(app, ["bench", "route", *arguments])
    assert isinstance(done.exception, UsageError)
    assert "cannot be written" in done.exception.message
