"""`sage bench answers`: is the chosen model's answer right more often, and what does it cost?

Owns: asking every question of each model alone and of SAGE, in the same run.
Must not know: how a choice is made; it uses the kernel that serves users.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sage.bench.questions import QUESTIONS, SYSTEM, Question
from sage.config import Settings
from sage.errors import WeightsMissing
from sage.kernel.sense import Request
from sage.kernel.session import open_kernel
from sage.types import Message
from sage.zoo.catalog import load_catalog
from sage.zoo.sources import present

__all__ = ["area_under_curve", "measure_answers"]


def measure_answers(
    home: Path, settings: Settings, *, seeds: int, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row each for SAGE without outcomes, SAGE that learns from the verifier, and every model alone.

    Each policy starts from an empty database; with learning, the order of the questions is shuffled by
    seed, because what is learned early decides what is chosen later. Models alone may be asked again but
    never passed on.

    Raises:
        WeightsMissing: no model is present.
    """
    catalog = load_catalog(home)
    names = [name for name, card in catalog.items() if card.backend != "fake" and present(card, home)]
    if not names:
        raise WeightsMissing("No model is on this machine.", mend="sage models pull")
    rows = []
    for policy, pinned, learns in (
        ("sage", None, False),
        ("sage, told what was right", None, True),
        *((f"always {name}", name, False) for name in names),
    ):
        runs = []
        for seed in range(seeds if learns else 1):
            progress(f"{policy}: {len(QUESTIONS)} questions, seed {seed}")
            questions = list(QUESTIONS)
            random.Random(seed).shuffle(questions)  # noqa: S311  an order, not a secret
            runs.append(_run(home, settings, questions, pinned=pinned, learns=learns))
        rows.append(_row(policy, runs))
    return rows


def _run(
    home: Path, settings: Settings, questions: Sequence[Question], *, pinned: str | None, learns: bool
) -> list[tuple[bool, float, float, int]]:
    """(right, energy of the first draft, seconds, drafts) for each question."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        (fresh / "models").symlink_to(home / "models", target_is_directory=True)
        with open_kernel(home=fresh, settings=settings, catalog=load_catalog(home)) as kernel:
            for number, question in enumerate(questions):
                request = Request(
                    messages=(
                        Message(role="system", content=SYSTEM),
                        Message(role="user", content=question.prompt),
                    ),
                    session=f"q{number}",
                    model=pinned,
                    schema=question.schema,
                    max_tokens=40,
                    verify=question.verify if learns else None,
                )
                started = time.perf_counter()
                reply = kernel.tick(request)
                seconds = time.perf_counter() - started
                right = question.verify(reply.answer) == 1.0
                results.append((right, reply.irp["energy"][0], seconds, reply.irp["steps"]))
    return results


def _row(policy: str, runs: Sequence[Sequence[tuple[bool, float, float, int]]]) -> dict[str, Any]:
    counts = [sum(right for right, *_ in run) for run in runs]
    results = [result for run in runs for result in run]
    return {
        "policy": policy,
        "questions": len(QUESTIONS),
        "right": round(sum(counts) / len(counts), 1),
        "lowest-highest": f"{min(counts)}-{max(counts)}",
        "s / question": round(sum(seconds for _, _, seconds, _ in results) / len(results), 2),
        "drafts": round(sum(steps for *_, steps in results) / len(results), 2),
        "doubt AUC": round(area_under_curve([(right, energy) for right, energy, *_ in results]), 2),
    }


def area_under_curve(results: Sequence[tuple[bool, float]]) -> float:
    """How often a wrong answer has more energy than a right one; 0.5 is chance or one-sided data."""
    right = [energy for ok, energy in results if ok]
    wrong = [energy for ok, energy in results if not ok]
    if not right or not wrong:
        return 0.5
    wins = sum((w > r) + 0.5 * (w == r) for w in wrong for r in right)
    return wins / (len(right) * len(wrong))
