"""The file of a measurement while it grows: what is done is kept, and a later run goes on from it.

Owns: which parts are finished, and the rows and the matrix as they are written.
Must not know: how anything is measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sage.bench.report import write_result
from sage.bench.zoo.matrix import Matrix, matrix_from
from sage.bench.zoo.questions import ZooQuestion

__all__ = ["Results"]

Row = dict[str, Any]
Cells = tuple[list[float], list[float], list[float]]

MEASURED = ("model", "questions", "long context", "turns", "choices", "live")
"""What rows are kept for; the others are computed from them at the end."""


@dataclass(kw_only=True, slots=True)
class Results:
    """Rows by what they are, and the matrix by model and question: score, tokens written, CPU seconds."""

    out: Path
    command: str
    settings: Mapping[str, Any]
    questions: Sequence[ZooQuestion]
    models: dict[str, int] = field(default_factory=dict)
    """Bytes of the file, by name."""
    rows: list[Row] = field(default_factory=list)
    derived: list[Row] = field(default_factory=list)
    cells: dict[str, dict[str, tuple[float, float, float]]] = field(default_factory=dict)

    def resume(self) -> int:
        """Take over what the file holds, if it was measured with the same settings; returns how many rows."""
        try:
            kept = json.loads(self.out.read_text(encoding="utf-8"))
            if kept["suite"] == "zoo" and kept["settings"] == dict(self.settings):
                self._take(kept["matrix"], kept["rows"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # not ours, or half written
            self.models, self.cells, self.rows = {}, {}, []
        return len(self.rows)

    def _take(self, matrix: Mapping[str, Any], rows: Sequence[Row]) -> None:
        asked = {question.id for question in self.questions}
        for column, model in enumerate(matrix["models"]):
            self.models[model["name"]] = model["bytes"]
            values = zip(*(matrix[name] for name in ("scores", "tokens", "cpu_s")), strict=True)
            self.cells[model["name"]] = {
                question["id"]: (score[column], tokens[column], cpu_s[column])
                for question, (score, tokens, cpu_s) in zip(matrix["questions"], values, strict=True)
                if score[column] is not None and question["id"] in asked
            }
        self.rows = [row for row in rows if row["what"] in MEASURED]

    def begin(self, model: str, size: int) -> None:
        """A model is measured; what is known of another file of its name is forgotten."""
        if self.models.get(model, size) != size:
            self.forget(model)
        self.models[model] = size

    def forget(self, model: str) -> None:
        """Drop what was measured of a model."""
        self.models.pop(model, None)
        self.cells.pop(model, None)
        self.rows = [row for row in self.rows if row.get("model") != model]

    def has(self, what: str, model: str, category: str | None = None) -> bool:
        """Whether that part is finished."""
        return any(
            row["what"] == what and row["model"] == model and row.get("category") == category
            for row in self.rows
        )

    def add(self, *rows: Row) -> None:
        """Keep finished rows, and write the file."""
        self.rows += rows
        self.write()

    def add_answers(self, model: str, row: Row, cells: Mapping[str, tuple[float, float, float]]) -> None:
        """Keep the row of one kind of question with its answers by question."""
        self.cells.setdefault(model, {}).update(cells)
        self.add(row)

    def matrix(self) -> Matrix | None:
        """Of the models that answered everything; None where there is none."""
        whole = [name for name in self.models if len(self.cells.get(name, {})) == len(self.questions)]
        return matrix_from(self._matrix(whole), "the measurement") if whole else None

    def write(self, *, finished: bool = False) -> dict[str, Any]:
        """Put everything into the file, whole at once."""
        asked = [name for name in self.models if self.cells.get(name)]
        part = self.out.with_name(self.out.name + ".part")
        order = [row for what in MEASURED for row in self.rows if row["what"] == what]
        result = write_result(
            part,
            suite="zoo",
            command=self.command,
            settings=self.settings,
            rows=[*order, *self.derived],
            more={
                "finished": finished,
                "matrix": self._matrix(asked),
            },
        )
        os.replace(part, self.out)
        return result

    def _matrix(self, names: Sequence[str]) -> dict[str, Any]:
        """In the form of :mod:`sage.bench.zoo.matrix`, with None where nothing is known yet."""
        import time

        from sage.hardware.probe import probe

        machine = probe()
        speeds = {row["model"]: row for row in self.rows if row["what"] == "model"}

        def column(number: int) -> list[list[float | None]]:
            nothing = (None, None, None)
            return [[self.cells.get(n, {}).get(q.id, nothing)[number] for n in names] for q in self.questions]

        models = []
        for name in names:
            speed = speeds.get(name, {})
            models.append(
                {
                    "name": name,
                    "bytes": self.models[name],
                    **{key: speed.get(key) for key in ("load_s", "prompt_tok_s", "generate_tok_s")},
                    "rss_bytes": speed["resident_mb"] * 1_000_000 if speed else None,
                }
            )
        return {
            "machine": f"{machine.usable_cores} cores of {machine.cpu}, {machine.memory_total / 1e9:.1f} GB",
            "date": time.strftime("%Y-%m-%d"),
            "platform": f"{machine.platform} {machine.arch}",
            "models": models,
            "questions": [{"id": q.id, "text": q.prompt, "category": q.category} for q in self.questions],
            "scores": column(0),
            "tokens": column(1),
            "cpu_s": column(2),
        }
