"""A zoo and its recorded outcomes, with what each model occupies and how fast it is.

Owns: reading of both formats, and the rules for what is not stated. Must not know: policies, streams.

From a folder (the format of ``sage bench route``): weights are ``params_b`` at ``bits`` a weight, 4 where
none are stated; memory is that and ``CONTEXT_SHARE`` for context and buffers; a ``memory_gb`` that is not
that of bf16 weights is taken as stated. A model without a size cannot be loaded and is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sage.bench.residency.speeds import USUAL, Speeds, fit_speeds
from sage.bench.route_data import Floats, load_outcomes
from sage.bench.zoo.matrix import MeasuredModel, shipped_matrix
from sage.errors import UsageError
from sage.kernel.candidates import LOAD_FLOOR_S
from sage.kernel.sense import count_tokens

__all__ = ["GB", "ROOM", "Model", "World", "fitting", "folder_world", "shipped_world"]

GB = 1e9

USUAL_BITS = 4.0

CONTEXT_SHARE = 0.1
"""Of the weights: 4,096 tokens of an 8B model with grouped heads take 0.5 GB beside 4 GB."""

USUAL_ANSWER = 200.0
"""Tokens of an answer where none were recorded."""

BF16_TOLERANCE = 0.02
"""``memory_gb`` within this share of two bytes a parameter says nothing about how it would be served."""

ROOM = 1.02
"""Of the largest model: a budget that holds it, and seldom another beside it."""

SIZES = "models.json: params_b in billions, or memory_gb of what the model occupies"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """``bytes`` it occupies when loaded, ``file_bytes`` read for that, in ``load_s``; tokens a second."""

    name: str
    bytes: int
    file_bytes: int
    load_s: float
    prompt_tok_s: float
    generate_tok_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class World:
    """``scores`` and ``tokens`` (questions, models); ``prompt_tokens`` (questions,); ``left_out`` names
    models that cannot be loaded, each with the reason."""

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    models: tuple[Model, ...]
    scores: Floats
    tokens: Floats
    prompt_tokens: Floats
    left_out: Mapping[str, str]

    @property
    def run_s(self) -> Floats:
        """(questions, models) seconds that each answer takes."""
        return self.seconds(self.tokens)

    def seconds(self, tokens: Floats) -> Floats:
        """(questions, models) seconds for reading the question and writing so many ``tokens`` (questions,
        models)."""
        read = np.array([1.0 / model.prompt_tok_s for model in self.models])
        write = np.array([1.0 / model.generate_tok_s for model in self.models])
        return np.asarray(self.prompt_tokens[:, None] * read + tokens * write)

    @property
    def usual_budget(self) -> int:
        """Bytes that hold the largest model, and of all models about a half."""
        sizes = [model.bytes for model in self.models]
        return round(max(ROOM * max(sizes), sum(sizes) / 2.0))


def shipped_world(disk_bytes_s: float) -> World:
    """The real models that ``sage bench zoo`` measured, with their own times."""
    matrix = shipped_matrix()
    speeds = fit_speeds(matrix.models)
    return _world(
        "the shipped measurement",
        tuple(question.id for question in matrix.questions),
        tuple(question.text for question in matrix.questions),
        tuple(question.category for question in matrix.questions),
        {model.name: _measured(model, speeds, disk_bytes_s) for model in matrix.models},
        matrix.scores,
        matrix.tokens,
    )


def folder_world(folder: Path, disk_bytes_s: float) -> World:
    """Recorded outcomes from a folder, with predicted times.

    Raises:
        NotFound: the folder, or a file it must hold. UsageError: a file is damaged, or no model has a size.
    """
    outcomes = load_outcomes(folder)
    path = folder / "models.json"
    entries: Sequence[Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    speeds = _speeds()
    models = {str(entry["name"]): _predicted(entry, path, speeds, disk_bytes_s) for entry in entries}
    tokens = outcomes.tokens
    if tokens is None:
        tokens = np.full(outcomes.scores.shape, USUAL_ANSWER)
    return _world(
        outcomes.name, outcomes.ids, outcomes.texts, outcomes.categories, models, outcomes.scores, tokens
    )


def fitting(world: World, budget: int) -> World:
    """The world without the models that the budget cannot hold.

    Raises:
        UsageError: fewer than two are left, so that there is nothing to choose.
    """
    large = {m.name: f"needs {m.bytes / GB:.1f} GB" for m in world.models if m.bytes > budget}
    kept = [column for column, model in enumerate(world.models) if model.name not in large]
    left_out = {**world.left_out, **large}
    if len(kept) < 2:
        smallest = sorted(model.bytes for model in world.models)[:2]
        needed = f"{smallest[-1] / GB:.1f} GB hold two" if len(smallest) == 2 else "it has one model alone"
        raise UsageError(
            f"Of {world.name}, {len(kept) or 'no'} model{'' if len(kept) == 1 else 's'} fit into "
            f"{budget / GB:g} GB; there must be two to choose from ({needed}).",
            mend="Raise --budget-gb, or give --data with more models",
        )
    return World(
        name=world.name,
        ids=world.ids,
        texts=world.texts,
        categories=world.categories,
        models=tuple(world.models[column] for column in kept),
        scores=world.scores[:, kept],
        tokens=world.tokens[:, kept],
        prompt_tokens=world.prompt_tokens,
        left_out=left_out,
    )


def _world(
    name: str,
    ids: tuple[str, ...],
    texts: tuple[str, ...],
    categories: tuple[str, ...],
    models: Mapping[str, Model | None],
    scores: Floats,
    tokens: Floats,
) -> World:
    kept = [column for column, model in enumerate(models.values()) if model is not None]
    if not kept:
        raise UsageError(f"No model of {name} has a size, so that none can be loaded.", mend=SIZES)
    if len(ids) < 4:
        raise UsageError(f"{name} holds {len(ids)} questions; half of them are history.", mend="Use more")
    return World(
        name=name,
        ids=ids,
        texts=texts,
        categories=categories,
        models=tuple(model for model in models.values() if model is not None),
        scores=scores[:, kept],
        tokens=np.asarray(tokens[:, kept], float),
        prompt_tokens=np.array([count_tokens(text) for text in texts], float),
        left_out={model: "its size is not known" for model, found in models.items() if found is None},
    )


def _speeds() -> Speeds:
    """As the shipped models say; predictions do without them where the installation lacks them."""
    try:
        return fit_speeds(shipped_matrix().models)
    except (OSError, UsageError):
        return USUAL


def _measured(model: MeasuredModel, speeds: Speeds, disk_bytes_s: float) -> Model:
    return Model(
        name=model.name,
        bytes=model.rss_bytes or round(model.bytes * (1.0 + CONTEXT_SHARE)),
        file_bytes=model.bytes,
        load_s=model.load_s or LOAD_FLOOR_S + model.bytes / disk_bytes_s,
        prompt_tok_s=model.prompt_tok_s or speeds.prompt_tok_s(model.bytes),
        generate_tok_s=model.generate_tok_s or speeds.generate_tok_s(model.bytes),
    )


def _predicted(entry: Mapping[str, Any], path: Path, speeds: Speeds, disk_bytes_s: float) -> Model | None:
    params, bits, memory = (_size(entry, key, path) for key in ("params_b", "bits", "memory_gb"))
    if params is None and memory is None:
        return None
    weights = (params or 0.0) * (bits or USUAL_BITS) / 8.0
    occupied = weights * (1.0 + CONTEXT_SHARE)
    if memory is not None and (params is None or abs(memory - 2.0 * params) > BF16_TOLERANCE * memory):
        occupied = memory
        if params is None or bits is None:
            weights = memory / (1.0 + CONTEXT_SHARE)
    return Model(
        name=str(entry["name"]),
        bytes=round(occupied * GB),
        file_bytes=round(weights * GB),
        load_s=LOAD_FLOOR_S + weights * GB / disk_bytes_s,
        prompt_tok_s=speeds.prompt_tok_s(weights * GB),
        generate_tok_s=speeds.generate_tok_s(weights * GB),
    )


def _size(entry: Mapping[str, Any], key: str, path: Path) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise UsageError(f"{path}: {key} of {entry['name']!r} must be above 0 or null.", mend=SIZES)
    return float(value)
