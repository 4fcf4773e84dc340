"""Pictures beside the result files.

Owns: the drawing. Must not know: how anything was measured; it sees the rows that were written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sage.bench.frontier import hull
from sage.errors import BackendMissing

__all__ = ["plot_route"]

COLOURS = {
    "sage": "tab:red",
    "sage_cascade": "tab:orange",
    "sage_cascade_served": "tab:brown",
    "knn": "tab:blue",
    "kmeans": "tab:green",
    "ridge": "tab:olive",
    "topic": "tab:purple",
    "singles": "black",
}
"""SAGE stands out; references are grey."""

Row = Mapping[str, Any]


def plot_route(path: Path, result: Mapping[str, Any]) -> None:
    """Scores of every policy by mode with their spread; beside them, where there is cost, quality against it.

    Raises:
        BackendMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendMissing("A plot needs matplotlib.", mend="pip install 'sage-kernel[bench]'") from None
    frontier: Sequence[Row] = result["frontier"]
    figure = Figure(figsize=(13.0 if frontier else 7.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if frontier else 1, squeeze=False)[0]
    _scores(axes[0], result["results"])
    if frontier:
        _frontier(axes[1], frontier, str(result["settings"]["price_unit"]))
    figure.suptitle(f"{result['settings']['data']}, {result['settings']['split']}", fontsize=10)
    figure.savefig(path, dpi=130)


def _scores(axes: Any, rows: Sequence[Row]) -> None:
    """One dot for each policy and mode, the bar is one standard error over questions."""
    ordered = sorted(rows, key=lambda row: float(row["score"]))
    names = [_name(row) for row in ordered]
    for height, row in enumerate(ordered):
        colour = _colour(str(row["policy"]))
        axes.errorbar(
            100 * row["score"], height, xerr=100 * (row["score_se"] or 0.0), fmt="o", color=colour, capsize=3
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("score, percent")
    axes.grid(axis="x", alpha=0.3)


def _name(row: Row) -> str:
    ceiling = row["ceiling"]
    return f"{row['policy']} ({row['mode'] if ceiling is None else f'{ceiling:g} calls'})"


def _frontier(axes: Any, rows: Sequence[Row], unit: str) -> None:
    for row in rows:
        points = [(float(cost), float(quality)) for cost, quality in row["points"]]
        corners = hull(points)
        form = f" ({row['form']})" if row["form"] else ""
        label = f"{row['policy']}{form}: {row['aiq']:.4f}"
        colour = _colour(str(row["policy"]))
        # Straight between corners, which is a curve on an axis of logarithms.
        costs = np.geomspace(corners[0][0], corners[-1][0], 200)
        qualities = np.interp(costs, [cost for cost, _ in corners], [quality for _, quality in corners])
        axes.plot(
            costs,
            100 * qualities,
            "--" if row["form"] == "product" else "-",
            color=colour,
            label=label,
        )
        if row["policy"] == "singles":
            axes.plot([cost for cost, _ in points], [100 * q for _, q in points], "o", color=colour)
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    # The oracle is far above all else, which would be drawn flat for its sake.
    seen = [q for row in rows if row["policy"] != "oracle" for _, q in row["points"]]
    room = 0.08 * (max(seen) - min(seen))
    axes.set_ylim(100 * (min(seen) - room), 100 * min(1.0, max(seen) + 3 * room))
    axes.set_xlabel(f"cost, {unit}")
    axes.set_ylabel("score, percent")
    axes.grid(alpha=0.3)
    axes.legend(title="area under the curve (AIQ)", fontsize=8)


def _colour(policy: str) -> str:
    return COLOURS.get(policy, "0.5")
