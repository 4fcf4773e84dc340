"""A process that writes: ``python writer.py DB PREFIX COUNT``. COUNT 0 writes until it is killed.

Each id is printed after its row is committed, so what was printed must be found in the database.
"""

import itertools
import sys
from pathlib import Path

from sage.memory.db import Database


def main() -> None:
    path, prefix, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with Database(path) as db:
        for number in range(count) if count else itertools.count():
            name = f"{prefix}-{number}"
            with db.transaction():
                db.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (name, "x" * 500))
                db.execute("INSERT INTO accounts (name, balance) VALUES (?, ?)", (name, number))
            print(name, flush=True)


main()
