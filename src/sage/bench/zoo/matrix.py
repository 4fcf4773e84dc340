"""What every model made of every question, with what it took: the matrix that policies are replayed on.

Owns: the format (one JSON object), its checks, and the measurement that ships with the project.
Must not know: how a model is asked, or what is chosen from the figures.

``machine``, ``platform`` (may be missing) and ``date`` say where and when; ``models`` are objects with
``name``, ``bytes`` (of the file),
``load_s``, ``prompt_tok_s``, ``generate_tok_s`` and ``rss_bytes`` (None where not measured); ``questions``
are objects with ``id``, ``text`` and ``category``; ``scores``, ``tokens`` and ``cpu_s`` hold one row a
question and one column a model: quality in [0, 1], tokens written, CPU seconds that the worker took for
reading and writing.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.errors import NotFound, UsageError

__all__ = [
    "Matrix",
    "MeasuredModel",
    "MeasuredQuestion",
    "matrix_from",
    "matrix_json",
    "read_matrix",
    "shipped_matrix",
]

Floats = npt.NDArray[np.float64]

SHIPPED = "matrix.json"

MEND = "sage bench zoo --json FILE writes one"

LARGEST = 1e15
"""No size, count or time of a measurement is beyond this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredModel:
    """One column: sizes in bytes, seconds, tokens a second; None where nothing was measured."""

    name: str
    bytes: int
    load_s: float | None = None
    prompt_tok_s: float | None = None
    generate_tok_s: float | None = None
    rss_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredQuestion:
    """One row: the text that was asked, as the model's user wrote it."""

    id: str
    text: str
    category: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matrix:
    """Q questions by M models. ``scores`` (Q, M) in [0, 1]; ``tokens`` (Q, M); ``cpu_s`` (Q, M) seconds."""

    machine: str
    date: str
    platform: str = ""
    models: tuple[MeasuredModel, ...]
    questions: tuple[MeasuredQuestion, ...]
    scores: Floats
    tokens: Floats
    cpu_s: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, by column."""
        return tuple(model.name for model in self.models)

    def rows_of(self, category: str) -> npt.NDArray[np.intp]:
        """The rows of one category."""
        return np.array([n for n, q in enumerate(self.questions) if q.category == category], np.intp)


def shipped_matrix() -> Matrix:
    """The measurement that ships with the project.

    Raises:
        UsageError: the installation is damaged.
    """
    shipped = files("sage.bench.zoo") / SHIPPED
    return matrix_from(json.loads(shipped.read_text(encoding="utf-8")), "the shipped matrix")


def read_matrix(path: Path) -> Matrix:
    """A matrix from a file: of this format, or a result of ``sage bench zoo``, which holds one.

    Raises:
        NotFound: there is no such file. UsageError: it is not a matrix.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no {path}.", mend=MEND) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", mend=MEND) from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", mend=MEND) from None
    if isinstance(value, dict) and isinstance(value.get("matrix"), dict):
        value = value["matrix"]
    return matrix_from(value, str(path))


def matrix_from(value: Any, where: str) -> Matrix:
    """The matrix of a JSON value; ``where`` names its origin in errors.

    Raises:
        UsageError: a part is missing, of the wrong kind, or of another size than the rest.
    """
    try:
        models = tuple(_model(each) for each in value["models"])
        questions = tuple(
            MeasuredQuestion(id=str(q["id"]), text=str(q["text"]), category=str(q["category"]))
            for q in value["questions"]
        )
        shape = (len(questions), len(models))
        matrix = Matrix(
            machine=str(value["machine"]),
            date=str(value["date"]),
            platform=str(value.get("platform", "")),
            models=models,
            questions=questions,
            scores=_figures(value, "scores", shape, highest=1.0),
            tokens=_figures(value, "tokens", shape, highest=LARGEST),
            cpu_s=_figures(value, "cpu_s", shape, highest=LARGEST),
        )
        for what, names in (("models", matrix.names), ("questions", tuple(q.id for q in questions))):
            if not names or len(set(names)) < len(names):
                raise ValueError(f"{what} must have names of their own, and there must be one")
    except KeyError as error:
        raise UsageError(f"{where} has no {error.args[0]!r}: it is not a matrix.", mend=MEND) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where} is not a matrix: {error}", mend=MEND) from None
    return matrix


def matrix_json(matrix: Matrix) -> dict[str, Any]:
    """The JSON value of a matrix; the inverse of :func:`matrix_from` to six decimals."""
    return {
        "machine": matrix.machine,
        "date": matrix.date,
        "platform": matrix.platform,
        "models": [
            {
                "name": m.name,
                "bytes": m.bytes,
                "load_s": m.load_s,
                "prompt_tok_s": m.prompt_tok_s,
                "generate_tok_s": m.generate_tok_s,
                "rss_bytes": m.rss_bytes,
            }
            for m in matrix.models
        ],
        "questions": [{"id": q.id, "text": q.text, "category": q.category} for q in matrix.questions],
        "scores": _plain(matrix.scores),
        "tokens": _plain(matrix.tokens),
        "cpu_s": _plain(matrix.cpu_s),
    }


def _model(value: Mapping[str, Any]) -> MeasuredModel:
    def figure(name: str) -> float | None:
        return None if value.get(name) is None else _number(value[name], name)

    rss = figure("rss_bytes")
    return MeasuredModel(
        name=str(value["name"]),
        bytes=int(_number(value["bytes"], "bytes")),
        load_s=figure("load_s"),
        prompt_tok_s=figure("prompt_tok_s"),
        generate_tok_s=figure("generate_tok_s"),
        rss_bytes=None if rss is None else int(rss),
    )


def _number(value: Any, name: str) -> float:
    number = float(value)
    if not (math.isfinite(number) and 0.0 <= number <= LARGEST):
        raise ValueError(f"{name} is {number:g}")
    return number


def _figures(value: Mapping[str, Any], name: str, shape: tuple[int, int], *, highest: float) -> Floats:
    table = np.array(value[name], dtype=np.float64)
    if table.shape != shape:
        raise ValueError(f"{name} is {table.shape}, not {shape} (questions, models)")
    if not (np.isfinite(table) & (table >= 0.0) & (table <= highest)).all():
        raise ValueError(f"{name} holds a value outside 0 to {highest:g}")
    return table


def _plain(table: Floats) -> Sequence[Sequence[float]]:
    rounded = np.round(table, 6)
    return [[int(v) if v == int(v) else v for v in row] for row in rounded.tolist()]


def main() -> None:
    """``python -m sage.bench.zoo.matrix RESULT`` ships the matrix of a result file of ``sage bench zoo``."""
    value = matrix_json(read_matrix(Path(sys.argv[1])))
    tables = {name: value.pop(name) for name in ("models", "questions", "scores", "tokens", "cpu_s")}
    parts = [f'"{name}": {json.dumps(each, ensure_ascii=False)}' for name, each in value.items()]
    for name, rows in tables.items():  # one line a row: a later measurement changes what it changes
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        parts.append(f'"{name}": [\n{lines}\n]')
    shipped = Path(__file__).with_name(SHIPPED)
    shipped.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
