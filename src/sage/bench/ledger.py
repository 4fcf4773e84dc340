"""`sage bench ledger`: random ATP events by a process that crashes between any two of its writes.

Owns: the events, the crashes, and what is checked after each. Must not know: what ATP are spent on.

Everything goes through the books and turns that serve users. A crash raises at a write, before or after it,
and leaves the objects of the process behind; the next one opens its own. The disk is not waited for: that a
killed process or a power cut loses nothing is the database's part, tested apart.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sage.clock import FakeClock
from sage.config import AtpSettings
from sage.errors import BudgetSpent
from sage.memory.books import Books, Ending
from sage.memory.db import Database, Value
from sage.memory.verbatim import VerbatimStore
from sage.types import Message, Situation, new_id

__all__ = ["measure_ledger"]

ATP = AtpSettings(capacity=100.0, recovery_per_s=1.0)

CRASHES = 0.02
"""Share of events during which the process crashes."""

MOST_WRITES = 14
"""A crash comes at one of so many writes, which may be of a later event."""

MOST_RUNNING = 8
CHECKED_EVERY = 1000
FOLDED_EVERY = 20_000
DAY = 86_400.0

SITUATION = Situation(
    messages=(Message(role="user", content="?"),), kind="fact", prompt_tokens=1, max_tokens=1, session="s"
)


class _Crash(BaseException):
    """The end of the process, from the outside."""


class _Fragile(Database):
    """A database whose process ends at a write of its choice."""

    left = 0
    """Writes until the crash; 0: none is due."""
    after = False

    def execute(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        due = False
        if self.left and sql.startswith(("INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT")):
            self.left -= 1
            due = self.left == 0
        if due and not self.after:
            raise _Crash
        rows = super().execute(sql, params)
        if due:
            raise _Crash
        return rows


class _Process:
    """One life of a process: opens the books, and does random things with them."""

    def __init__(self, db: _Fragile, clock: FakeClock, rng: random.Random) -> None:
        self.db, self.clock, self.rng = db, clock, rng
        self.turns = VerbatimStore(db, clock)
        self.books = Books(db, self.turns, clock, ATP)
        self.running: list[str] = []
        self.acknowledged = 0.0
        """ATP that were charged as far as this process was told."""

    def start(self) -> None:
        """What a kernel does first: ends what died, and gives back what it held."""
        self.turns.abandon_dead(active=())
        self.books.release_ended()

    def step(self) -> None:
        """One random event."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.3 and len(self.running) < MOST_RUNNING:
            self._grant()
        elif draw < 0.6 and self.running:
            self._close(self.running.pop(rng.randrange(len(self.running))))
        elif draw < 0.7:
            turn = rng.choice([*self.running, "turn-nobody"])
            self.acknowledged += self.books.settle(turn, spent=rng.expovariate(0.3))
        elif draw < 0.75:
            self.books.recover_at(rng.choice((0.0625, 0.25, 0.5, 1.0, 1.5)))
        elif draw < 0.78:
            self.books.release_ended()
        elif draw < 0.781:
            self.clock.advance(rng.choice((-DAY, DAY)))
        else:
            self.clock.advance(rng.expovariate(0.5))
            self.books.balance()

    def _grant(self) -> None:
        turn = new_id("turn")
        self.turns.begin(turn, SITUATION)
        self.running.append(turn)
        try:
            self.books.grant(turn, want=self.rng.expovariate(0.1), need=self.rng.random())
        except BudgetSpent:
            self._close(self.running.pop())

    def _close(self, turn: str) -> None:
        ending = Ending(status="done", answer="", model="", usage={})
        atp = self.books.close(turn, granted=0.0, spent=self.rng.expovariate(0.2), ending=ending)
        self.acknowledged += atp["spent"] if atp else 0.0


def measure_ledger(
    *, events: int, seed: int = 7, progress: Callable[[str], None] = lambda _text: None
) -> dict[str, Any]:
    """One row: events, crashes, and what was ever off: the sum of all accounts and each against its entries
    (micro-ATP), accounts below 0, and charged ATP that a crash lost."""
    rng, clock = random.Random(seed), FakeClock(1e9)  # noqa: S311  no secret
    found = {"off": 0, "negative": 0, "lost": 0.0}
    crashes, acknowledged = 0, 0.0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, _Fragile(Path(folder) / "sage.db") as db:
        db.execute("PRAGMA synchronous = OFF")
        process = _Process(db, clock, rng)
        for number in range(1, events + 1):
            if rng.random() < CRASHES:
                db.left, db.after = rng.randint(1, MOST_WRITES), rng.random() < 0.5
            crashed = False
            try:
                process.step()
            except _Crash:
                crashed, crashes = True, crashes + 1
                acknowledged += process.acknowledged
                db.left = 0
                process = _Process(db, clock, rng)
                process.start()
            if crashed or number % CHECKED_EVERY == 0:
                _check(db, acknowledged + process.acknowledged, found)
            if number % FOLDED_EVERY == 0:
                db.left = 0
                found["off"] += sum(map(abs, process.books.audit().values()))
                sum(process.books.fold(clock.time()))
                db.execute("DELETE FROM turns WHERE status <> 'running'")
                progress(f"{number} events, {crashes} crashes")
        db.left = 0
        found["off"] += sum(map(abs, process.books.audit().values()))
    seconds = time.perf_counter() - began
    return {"events": events, "crashes": crashes, **found, "us per event": round(seconds / events * 1e6)}


def _check(db: Database, acknowledged: float, found: dict[str, Any]) -> None:
    total, negative = db.execute("SELECT sum(balance), sum(balance < 0 AND name <> 'world') FROM accounts")[0]
    found["off"] += abs(total or 0)
    found["negative"] += negative or 0
    spent = dict(db.execute("SELECT name, balance FROM accounts WHERE name = 'spent'")).get("spent", 0) / 1e6
    found["lost"] = max(found["lost"], round(acknowledged - spent, 3))
