"""ATP: one budget unit, kept in double entry.

Owns: the conversion of effort into ATP, the accounts, and the rules that move ATP between them.
Must not know: clocks, files, or what the work was.

One ATP is one second of one worker, or one GiB read from storage, or ten joules. The three are the
same effort on a small machine: a worker that keeps a core busy draws about 10 W, and storage of an
edge box delivers about 1 GiB/s. An effort measured in several units is charged once, by the largest.

Amounts are whole micro-ATP, so that every sum is exact: the balances of all accounts add up to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sage.errors import BudgetSpent

__all__ = ["BUDGET", "JOULES_PER_ATP", "MICRO", "SPENT", "WORLD", "Entry", "Ledger", "held", "price"]

SECONDS_PER_ATP = 1.0
BYTES_PER_ATP = float(2**30)
JOULES_PER_ATP = 10.0

MICRO = 1_000_000
"""Micro-ATP in one ATP."""

WORLD = "world"
"""Where ATP comes from. The only account that may be negative."""
BUDGET = "budget"
SPENT = "spent"


def held(turn_id: str) -> str:
    """The account that holds what one turn was granted and has not spent."""
    return f"held:{turn_id}"


def price(*, seconds: float = 0.0, bytes_moved: float = 0.0, joules: float = 0.0) -> float:
    """The ATP one effort costs: the largest of its seconds, bytes and joules, each converted."""
    return max(seconds / SECONDS_PER_ATP, bytes_moved / BYTES_PER_ATP, joules / JOULES_PER_ATP, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """``amount`` micro-ATP leave ``debit`` and arrive at ``credit``."""

    debit: str
    credit: str
    amount: int
    reason: str
    turn_id: str = ""


class Ledger:
    """Balances and the entries made since it was opened.

    Every method is one business event; it either makes all its entries or raises before the first.
    """

    def __init__(self, balances: Mapping[str, int] | None = None) -> None:
        self._balances: dict[str, int] = dict(balances or {})
        self._entries: list[Entry] = []

    @property
    def balances(self) -> Mapping[str, int]:
        """Micro-ATP by account."""
        return self._balances

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What was moved since the ledger was opened, in order."""
        return tuple(self._entries)

    def balance(self, account: str = BUDGET) -> float:
        """ATP in an account."""
        return self._balances.get(account, 0) / MICRO

    def recover(self, atp: float, *, capacity: float) -> float:
        """Let up to ``atp`` flow in from the world; returns what came.

        Never above ``capacity``: what a refund brought beyond it flows back.
        """
        room = round(capacity * MICRO) - self._balances.get(BUDGET, 0)
        amount = min(round(atp * MICRO), room)
        if amount > 0:
            self._move(WORLD, BUDGET, amount, "recover")
        elif room < 0:
            self._move(BUDGET, WORLD, -room, "overflow")
        return max(amount, 0) / MICRO

    def grant(self, turn_id: str, *, want: float, need: float = 0.0) -> float:
        """Set aside up to ``want`` ATP for a turn; returns what was granted.

        Raises:
            BudgetSpent: the balance does not cover ``need``, or is empty.
        """
        balance = self._balances.get(BUDGET, 0)
        amount = min(round(want * MICRO), balance)
        if amount <= 0 or amount < round(need * MICRO):
            raise BudgetSpent(
                f"The budget holds {balance / MICRO:.1f} ATP; this request needs {max(need, 0.1):.1f}.",
                mend="Wait until ATP have recovered, or raise atp.capacity or atp.recovery_per_s",
            )
        self._move(BUDGET, held(turn_id), amount, "grant", turn_id)
        return amount / MICRO

    def settle(self, turn_id: str, *, spent: float) -> float:
        """Charge a turn and return the rest of its grant; returns what was charged.

        An overrun is taken from the budget as far as it reaches and is then forgiven: no account but
        the world's is ever negative. A turn without a grant (settled already) is charged nothing.
        """
        account = held(turn_id)
        available = self._balances.get(account, 0)
        if available == 0:
            return 0.0
        due = max(round(spent * MICRO), 0)
        charged = min(due, available)
        if charged:
            self._move(account, SPENT, charged, "spend", turn_id)
        if available > charged:
            self._move(account, BUDGET, available - charged, "refund", turn_id)
        overrun = min(due - charged, self._balances.get(BUDGET, 0))
        if overrun > 0:
            self._move(BUDGET, SPENT, overrun, "overrun", turn_id)
        return (charged + max(overrun, 0)) / MICRO

    def _move(self, debit: str, credit: str, amount: int, reason: str, turn_id: str = "") -> None:
        self._balances[debit] = self._balances.get(debit, 0) - amount
        self._balances[credit] = self._balances.get(credit, 0) + amount
        self._entries.append(Entry(debit=debit, credit=credit, amount=amount, reason=reason, turn_id=turn_id))
