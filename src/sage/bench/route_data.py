"""Recorded outcomes: which model got which question right, read from a folder and checked.

Owns: the format (``queries.jsonl``, ``models.json``, ``scores.npy``; ``tokens.npy``, ``cost.npy`` and
``answers.npy`` where they exist), its checks, and matching of two sets by model name.
Must not know: texts' vectors, policies.

Every hole is refused: a missing score would otherwise decide silently who may be best.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.errors import NotFound, SageError, UsageError, did_you_mean

__all__ = ["Floats", "Ints", "Outcomes", "check_folder", "load_outcomes", "matched", "of_models", "pooled"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

NAMED = 4
"""Models that a message names."""

FORMAT = "The format: sage bench route --help"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """What every model did with every question.

    ``scores`` (queries, models) in [0, 1]; ``tokens`` of the answer and ``cost`` in USD a call, the same
    shape, 0 or more; ``answers`` (queries, models), the option chosen, -1 for none. ``params_b`` is billions
    of parameters, None where the maker does not say. Categories are for reporting, never for choosing.
    """

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    models: tuple[str, ...]
    params_b: tuple[float | None, ...]
    scores: Floats
    tokens: Floats | None = None
    cost: Floats | None = None
    answers: Ints | None = None

    @property
    def price(self) -> Floats | None:
        """(queries, models): USD per 1,000 calls; else billions of parameters x 1,000 tokens, NaN where a
        model's size is unknown; None where neither was recorded."""
        if self.cost is not None:
            return self.cost * 1000.0
        if self.tokens is None:
            return None
        sizes = np.array([math.nan if size is None else size for size in self.params_b])
        prices: Floats = self.tokens * sizes / 1000.0
        return prices

    @property
    def price_unit(self) -> str | None:
        """What a price counts."""
        if self.cost is not None:
            return "USD per 1,000 queries"
        return None if self.tokens is None else "billion parameters x 1,000 tokens, per query"


def check_folder(folder: Path) -> None:
    """For who wants to know before the work that comes first.

    Raises:
        NotFound: it is no folder.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", mend=FORMAT)


def load_outcomes(folder: Path, *, models: str = "*") -> Outcomes:
    """Read and check a folder; keep the models whose name matches the pattern.

    Raises:
        NotFound: the folder, or a file it must hold.
        UsageError: a file that is broken, of the wrong shape, or holds a missing or impossible value; a
            pattern that matches no model. The message names the file and the line, or the row and the model.
    """
    check_folder(folder)
    ids, texts, categories = _read_queries(folder / "queries.jsonl")
    names, sizes = _read_models(folder / "models.json")
    kept = [column for column, name in enumerate(names) if fnmatch.fnmatchcase(name, models)]
    if not kept:
        hint = did_you_mean(models.strip("*"), names)
        raise UsageError(f"No model of {folder} matches {models!r}.{hint}", mend=f"It holds {_some(names)}")

    def matrix(file: str, low: float, high: float) -> Floats | None:
        path = folder / file
        return _read_matrix(path, ids, names, low, high)[:, kept] if path.exists() else None

    scores = matrix("scores.npy", 0.0, 1.0)
    if scores is None:
        raise NotFound(f"{folder} has no scores.npy.", mend=FORMAT)
    answers = matrix("answers.npy", -1.0, 1e9)
    if answers is not None and (answers != np.round(answers)).any():
        raise UsageError(f"{folder / 'answers.npy'} holds numbers that are not whole.", mend=FORMAT)
    return Outcomes(
        name=folder.resolve().name,
        ids=ids,
        texts=texts,
        categories=categories,
        models=tuple(names[column] for column in kept),
        params_b=tuple(sizes[column] for column in kept),
        scores=scores,
        tokens=matrix("tokens.npy", 0.0, math.inf),
        cost=matrix("cost.npy", 0.0, math.inf),
        answers=None if answers is None else answers.astype(np.intp),
    )


def matched(test: Outcomes, train: Outcomes) -> Outcomes:
    """``test`` with its models in the order of ``train``.

    Raises:
        UsageError: the two do not hold the same models.
    """
    lacking = sorted(set(train.models) - set(test.models))
    unknown = sorted(set(test.models) - set(train.models))
    if lacking or unknown:
        what = [f"{test.name} lacks {_some(lacking)}"] * bool(lacking)
        what += [f"{train.name} lacks {_some(unknown)}"] * bool(unknown)
        raise UsageError(
            f"Train and test hold different models: {'; '.join(what)}.",
            mend="Name what both hold with --models GLOB",
        )
    return of_models(test, [test.models.index(name) for name in train.models])


def of_models(outcomes: Outcomes, columns: Sequence[int]) -> Outcomes:
    """Some of the models, in that order."""
    order = list(columns)

    def chosen(values: Any) -> Any:
        return None if values is None else values[:, order]

    return replace(
        outcomes,
        models=tuple(outcomes.models[column] for column in order),
        params_b=tuple(outcomes.params_b[column] for column in order),
        scores=chosen(outcomes.scores),
        tokens=chosen(outcomes.tokens),
        cost=chosen(outcomes.cost),
        answers=chosen(outcomes.answers),
    )


def pooled(train: Outcomes, test: Outcomes) -> Outcomes:
    """Both sets as one, train first; ``test`` must be :func:`matched`. What only one recorded is dropped."""

    def both(a: Any, b: Any) -> Any:
        return None if a is None or b is None else np.concatenate([a, b])

    return replace(
        train,
        name=f"{train.name}, {test.name}",
        ids=train.ids + test.ids,
        texts=train.texts + test.texts,
        categories=train.categories + test.categories,
        scores=np.concatenate([train.scores, test.scores]),
        tokens=both(train.tokens, test.tokens),
        cost=both(train.cost, test.cost),
        answers=both(train.answers, test.answers),
    )


def _read_queries(path: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    ids: dict[str, int] = {}
    texts, categories = [], []
    for number, line in enumerate(_read(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
            values = [row[key] for key in ("id", "text", "category")]
            for value in values:
                value.encode("utf-8")  # a lone surrogate can be written in JSON, but not tokenized
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error}).", mend=FORMAT) from None
        except (KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{path}, line {number}: needs the strings id, text and category.", mend=FORMAT
            ) from None
        if values[0] in ids:
            raise UsageError(
                f"{path}, line {number}: the id {values[0]!r} stands in line {ids[values[0]]} too.",
                mend="Give each question its own id",
            )
        ids[values[0]] = number
        texts.append(values[1])
        categories.append(values[2])
    if not any(text.strip() for text in texts):
        raise UsageError(f"{path} holds no question.", mend=FORMAT)
    return tuple(ids), tuple(texts), tuple(categories)


def _read_models(path: Path) -> tuple[list[str], list[float | None]]:
    try:
        cards = json.loads(_read(path).decode("utf-8"))
        names = [card["name"] for card in cards]
        sizes = [card.get("params_b") for card in cards]
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON ({error}).", mend=FORMAT) from None
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} must be a list of objects with a name.", mend=FORMAT) from None
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{path} must be a list of objects with a name.", mend=FORMAT)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{path} names {twice[0]!r} twice.", mend="Give each model its own name")
    for name, size in zip(names, sizes, strict=True):
        if size is not None and not (isinstance(size, int | float) and math.isfinite(size) and size > 0):
            raise UsageError(f"{path}: params_b of {name!r} must be above 0 or null.", mend=FORMAT)
    return names, sizes


def _read_matrix(path: Path, ids: Sequence[str], models: Sequence[str], low: float, high: float) -> Floats:
    """(queries, models) finite numbers in [low, high]."""
    try:
        # Mapped first: a header that lies about the size fails here and takes no memory.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UsageError(f"{path} is no array of numbers ({error}).", mend=FORMAT) from None
    if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "fiub":
        raise UsageError(f"{path} is no array of numbers.", mend=FORMAT)
    if mapped.shape != (len(ids), len(models)):
        raise UsageError(
            f"{path} has the shape {mapped.shape}; {len(ids)} questions and {len(models)} models are named.",
            mend="Write one row for each question and one column for each model, in the same order",
        )
    values = np.array(mapped, np.float64)
    bad = ~(np.isfinite(values) & (values >= low) & (values <= high))
    if bad.any():
        row, column = (int(at[0]) for at in np.nonzero(bad))
        limits = f"of {low:g} or more" if high >= 1e9 else f"from {low:g} to {high:g}"
        raise UsageError(
            f"{path}, row {row + 1} ({ids[row]}), {models[column]}: {values[row, column]:g} is no number "
            f"{limits}; {int(bad.sum())} values are missing or wrong.",
            mend="Leave out the questions or the models with missing values",
        )
    return values


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(sorted(names)[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path.parent} has no {path.name}.", mend=FORMAT) from None
    except OSError as error:
        why = error.strerror or "unknown reason"
        raise SageError(f"{path} cannot be read: {why}.", mend="Check the file's rights") from None
