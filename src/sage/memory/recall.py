"""What is brought back from memory for a piece of work.

Owns: choosing past turns, and passages from anywhere, within a budget of tokens; when nothing fits.
Must not know: how they are stored, indexed or weighed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sage.errors import SageError
from sage.memory import lexical
from sage.memory.correction import newer_first
from sage.memory.db import Database
from sage.memory.index import Index, Ints
from sage.memory.meaning import Meaning, TokenEmbedder
from sage.memory.passages import DEFAULT_NAMESPACE, Passage, PassageStore
from sage.memory.quoting import quoted
from sage.memory.ranking import Floats, lexical_scores, score
from sage.memory.verbatim import VerbatimStore
from sage.types import Message

__all__ = ["Hit", "Ranking", "Recall", "Recalled", "newest_that_fit", "recall_session"]

MOST_TURNS = 50
"""Turns looked at; more than any context of a small model holds."""

BUDGET_TOKENS, MOST_HITS = 2000, 20

CANDIDATES = 768
"""Passages that are weighed by more than their words: those with most of the question's words at or around
them, then the newest. More find little more and cost time."""

NEIGHBOURS = 5
"""Of this many best hits the message before is shown too: the answer says "yes", the question says to
what."""

RECENT = 5000
"""Passages in which the speakers are looked for."""

BEST = 3
ENOUGH_WORDS, ENOUGH_MEANING = 0.15, 0.55
"""One of the ``BEST`` hits must have this share of the question's words at or around it, or fit it this well
in meaning. Chosen on generated conversations (``sage bench updates``)."""

AMONG, ENOUGH = 10, 2.4
"""Where a question has so many hits, what answers it stands out: twice the fit (in parts of what is enough by
itself) and how far the best is above the tenth make this much. Chosen on the same conversations. Where
nothing is asked, hits stand out by chance."""

LEAST = 0.3
"""What scores less than this share of the best hit is not shown."""

LONGEST_QUESTION = 2000
"""Characters of a question that the sentence model is given."""


def recall_session(
    store: VerbatimStore,
    session: str,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    budget: int,
    count_tokens: Callable[[str], int],
) -> tuple[Message, ...]:
    """The newest whole turns of this session that fit into ``budget`` tokens, oldest first."""
    turns = store.history(session, turns=MOST_TURNS, namespace=namespace)
    return newest_that_fit(turns, budget, count_tokens)


def newest_that_fit(
    messages: Sequence[Message], budget: int, count_tokens: Callable[[str], int]
) -> tuple[Message, ...]:
    """The end of a conversation of questions and answers, in whole turns, within ``budget`` tokens."""
    kept: list[Message] = []
    for question, answer in reversed(list(zip(messages[::2], messages[1::2], strict=True))):
        budget -= count_tokens(question.content) + count_tokens(answer.content)
        if budget < 0:
            break
        kept[:0] = [question, answer]
    return tuple(kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A message that was brought back. ``rank`` counts from 1; 0 is a neighbour that a hit answers."""

    passage: Passage
    rank: int
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalled:
    """What fits a question, in the order in which it was said. ``abstained``: memory has things, but nothing
    that fits well enough to be shown. ``words`` are those of the question, for excerpts."""

    hits: tuple[Hit, ...]
    abstained: bool
    words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The hits as a model should read them; empty for none."""
        return quoted([hit.passage for hit in self.hits], words=self.words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """The best passages for a question, best first, and how well the first of them fits: the share of the
    question's words found at or around it, and the mean fit of its pieces (None without the sentence
    model)."""

    ids: tuple[int, ...]
    scores: tuple[float, ...]
    words: float
    meaning: float | None


class Recall:
    """Recall over the passages of one database. Several threads may use it."""

    def __init__(
        self,
        db: Database,
        embedder: TokenEmbedder | None = None,
        *,
        kept: Callable[[Sequence[int]], frozenset[int]] = frozenset,
    ) -> None:
        """Without ``embedder`` words alone decide.

        ``kept`` names those of some passages that may be hits; the others stay as what was said around them.
        """
        self._kept = kept
        self._store = PassageStore(db)
        self._db = db
        self._meaning = None if embedder is None else Meaning(db, embedder)
        self._indexes: dict[str, Index] = {}
        self._lock = threading.Lock()

    def recall(
        self,
        question: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        exclude: Iterable[int] = (),
        asker: str | None = None,
        budget: int = BUDGET_TOKENS,
        count_tokens: Callable[[str], int],
        most: int = MOST_HITS,
    ) -> Recalled:
        """What was said that fits ``question``, within ``budget`` tokens as a model will read it.

        ``exclude`` are ids that the model sees anyway. ``asker`` is the speaker whom "I" and "my" mean.

        Raises:
            StoreError: the database fails.
        """
        seen = frozenset(exclude)
        ranking = self.rank(question, namespace=namespace, exclude=seen, asker=asker, most=most)
        about = tuple(word for word in lexical.question(question).words if word not in lexical.STOP)
        if not ranking.ids or not _fits(ranking, asks="?" in question):
            return Recalled(hits=(), abstained=bool(ranking.ids))
        passages = self._store.get(ranking.ids)
        scores = dict(zip(ranking.ids, ranking.scores, strict=True))
        least = LEAST * ranking.scores[0]
        kept: dict[int, Hit] = {}
        left = budget
        for rank, passage in enumerate(passages, start=1):
            price = count_tokens(quoted([passage], words=about))
            if price <= left and scores[passage.id] >= least:
                left -= price
                kept[passage.id] = Hit(passage=passage, rank=rank, score=scores[passage.id])
        for passage in self._answered([hit.passage for hit in kept.values()][:NEIGHBOURS], namespace, seen):
            price = count_tokens(quoted([passage], words=about))
            if passage.id not in kept and price <= left:
                left -= price
                kept[passage.id] = Hit(passage=passage, rank=0, score=0.0)
        starts: dict[str, int] = {}
        for ident in sorted(kept):
            starts.setdefault(kept[ident].passage.session, ident)
        hits = sorted(kept.values(), key=lambda hit: (starts[hit.passage.session], hit.passage.id))
        return Recalled(hits=tuple(hits), abstained=False, words=about)

    def rank(
        self,
        question: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        exclude: Iterable[int] = (),
        asker: str | None = None,
        most: int = MOST_HITS,
    ) -> Ranking:
        """The ``most`` best passages, whether they fit well or not; see :meth:`recall`."""
        with self._lock:
            index = self._index(namespace)
            index.refresh()
            if not len(index.records):
                return Ranking(ids=(), scores=(), words=0.0, meaning=None)
            speakers = frozenset(np.unique(index.records["speaker"][-RECENT:]).tolist())
            asked = lexical.question(question, speakers)
            named = {lexical.name_key(word) for word in asked.words}
            if asker is not None and asked.own:
                named.add(lexical.name_key(asker))
            total, whole, most_words = lexical_scores(index, asked)
            without = np.isin(index.records["id"], list(exclude))
            total[without] = -1.0
            rows = _best(total, CANDIDATES)
            rows = rows[~without[rows]]
            ids = index.records["id"][rows]
            may = np.isin(ids, list(self._kept(ids.tolist())))
            rows, ids = rows[may], ids[may]
            if not len(rows):
                return Ranking(ids=(), scores=(), words=0.0, meaning=None)
            share = total[rows] / np.float32(max(whole, 1e-9))
            meaning = self._fit(question, asked, speakers, ids.tolist())
            scores = score(index, asked, rows, share, meaning, who=speakers & named)
            if not asked.past:
                alike = None if self._meaning is None else self._meaning.alike
                scores = newer_first(index, rows, scores, alike)
            order = np.argsort(-scores, kind="stable")[:most]
            fit = None if meaning is None else float(np.nan_to_num(meaning[order[:BEST]]).mean(1).max())
            return Ranking(
                ids=tuple(ids[order].tolist()),
                scores=tuple(scores[order].tolist()),
                words=float(total[rows][order[:BEST]].max()) / max(most_words, 1e-9),
                meaning=fit,
            )

    def index(self, namespace: str = DEFAULT_NAMESPACE, *, most: int | None = None) -> int:
        """Make what was said ready to be searched fast; returns the number of blocks made (``most`` of them).
        Recall works without, but reads what is in no block word by word. For the end of an import, and for
        idle time."""
        with self._lock:
            return self._index(namespace).seal(most=most)

    def catch_up(self, *, limit: int, namespace: str | None = None) -> int:
        """See :meth:`Meaning.catch_up`; 0 without a sentence model."""
        return 0 if self._meaning is None else self._meaning.catch_up(limit=limit, namespace=namespace)

    def _index(self, namespace: str) -> Index:
        return self._indexes.setdefault(namespace, Index(self._db, namespace))

    def _fit(
        self, question: str, asked: lexical.Asked, speakers: frozenset[int], ids: list[int]
    ) -> Floats | None:
        if self._meaning is None:
            return None
        names = {word for word in asked.words if lexical.name_key(word) in speakers}
        try:
            found = self._meaning.fit(question[:LONGEST_QUESTION], lexical.STOP | names, ids)
        except SageError:  # the sentence model does not work here: words alone, as without it
            self._meaning = None
            return None
        return None if np.isnan(found).all() else found

    def _answered(self, passages: list[Passage], namespace: str, exclude: frozenset[int]) -> list[Passage]:
        """The messages just before these in their sessions, without those excluded."""
        with self._lock:
            index = self._index(namespace)
            rows = np.searchsorted(index.records["id"], [passage.id for passage in passages])
            before = index.before[rows[rows < len(index.records)]]
            ids = index.records["id"][before[before >= 0]].tolist()
        return self._store.get([ident for ident in ids if ident not in exclude])


def _best(values: Floats, count: int) -> Ints:
    """Rows of the highest values, growing; where few are above 0, the newest of the others."""
    if len(values) <= count:
        return np.arange(len(values))
    above = np.flatnonzero(values > 0)
    if len(above) > count:
        return np.sort(above[np.argpartition(values[above], -count)[-count:]])
    others = np.flatnonzero(values <= 0)[len(above) - count :]
    return np.sort(np.concatenate([above, others if len(above) < count else others[:0]]))


def _fits(ranking: Ranking, *, asks: bool) -> bool:
    if ranking.meaning is None:
        return ranking.words >= ENOUGH_WORDS
    fit = max(ranking.words / ENOUGH_WORDS, ranking.meaning / ENOUGH_MEANING)
    if not asks or len(ranking.scores) < AMONG:
        return fit >= 1.0
    return 2.0 * fit + ranking.scores[0] - ranking.scores[AMONG - 1] >= ENOUGH
