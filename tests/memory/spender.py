"""A process that spends until it is killed: ``python spender.py DB SEED``.

Each charge is printed, in micro-ATP, after it was stored: what was printed must be found in the books.
"""

import random
import sys
from pathlib import Path

from sage.clock import SystemClock
from sage.config import AtpSettings
from sage.memory.books import Books
from sage.memory.db import Database
from sage.memory.verbatim import VerbatimStore


def main() -> None:
    rng = random.Random(sys.argv[2])  # noqa: S311
    clock = SystemClock()
    with Database(Path(sys.argv[1])) as db:
        books = Books(db, VerbatimStore(db, clock), clock, AtpSettings(recovery_per_s=1000.0))
        books.release_ended()
        while True:
            turn = f"turn-{rng.getrandbits(40)}"
            books.grant(turn, want=rng.uniform(0.1, 3.0), need=0.0)
            print(round(books.settle(turn, spent=rng.uniform(0.0, 4.0)) * 1e6), flush=True)


if __name__ == "__main__":
    main()
