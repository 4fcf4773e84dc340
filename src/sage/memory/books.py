"""What the economy has measured and spent, kept in the database.

Owns: loading and storing measured rates and the ATP ledger, each change in one transaction.
Must not know: how any of them is computed; that is the economy's, and pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sage.clock import Clock
from sage.config import AtpSettings
from sage.economy.ledger import BUDGET, WORLD, Ledger, held
from sage.memory.db import Database
from sage.memory.verbatim import TurnStatus, VerbatimStore

__all__ = ["Books", "Ending"]

NET = (
    "SELECT name, sum(amount) FROM (SELECT credit AS name, amount FROM entries {where}"
    " UNION ALL SELECT debit, -amount FROM entries {where}) GROUP BY name"
)
"""What entries add up to, by account."""

T = TypeVar("T")

RATE_WEIGHT = 0.3
"""How much the newest measurement counts: rates follow a machine that warms up or gets busy."""

RECOVERED_AT = "atp.recovered_at"
RECOVERY_FACTOR = "atp.recovery_factor"

FACTOR_STEP = 0.05
"""Changes of the recovery factor that are smaller are not worth a write."""

FOLDED_AT_ONCE = 10_000
"""Entries folded in one transaction: tens of milliseconds, in which other processes wait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a turn ended, as it is stored."""

    status: TurnStatus
    answer: str
    model: str
    usage: Mapping[str, Any]
    irp: Mapping[str, Any] | None = None
    error: str = ""


class Books:
    """Rates and ATP of one ``SAGE_HOME``, shared by every process that uses it."""

    def __init__(self, db: Database, store: VerbatimStore, clock: Clock, atp: AtpSettings) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._atp = atp

    def rates(self) -> dict[str, dict[str, float]]:
        """Measured values by model and name, e.g. ``generate_tok_s``."""
        result: dict[str, dict[str, float]] = {}
        for model, name, value in self._db.execute("SELECT model, name, value FROM rates"):
            result.setdefault(model, {})[name] = value
        return result

    def measure(self, model: str, values: Iterable[tuple[str, float | None]]) -> None:
        """Fold new measurements into the running rates; None means that nothing was measured."""
        with self._db.transaction():
            for name, value in values:
                if value is None:
                    continue
                self._db.execute(
                    "INSERT INTO rates (model, name, value, samples, updated_at) VALUES (?1, ?2, ?3, 1, ?4)"
                    " ON CONFLICT (model, name) DO UPDATE SET value = value + ?5 * (?3 - value),"
                    " samples = samples + 1, updated_at = ?4",
                    (model, name, value, self._clock.time(), RATE_WEIGHT),
                )

    def balance(self) -> float:
        """ATP that can be granted now. Reads only, unless the clock went back: what recovers is written
        with the next grant."""
        ledger, recovered = self._read()
        ledger.recover(recovered, capacity=self._atp.capacity)
        # Or nothing would recover until the clock has caught up.
        if recovered < 0.0 and not self._db.read_only:
            self._change(lambda _ledger: None)
        return ledger.balance()

    def recovery_per_s(self) -> float:
        """ATP that come back each second now."""
        return self._atp.recovery_per_s * self._factor()

    def recover_at(self, factor: float) -> None:
        """From now on let ``factor`` times ``atp.recovery_per_s`` come back, also while no process runs. What
        time has brought so far came at the old rate."""
        if abs(factor - self._factor()) < FACTOR_STEP:
            return
        with self._db.transaction():
            self._change(lambda _ledger: None)
            self._note(RECOVERY_FACTOR, repr(factor))

    def grant(self, turn_id: str, *, want: float, need: float) -> float:
        """See :meth:`Ledger.grant`."""
        return self._change(lambda ledger: ledger.grant(turn_id, want=want, need=need))

    def settle(self, turn_id: str, *, spent: float) -> float:
        """See :meth:`Ledger.settle`. Settling a turn again charges nothing."""
        return self._change(lambda ledger: ledger.settle(turn_id, spent=spent))

    def close(self, turn_id: str, *, granted: float, spent: float, ending: Ending) -> dict[str, float] | None:
        """Settle a turn and store how it ended, together or not at all; returns its ATP.

        None, and no change, where the turn has ended already: the first ending stands.
        """

        def end(ledger: Ledger) -> dict[str, float]:
            charged = ledger.settle(turn_id, spent=spent)
            return {"granted": granted, "spent": charged, "balance": ledger.balance()}

        with self._db.transaction():
            if not self._store.is_running(turn_id):
                return None
            atp = self._change(end)
            self._store.finish(turn_id, **dataclasses.asdict(ending), atp=atp)
            return atp

    def release_ended(self) -> None:
        """Give back what is held for turns that run no more: their process ended before it could settle."""
        rows = self._db.execute(
            "SELECT substr(name, length(?1) + 1) FROM accounts WHERE name LIKE ?1 || '%'"
            " AND substr(name, length(?1) + 1) NOT IN (SELECT id FROM turns WHERE status = 'running')",
            (held(""),),
        )
        for (turn_id,) in rows:
            self.settle(turn_id, spent=0.0)

    def audit(self) -> dict[str, int]:
        """Micro-ATP by which each account differs from what its entries add up to, and ``sum`` for what all
        accounts together differ from 0. Empty: the books are exact. Reads every entry."""
        with self._db.transaction(write=False):
            accounts = dict(self._db.execute("SELECT name, balance FROM accounts"))
            moved = dict(self._db.execute(NET.format(where="")))
        off = {name: accounts.get(name, 0) - moved.get(name, 0) for name in accounts | moved}
        off["sum"] = sum(accounts.values())
        return {name: amount for name, amount in off.items() if amount}

    def fold(self, before: float) -> Iterator[int]:
        """Put opening balances in the place of entries made before a time; yields how many entries went.

        No balance changes, and the audit stays exact. Folded a piece at a time, each in a transaction of its
        own, so that it can be stopped anywhere.
        """
        while went := self._fold_some(before):
            yield went

    def _fold_some(self, before: float) -> int:
        """One piece; 0 where it would only write what is there."""
        with self._db.transaction():
            old = "SELECT id, at FROM entries WHERE at < ?1 ORDER BY id LIMIT ?2"
            last, at, count = self._db.execute(
                f"SELECT max(id), max(at), count(*) FROM ({old})",  # noqa: S608  text of ours
                (before, FOLDED_AT_ONCE),
            )[0]
            if not count:
                return 0
            where = "WHERE at < ?1 AND id <= ?2"
            net = [row for row in self._db.execute(NET.format(where=where), (before, last)) if row[1]]
            opening = [(name, amount) for name, amount in net if name != WORLD]
            if count <= len(opening):
                return 0
            self._db.execute(f"DELETE FROM entries {where}", (before, last))  # noqa: S608
            for name, amount in opening:
                debit, credit = (WORLD, name) if amount > 0 else (name, WORLD)
                self._db.execute(
                    "INSERT INTO entries (at, turn_id, debit, credit, amount, reason)"
                    " VALUES (?, '', ?, ?, ?, 'opening')",
                    (at, debit, credit, abs(amount)),
                )
            return int(count) - len(opening)

    def _change(self, event: Callable[[Ledger], T]) -> T:
        """One business event: recover what time brought, apply it, write entries and balances."""
        with self._db.transaction():
            ledger, recovered = self._read()
            ledger.recover(recovered, capacity=self._atp.capacity)
            result = event(ledger)
            now = self._clock.time()
            self._note(RECOVERED_AT, repr(now))
            for entry in ledger.entries:
                self._db.execute(
                    "INSERT INTO entries (at, turn_id, debit, credit, amount, reason)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (now, entry.turn_id, entry.debit, entry.credit, entry.amount, entry.reason),
                )
            for name in {name for entry in ledger.entries for name in (entry.debit, entry.credit)}:
                balance = ledger.balances[name]
                if balance == 0 and name != BUDGET:  # a settled turn needs no account any more
                    self._db.execute("DELETE FROM accounts WHERE name = ?", (name,))
                else:
                    self._db.execute(
                        "INSERT INTO accounts (name, balance) VALUES (?, ?)"
                        " ON CONFLICT (name) DO UPDATE SET balance = excluded.balance",
                        (name, balance),
                    )
            return result

    def _read(self) -> tuple[Ledger, float]:
        """The ledger as it was last changed, and the ATP that came since; all of the capacity on the first
        day. One statement, so that it is of one state.

        Counted by the wall clock, because processes come and go. Negative where it went back, which brings
        nothing; when it goes forward again, the same hours count twice: rather that than an empty budget.
        """
        rows = self._db.execute(
            "SELECT 1, name, balance FROM accounts"
            " UNION ALL SELECT 0, name, value FROM facts WHERE name IN (?, ?)",
            (RECOVERED_AT, RECOVERY_FACTOR),
        )
        ledger = Ledger({name: balance for account, name, balance in rows if account})
        noted = {name: float(value) for account, name, value in rows if not account}
        if RECOVERED_AT not in noted or BUDGET not in ledger.balances:
            return ledger, self._atp.capacity
        rate = self._atp.recovery_per_s * noted.get(RECOVERY_FACTOR, 1.0)
        return ledger, (self._clock.time() - noted[RECOVERED_AT]) * rate

    def _factor(self) -> float:
        rows = self._db.execute("SELECT value FROM facts WHERE name = ?", (RECOVERY_FACTOR,))
        return float(rows[0][0]) if rows else 1.0

    def _note(self, name: str, value: str) -> None:
        self._db.execute(
            "INSERT INTO facts (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )
