"""Quality against cost: what every setting of a router's dial gives, and the area under it.

Owns: the hull, AIQ, and the sweep over the dial in both forms of the rule.
Must not know: splits, how anything is estimated.

AIQ (average improvement in quality) is RouterBench's figure (Hu et al. 2024, arXiv 2403.12031): the area
under the upper concave, non-decreasing hull of a router's (mean cost, mean quality) points between the
cheapest and the dearest single model, divided by that range. Every router may also be switched to "always the
cheapest model", so that this point belongs to each. No setting of the dial is chosen, all are drawn: the
hull picks among them on the test data, a slight flattery that all routers share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sage.bench.route_data import Floats
from sage.economy.permission import cheapness, permission
from sage.types import Form

__all__ = ["DIALS", "Points", "aiq", "hull", "sweep"]

Points = list[tuple[float, float]]
"""(mean cost, mean quality) of each setting."""

DIALS: Floats = np.concatenate([[0.0], np.geomspace(5e-4, 150.0, 80)])
"""Weights of the price, in units of the dearest model's mean price: from "best" to "cheapest"."""


def sweep(
    quality: Floats, price: Floats, scores: Floats, costs: Floats, *, form: Form, dials: Floats = DIALS
) -> Points:
    """One point for each setting of the dial.

    ``quality`` and ``price`` (queries, models): what the router expects; ``scores`` and ``costs``: what came.
    """
    rows = np.arange(len(scores))
    dearest = float(costs.mean(0).max()) or 1.0
    expected = np.maximum(price, 0.0) / dearest
    points = []
    for weight in dials:
        scale = 1.0 / float(weight) if weight else math.inf
        chosen = permission(form, quality, cheapness(expected, scale=scale), 1.0).argmax(1)
        points.append((float(costs[rows, chosen].mean()), float(scores[rows, chosen].mean())))
    return points


def hull(points: Sequence[tuple[float, float]]) -> Points:
    """The corners of the upper concave, non-decreasing hull, cheapest first."""
    corners: Points = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if corners and quality <= corners[-1][1]:
            continue
        while len(corners) > 1 and _below(corners[-2], corners[-1], (cost, quality)):
            corners.pop()
        corners.append((cost, quality))
    return corners


def aiq(points: Sequence[tuple[float, float]], scores: Floats, costs: Floats) -> float:
    """Area under the hull between the cheapest and the dearest single model, over that range.

    Raises:
        ValueError: all models cost the same, so that there is no range.
    """
    mean = costs.mean(0)
    low, high = float(mean.min()), float(mean.max())
    if not high > low:
        raise ValueError("all models cost the same")
    cheapest = int(mean.argmin())
    corners = hull([*points, (low, float(scores[:, cheapest].mean()))])
    at = np.array([cost for cost, _ in corners])
    quality = np.array([value for _, value in corners])
    # Exact for straight pieces: the corners inside the range, and its ends.
    ends = np.unique(np.clip(np.concatenate([at, [low, high]]), low, high))
    return float(np.trapezoid(np.interp(ends, at, quality), ends) / (high - low))


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the middle point lies on or below the line between the others."""
    rise = (middle[1] - left[1]) * (right[0] - left[0])
    return rise <= (right[1] - left[1]) * (middle[0] - left[0])
