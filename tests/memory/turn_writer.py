"""A process that answers turns: ``python turn_writer.py HOME PREFIX COUNT``. COUNT 0 goes on until killed.

Everything goes through the stores that serve users: the turn, its decision, ATP, outcome, end and passages.
Each id is printed when the turn has ended durably, so what was printed must be found in the database.
"""

import itertools
import sys
from pathlib import Path

from sage.clock import SystemClock
from sage.config import AtpSettings
from sage.memory.books import Books, Ending
from sage.memory.db import Database
from sage.memory.verbatim import VerbatimStore
from sage.types import Decision, Message, Outcome, Situation

DECISION = Decision(chosen="m", mode="pinned", reason="r", kind="fact", candidates=(), excluded={})


def main() -> None:
    home, prefix, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    clock = SystemClock()
    with Database(home / "sage.db") as db:
        store = VerbatimStore(db, clock)
        books = Books(db, store, clock, AtpSettings(capacity=1e6, recovery_per_s=1e6))
        for number in range(count) if count else itertools.count():
            turn = f"turn-{prefix}-{number}"
            messages = (Message(role="user", content=f"question {turn} " + "word " * 100),)
            situation = Situation(
                messages=messages, kind="fact", prompt_tokens=1, max_tokens=1, session=prefix
            )
            store.begin(turn, situation)
            store.record_decision(turn, DECISION)
            granted = books.grant(turn, want=2.0, need=1.0)
            ending = Ending(status="done", answer=f"answer {turn}", model="m", usage={"wall_s": 1.0})
            books.close(turn, granted=granted, spent=1.5, ending=ending)
            store.record_outcome(
                Outcome(
                    event_id=turn,
                    turn_id=turn,
                    candidate="m",
                    kind="fact",
                    quality=1.0,
                    source="user",
                    at=clock.time(),
                )
            )
            print(turn, flush=True)


main()
