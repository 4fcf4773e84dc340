"""`sage bench zoo`: every present model on the same real work, and SAGE over the same questions.

Owns: which parts there are and how large, their order, which models, and what a broken model means.
Must not know: how a part is measured, or how rows are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from sage.bench.zoo.asking import open_worker
from sage.bench.zoo.choices import choices_from, fetch_choices
from sage.bench.zoo.longcontext import lengths_up_to
from sage.bench.zoo.measure import (
    measure_answers,
    measure_choices,
    measure_needles,
    measure_speed,
    measure_turns,
)
from sage.bench.zoo.questions import CATEGORIES, ZooQuestion, zoo_questions
from sage.bench.zoo.results import Results
from sage.bench.zoo.router import live, located, replay
from sage.bench.zoo.trust import convergence
from sage.bench.zoo.turns import STAGES
from sage.config import Settings
from sage.errors import DoesNotFit, SageError, WeightsMissing
from sage.hardware.budget import budget_bytes
from sage.hardware.probe import memory
from sage.kernel.session import memory_need
from sage.kernel.sharing import ask_for_home
from sage.memory.locate import open_locator
from sage.zoo.card import ModelCard
from sage.zoo.catalog import find_card, load_catalog
from sage.zoo.lease import Lease
from sage.zoo.process import Worker
from sage.zoo.sources import present

__all__ = ["SUITES", "Suite", "SuiteName", "chosen_models", "run_zoo"]

SuiteName = Literal["quick", "full"]

SEED = 0

UNPACKED = 8
"""How much more memory a file in four bits takes where its weights are unpacked to 32 bits to be scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """How much of each part. ``questions`` of each kind; ``longest`` tokens of a needle's text; ``depths`` of
    each length; ``conversations`` of eight turns; ``choices`` of each set; ``live`` questions of each kind
    for the whole kernel; ``orders`` of a replay; ``repeats`` of a load."""

    repeats: int
    questions: int
    longest: int
    depths: int
    conversations: int
    choices: int
    live: int
    orders: int


SUITES: Mapping[SuiteName, Suite] = {
    "quick": Suite(
        repeats=1, questions=4, longest=1024, depths=3, conversations=2, choices=0, live=2, orders=5
    ),
    "full": Suite(
        repeats=5, questions=16, longest=1 << 30, depths=3, conversations=6, choices=50, live=4, orders=20
    ),
}


def chosen_models(catalog: Mapping[str, ModelCard], home: Path, names: Sequence[str]) -> list[ModelCard]:
    """The cards of ``names``; without any, of every model with weights on this machine.

    Raises:
        ModelNotFound: no model that answers has that name.
        WeightsMissing: a named model is not here, or none is.
    """
    if not names:
        cards = [
            card
            for card in catalog.values()
            if card.backend != "fake" and not (card.remote or card.unfit) and present(card, home)
        ]
        if not cards:
            raise WeightsMissing("No model is on this machine.", mend="sage models pull")
        return cards
    chosen = {card.name: card for card in (find_card(catalog, name) for name in names)}
    for name, card in chosen.items():
        if not present(card, home):
            raise WeightsMissing(f"The weights of {name} are not here.", mend=f"sage models pull {name}")
    return list(chosen.values())


def run_zoo(
    home: Path,
    settings: Settings,
    *,
    suite: SuiteName,
    models: Sequence[str],
    out: Path,
    fresh: bool,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure what ``out`` does not hold yet; returns what the file holds then.

    A model that cannot be loaded or answers with errors is left out, and said so. What was measured stays in
    ``out`` whatever happens.

    Raises:
        WeightsMissing, ModelNotFound: as :func:`chosen_models`.
        HomeInUse: another process holds the models of this ``SAGE_HOME``.
        SageError: of the first model, where none could be measured.
    """
    size, catalog = SUITES[suite], load_catalog(home)
    cards = chosen_models(catalog, home, models)
    results = Results(
        out=out,
        command=f"sage bench zoo --suite {suite}",
        settings={
            "suite": suite,
            **asdict(size),
            "seed": SEED,
            "context": settings.models.context,
            "threads": settings.models.threads,
        },
        questions=zoo_questions(SEED, size.questions),
    )
    if not fresh and (rows := results.resume()):
        progress(f"{out} holds {rows} parts, which are not measured again (--fresh does)")
    for name in [name for name in results.models if name not in catalog]:
        results.forget(name)
    failed: dict[str, SageError] = {}
    plan = _Plan(
        home=home,
        settings=settings,
        size=size,
        results=results,
        sets=_sets(home, settings, size, progress),
        progress=progress,
    )
    for part in (
        plan.speed,
        plan.answers,
        plan.contexts,
        plan.choices,
    ):  # what is stopped has the first of all
        for card in cards:
            if card.name in failed:
                continue
            with _holding(home, settings, progress):
                try:
                    part(card)
                except SageError as error:
                    failed[card.name] = error
                    progress(f"{card.name} is left out from here: {error.message}")
    if results.matrix() is None and failed:
        raise next(iter(failed.values()))
    _compare(home, settings, catalog, size, results, progress)
    return results.write(finished=not failed)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The parts of a model, each of which measures what is still missing."""

    home: Path
    settings: Settings
    size: Suite
    results: Results
    sets: Mapping[str, Path]
    progress: Callable[[str], None]

    def speed(self, card: ModelCard) -> None:
        self.results.begin(card.name, card.bytes)
        _fits(card, memory_need(self.home, card, self.settings.models.context), self.settings)
        if not self.results.has("model", card.name):
            self.progress(f"{card.name}: load, speed and memory, {self.size.repeats} times")
            row = measure_speed(self.home, card, self.settings, repeats=self.size.repeats)
            self.results.add(row)

    def answers(self, card: ModelCard) -> None:
        missing = [kind for kind in CATEGORIES if not self.results.has("questions", card.name, kind)]
        if not missing:
            return
        with open_worker(self.home, card, self.settings) as worker:
            for kind in missing:
                self.progress(f"{card.name}: {self.size.questions} questions of {kind}")
                _answers(worker, card.name, kind, self.results)

    def contexts(self, card: ModelCard) -> None:
        window = min(card.context_length, self.settings.models.context)
        names = {n: f"needle in {n} tokens" for n in lengths_up_to(window, longest=self.size.longest)}
        missing = {n: k for n, k in names.items() if not self.results.has("long context", card.name, k)}
        talk = not self.results.has("turns", card.name, STAGES[0])
        if not missing and not talk:
            return
        size = self.size
        with open_worker(self.home, card, self.settings) as worker:
            for length, kind in missing.items():
                self.progress(f"{card.name}: {kind}, at {size.depths} depths")
                self.results.add(
                    measure_needles(worker, card.name, kind, length=length, depths=size.depths, seed=SEED)
                )
            if talk:
                self.progress(f"{card.name}: {size.conversations} conversations of eight turns")
                rows = measure_turns(worker, card.name, conversations=size.conversations, seed=SEED)
                self.results.add(*rows)

    def choices(self, card: ModelCard) -> None:
        missing = [name for name in self.sets if not self.results.has("choices", card.name, name)]
        if not missing or card.backend not in ("llama_cpp", "transformers"):
            return
        if card.backend == "llama_cpp":
            _fits(card, UNPACKED * card.bytes, self.settings)
        with open_worker(self.home, card, self.settings, backend="transformers") as worker:
            for name in missing:
                self.progress(f"{card.name}: {self.size.choices} questions of {name}, by log likelihood")
                choices = choices_from(self.sets[name], name, seed=SEED, count=self.size.choices)
                self.results.add(measure_choices(worker, card.name, name, choices))


@contextmanager
def _holding(home: Path, settings: Settings, progress: Callable[[str], None]) -> Iterator[None]:
    """Be the one process that has models of this ``SAGE_HOME`` in memory, until the end of a part.

    Raises:
        HomeInUse: another process did not let go in time.
    """
    lease = Lease(
        home,
        wait_s=settings.models.home_wait_s,
        ask_for_it=partial(ask_for_home, home),
        on_wait=lambda holder: progress(f"waiting for {holder}, which has models in memory"),
    )
    try:
        with lease.use(should_stop=lambda: False, timeout=settings.models.home_wait_s):
            yield
    finally:
        lease.close()


def _fits(card: ModelCard, need: int, settings: Settings) -> None:
    free = budget_bytes(memory(), settings.models.memory_limit_gb)
    if need > free:
        raise DoesNotFit(
            f"{card.name} needs {need / 1e6:.0f} MB of memory; {max(0, free) / 1e6:.0f} MB are free.",
            mend="Free memory, or lower models.context",
        )


def _answers(worker: Worker, name: str, category: str, results: Results) -> None:
    questions = [question for question in results.questions if question.category == category]
    row, asked, scores = measure_answers(worker, name, category, questions)
    cells = {
        question.id: (score, float(each.completion.completion_tokens), round(each.cpu_s, 4))
        for question, each, score in zip(questions, asked, scores, strict=True)
    }
    results.add_answers(name, row, cells)


def _sets(home: Path, settings: Settings, size: Suite, progress: Callable[[str], None]) -> Mapping[str, Path]:
    """The files of multiple choice; none where they cannot be had or scored, which is said."""
    if not size.choices:
        return {}
    if not (find_spec("torch") and find_spec("transformers")):
        progress("No multiple choice: it needs pip install 'sage-kernel[neural]'")
        return {}
    try:
        if settings.models.offline:
            raise WeightsMissing("models.offline forbids fetching the sets")
        progress("multiple choice: 86 MB are fetched once, where they are not here")
        return fetch_choices(home)
    except SageError as error:
        progress(f"No multiple choice: {error.message}")
        return {}


def _compare(
    home: Path,
    settings: Settings,
    catalog: Mapping[str, ModelCard],
    size: Suite,
    results: Results,
    progress: Callable[[str], None],
) -> None:
    """SAGE and the other policies over the questions that all models answered; what trust learns of them."""
    matrix = results.matrix()
    if matrix is None:
        return
    cards = [catalog[name] for name in matrix.names]
    together = ", ".join(matrix.names)
    if not any(row["what"] == "live" and row["models"] == together for row in results.rows):
        results.rows = [row for row in results.rows if row["what"] != "live"]
        asked = [q for kind in CATEGORIES for q in _of(results.questions, kind)[: size.live]]
        try:
            with _holding(home, settings, progress):
                for told in (False, True):
                    row = live(home, settings, cards, asked, told=told, seed=SEED, progress=progress)
                    results.add({"what": "live", "models": together, **row})
        except SageError as error:  # the replay needs no model
            progress(f"SAGE was not asked anew: {error.message}")
    progress(f"the selector over {len(matrix.questions)} measured questions, {size.orders} orders")
    locator = open_locator(home)
    situations, contexts = located(results.questions, locator)
    results.derived = [
        {
            "what": "trust",
            **convergence(matrix, card, locator.codebook, situations, contexts, seeds=size.orders),
        }
        for card in cards
    ]
    rows = replay(matrix, cards, settings, situations, contexts, locator.codebook, seeds=size.orders)
    results.derived += [{"what": "policy", **row} for row in rows]
    for kind in CATEGORIES:
        right = matrix.scores[matrix.rows_of(kind)]
        counts = {name: int(count) for name, count in zip(matrix.names, right.sum(0), strict=True)}
        results.derived.append({"what": "by kind", "kind": kind, "n": len(right), **counts})


def _of(questions: Sequence[ZooQuestion], kind: str) -> list[ZooQuestion]:
    return [question for question in questions if question.category == kind]
