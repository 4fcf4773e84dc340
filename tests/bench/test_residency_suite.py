"""The suite on two specialists that do not fit together: rows, claims, the grid, what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sage.bench.residency.claims import CLAIMS
from sage.bench.residency.figures import DEFINITIONS, POLICIES, table_of
from sage.bench.residency.grid import BUDGETS_GB, DISKS_GB_S, grid_table, run_grid
from sage.bench.residency.learned import best_set, train
from sage.bench.residency.streams import STREAMS
from sage.bench.residency.suite import JUDGED, LOAD, ResidencyOptions, draw_stream, run_residency
from sage.bench.residency.world import folder_world, shipped_world
from sage.bench.route_views import embed_texts, open_named_embedder
from sage.cli.main import app
from sage.config import SelectorSettings
from sage.errors import NotFound, UsageError

DISK = 1e9


def options(data: Path | None, **changes: object) -> ResidencyOptions:
    values = {"budget_gb": 4.0, "requests": 150, "seeds": 1, "embedder": "hash", **changes}
    return ResidencyOptions(data=data, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"seeds": 0}, {"budget_gb": 0.0}, {"budget_gb": float("nan")}]
)
def test_options_that_measure_nothing_are_refused(residency_data: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as error:
        options(residency_data, **wrong)
    assert error.value.mend


def test_a_missing_folder_is_told(tmp_path: Path, home: Path) -> None:
    with pytest.raises(NotFound):
        run_residency(options(tmp_path / "nowhere"), home, DISK, progress=lambda _: None)


def test_every_policy_on_every_stream(residency_data: Path, home: Path) -> None:
    measured = run_residency(options(residency_data), home, DISK, progress=lambda _: None)
    rows = {(row["policy"], row["stream"]): row for row in measured["rows"]}
    assert set(rows) == {(policy, kind) for policy in POLICIES for kind in STREAMS}
    online = ("lru_knn", "keepalive", "min_evict_cost", "gdsf")
    for kind in STREAMS:
        sage, bound = rows["sage", kind], rows["belady", kind]
        assert bound["exact"]
        assert all(rows[peer, kind]["swaps"] >= bound["swaps"] for peer in online)
        assert all(rows[peer, kind]["swaps"] >= sage["swaps"] for peer in online)
        assert sage["swaps"] <= 1.3 * bound["swaps"]
        assert sage["swaps"] >= sage["swaps_at_least"] >= 1
        assert rows["best_single_resident", kind]["swaps"] == rows["fixed_set", kind]["swaps"] == 1
        assert all(row["budget_violations"] == 0 for (_, k), row in rows.items() if k == kind)
        assert all(row["quality_low"] <= row["quality"] <= row["quality_high"] for row in rows.values())
        assert {each.claim for each in measured["claims"][kind]} == set(CLAIMS)
    assert rows["sage", "bursty"]["quality"] > rows["best_single_resident", "bursty"]["quality"]
    # Both specialists are needed for this, each once, whoever knows everything.
    assert rows["lru_knn", "bursty"]["swaps_at_least"] == 2
    assert len(table_of(measured["rows"])) == len(rows)
    assert set(DEFINITIONS) <= set(measured["rows"][0])
    again = run_residency(options(residency_data), home, DISK, progress=lambda _: None)
    assert again["rows"] == measured["rows"]


def test_sage_has_the_settings_of_a_new_installation(residency_data: Path, home: Path) -> None:
    told = run_residency(options(residency_data, requests=5), home, DISK, progress=lambda _: None)["settings"]
    usual = SelectorSettings()
    assert [told[name] for name in ("dial", "price_scale", "hot_bonus")] == [
        usual.dial,
        usual.price_scale,
        usual.hot_bonus,
    ]


def test_the_best_model_alone_keeps_up_with_every_stream(residency_data: Path, home: Path) -> None:
    world = folder_world(residency_data, DISK)
    views = embed_texts(world.texts, open_named_embedder(home, "hash"), home, progress=lambda _: None)
    trained = train(world, views, 0)
    for kind in STREAMS:
        stream = draw_stream(trained, kind, 0, budget=4 * 10**9, requests=2000)
        busy = world.run_s[stream.rows, trained.best].sum() / stream.at[-1]
        assert busy == pytest.approx(LOAD, rel=0.15) if kind != "day" else busy < LOAD


def test_without_data_the_budget_makes_somebody_leave() -> None:
    world = shipped_world(DISK)
    sizes = [model.bytes for model in world.models]
    assert max(sizes) <= world.usual_budget < sum(sizes)


@settings(max_examples=40)
@given(
    worth=st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    budget=st.integers(5, 12),
)
def test_the_fixed_set_fits_and_no_single_step_mends_it(
    worth: list[list[float]], sizes: list[int], budget: int
) -> None:
    table = np.array(worth)
    kept = best_set(table, sizes, budget)
    assert sum(sizes[model] for model in kept) <= budget
    value = table[:, kept].max(1).sum()
    for count in range(1, 5):
        for other in map(set, itertools.combinations(range(4), count)):
            one_step = len(other - set(kept)) == 1 and len(set(kept) - other) <= 1
            if one_step and sum(sizes[model] for model in other) <= budget:
                assert table[:, list(other)].max(1).sum() <= value + 1e-9


def test_a_disk_is_told_of_where_loads_are_predicted_from_it(residency_data: Path, home: Path) -> None:
    for data, told in ((residency_data, True), (None, False)):
        small = options(data, requests=5, budget_gb=None)
        assert ("disk_gb_s" in run_residency(small, home, DISK, progress=lambda _: None)["settings"]) is told


def test_the_grid_has_a_cell_for_each_budget_disk_and_stream(residency_data: Path, home: Path) -> None:
    asked = options(residency_data, budget_gb=None, requests=20)
    measured = run_grid(residency_data, asked, home, progress=lambda _: None)
    cells = [(row["budget_gb"], row["disk_gb_s"], row["stream"]) for row in measured["rows"]]
    assert cells == list(itertools.product(BUDGETS_GB, DISKS_GB_S, STREAMS))
    marks = [f"{claim} {mark}" for claim in CLAIMS for mark in "-=~"]
    for row, policy in itertools.product(measured["rows"], JUDGED):
        assert row[f"not met, {policy}"] == "none" or set(row[f"not met, {policy}"].split(", ")) <= set(marks)
    table = grid_table(measured["rows"])
    assert len(table) == len(JUDGED) * len(BUDGETS_GB) * len(DISKS_GB_S)
    assert set(table[0]) == {"policy", "GB", "disk GB/s", *STREAMS}


def test_the_command_writes_what_it_shows(residency_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    small = ["--requests", "30", "--seeds", "1", "--embedder", "hash", "--budget-gb", "4"]
    arguments = ["bench", "residency", "--data", str(residency_data), *small, "--json", str(out)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert all(meaning[:30] in shown.output for meaning in POLICIES.values())
    result = json.loads(out.read_text())
    assert result["command"] == (
        "sage bench residency --data residency --budget-gb 4 --requests 30 --seeds 1 --embedder hash"
    )
    assert {row["claim"] for row in result["claims"]} == set(CLAIMS)
    assert {row["models"] for row in result["planning"]} == {10, 100, 1000}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--models", "a,b"],
        ["--real", "--grid"],
        ["--real", "--budget-gb", "1"],
        ["--grid"],
        ["--grid", "--data", "x", "--budget-gb", "8"],
    ],
)
def test_options_that_do_not_go_together_are_refused(wrong: list[str]) -> None:
    error = CliRunner().invoke(app, ["bench", "residency", *wrong]).exception
    assert isinstance(error, UsageError)
    assert error.mend
