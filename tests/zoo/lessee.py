"""A process that uses a home as it is told on standard input; started by the tests of the lease.

``use S``: use it for S seconds ("in", then "out"). ``many S``: use it again and again, without a pause, for S
seconds ("count N"). ``close``: give it back ("closed"). What fails is said by its name.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from sage.errors import SageError
from sage.zoo.control import Control, ask_holder
from sage.zoo.lease import Lease


def main(home: Path, wait_s: float, hold_s: float, unload_s: float) -> None:
    def say(*words: object) -> None:
        print(*words, flush=True)

    def unload() -> bool:
        time.sleep(unload_s)
        return True

    def let_go(_request: object, _gone: object) -> dict[str, bool]:
        return {"yielded": lease.let_go(unload)}

    def ask(should_stop: object) -> bool:
        answer = ask_holder(home, {"op": "yield"}, timeout=3.0)
        return bool(answer and answer["yielded"])

    lease = Lease(
        home,
        wait_s=wait_s,
        ask_for_it=ask,
        on_wait=lambda holder: say("waiting", holder.pid),
        on_taken=lambda: Control(home, {"yield": let_go}).close,
        hold_s=hold_s,
    )

    def use(seconds: float) -> None:
        with lease.use(should_stop=lambda: False, timeout=60.0):
            say("in")
            time.sleep(seconds)
        say("out")

    def many(seconds: float) -> None:
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            with lease.use(should_stop=lambda: False, timeout=60.0):
                time.sleep(0.01)
                count += 1
        say("count", count)

    say("ready")
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        try:
            if word == "close":
                lease.close()
                say("closed")
            else:
                {"use": use, "many": many}[word](float(number))
        except SageError as error:
            say(error.name, error.message)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(float(word) for word in sys.argv[2:]))
