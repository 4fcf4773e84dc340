"""SAGE over the questions of the zoo, against every model alone, chance and the best that was possible.

Owns: the policies, the replay of a matrix through the selector, and the one run of the whole kernel.
Must not know: how the matrix was measured, or how a choice is made.

The replay takes each question's measured outcome of whichever model is chosen: one choice a question, no
second opinions, every model loaded, its price the CPU seconds that a question costs it on average. Trust
starts from the cards and learns, where it is told, from the chosen model's outcome alone. The live run asks
the models anew, through the kernel that serves users, with loads and second opinions, and counts the
processor time of everything, SAGE included.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.bench.report import spread
from sage.bench.sage_policy import book_of
from sage.bench.zoo.matrix import Matrix
from sage.bench.zoo.questions import ZooQuestion
from sage.config import Settings
from sage.economy.context import Codebook, Context
from sage.economy.filters import Limits
from sage.economy.permission import scales
from sage.economy.pool import Pool, card_shift
from sage.economy.selector import Selector
from sage.kernel.sense import Request, labels, sense
from sage.kernel.session import open_kernel
from sage.memory.locate import Locator
from sage.types import Candidate, Outcome, Situation
from sage.zoo.card import ModelCard

__all__ = ["live", "located", "replay"]

Ints = npt.NDArray[np.intp]

DIALS = (0.1, 0.5, 1.0)


def located(questions: Sequence[ZooQuestion], locator: Locator) -> tuple[list[Situation], list[Context]]:
    """The questions as the kernel sees them, and where they lie."""
    situations = [sense(_request(q, told=False), default_max_tokens=q.max_tokens) for q in questions]
    texts = [situation.prompt for situation in situations]
    return situations, locator.locate_all(texts, [labels(situation) for situation in situations])


def replay(
    matrix: Matrix,
    cards: Sequence[ModelCard],
    settings: Settings,
    situations: Sequence[Situation],
    contexts: Sequence[Context],
    codebook: Codebook,
    *,
    seeds: int,
) -> list[dict[str, Any]]:
    """One row a policy, over ``seeds`` orders of the questions; ``cards`` are by column of the matrix."""
    each = np.arange(len(matrix.questions))
    policies: list[tuple[str, Sequence[Ints]]] = [
        (f"always {name}", [np.full_like(each, column)]) for column, name in enumerate(matrix.names)
    ]
    draws = [np.random.default_rng(seed) for seed in range(seeds)]
    policies.append(("random", [draw.integers(0, len(cards), len(each)) for draw in draws]))
    for told, dial in ((False, 0.5), *((True, dial) for dial in DIALS)):
        runs = [
            _choices(matrix, cards, settings, situations, contexts, codebook, dial=dial, told=told, seed=seed)
            for seed in range(seeds if told else 1)
        ]
        policies.append((f"sage, {'told' if told else 'untold'}, dial {dial:g}", runs))
    policies.append(("best by kind, in hindsight", [_best_by_kind(matrix)]))
    policies.append(("oracle", [_oracle(matrix)]))
    return [_row(name, "replay", *_figures(matrix, runs)) for name, runs in policies]


def live(
    home: Path,
    settings: Settings,
    cards: Sequence[ModelCard],
    questions: Sequence[ZooQuestion],
    *,
    told: bool,
    seed: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """One row: the kernel with an empty database, and these models, asked every question once."""
    asked = list(questions)
    random.Random(seed).shuffle(asked)  # noqa: S311  an order, not a secret
    right = 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        (fresh / "models").symlink_to(home / "models", target_is_directory=True)
        before = _cpu_seconds()
        with open_kernel(home=fresh, settings=settings, catalog={c.name: c for c in cards}) as kernel:
            for number, question in enumerate(asked):
                if number % 20 == 0:
                    progress(f"sage, {'told' if told else 'untold'}: question {number + 1} of {len(asked)}")
                right += question.verify(kernel.tick(_request(question, told=told)).answer) == 1.0
        seconds = _cpu_seconds() - before
    policy = f"sage, {'told' if told else 'untold'}, dial {settings.selector.dial:g}"
    return _row(policy, "live", len(asked), [right / len(asked)], [seconds / len(asked)])


def _request(question: ZooQuestion, *, told: bool) -> Request:
    return Request(
        messages=question.messages,
        session=question.id,
        schema=question.schema,
        max_tokens=question.max_tokens,
        stop=question.stop,
        seed=0,
        verify=question.verify if told else None,
    )


def _cpu_seconds() -> float:
    """Of this process and its workers, those that ended included.

    Nothing else that this process starts meanwhile takes long.
    """
    import psutil

    ended = os.times()
    running = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        running += times.user + times.system
    return time.process_time() + ended.children_user + ended.children_system + running


def _choices(
    matrix: Matrix,
    cards: Sequence[ModelCard],
    settings: Settings,
    situations: Sequence[Situation],
    contexts: Sequence[Context],
    codebook: Codebook,
    *,
    dial: float,
    told: bool,
    seed: int,
) -> Ints:
    """The model chosen for each question, in the order of the matrix."""
    draw, book = np.random.default_rng(seed), book_of(codebook)
    pool = Pool([_candidate(card, float(s)) for card, s in zip(cards, matrix.cpu_s.mean(0), strict=True)])
    scale, load_scale = scales(pool, "atp", settings.selector.price_scale)
    selector = Selector(
        hot_bonus=settings.selector.hot_bonus,
        price_scale=scale,
        load_scale=load_scale,
        form=settings.selector.form,
    )
    balance = settings.atp.capacity
    limits = Limits(
        atp=balance,
        capacity=balance,
        memory_bytes=1 << 62,
        explore_atp=settings.selector.explore_share * balance,
    )
    chosen = np.zeros(len(situations), np.intp)
    for moment, number in enumerate(draw.permutation(len(situations)).tolist()):
        decision = selector.choose(
            situations[number],
            contexts[number],
            pool,
            book,
            limits=limits,
            now=float(moment),
            dial=dial,
            random=draw if told else None,
        )
        column = pool.index[decision.chosen]
        chosen[number] = column
        if told:
            kind = situations[number].kind
            book.observe(
                Outcome(
                    event_id=f"{seed}-{moment}",
                    turn_id=f"{seed}-{moment}",
                    candidate=decision.chosen,
                    kind=kind,
                    quality=float(matrix.scores[number, column]),
                    source="verifier",
                    at=float(moment),
                    shift=card_shift(cards[column].prior, kind),
                ),
                contexts[number],
            )
    return chosen


def _candidate(card: ModelCard, seconds: float) -> Candidate:
    return Candidate(
        name=card.name,
        prior=card.prior,
        capabilities=card.abilities,
        context_length=card.context_length,
        memory_bytes=card.bytes,
        resident=True,
        load_bytes=0,
        est_load_s=0.0,
        est_run_s=seconds,
        family=card.family,
    )


def _best_by_kind(matrix: Matrix) -> Ints:
    """Who was right most often in each kind of question, the cheaper of equals."""
    chosen = np.zeros(len(matrix.questions), np.intp)
    for kind in {question.category for question in matrix.questions}:
        rows = matrix.rows_of(kind)
        right, price = matrix.scores[rows].sum(0), matrix.cpu_s[rows].sum(0)
        chosen[rows] = min(range(len(right)), key=lambda column: (-right[column], price[column]))
    return chosen


def _oracle(matrix: Matrix) -> Ints:
    """The cheapest model that was right; where none was, the cheapest."""
    price = matrix.cpu_s + np.where(matrix.scores == matrix.scores.max(1, keepdims=True), 0.0, np.inf)
    return np.asarray(price.argmin(1), np.intp)


def _figures(matrix: Matrix, runs: Sequence[Ints]) -> tuple[int, list[float], list[float]]:
    each = np.arange(len(matrix.questions))
    accuracy = [float(matrix.scores[each, run].mean()) for run in runs]
    return len(each), accuracy, [float(matrix.cpu_s[each, run].mean()) for run in runs]


def _row(
    policy: str, how: str, count: int, accuracy: Sequence[float], cpu_s: Sequence[float]
) -> dict[str, Any]:
    right, price = spread(accuracy), spread(cpu_s)
    return {
        "policy": policy,
        "how": how,
        "n": count,
        "accuracy": round(right.median, 4),
        "accuracy_low": round(right.low, 4),
        "accuracy_high": round(right.high, 4),
        "cpu_s_per_question": round(price.median, 4),
        "cpu_s_low": round(price.low, 4),
        "cpu_s_high": round(price.high, 4),
    }
