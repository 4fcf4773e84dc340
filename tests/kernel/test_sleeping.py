"""Sleep puts memory in order, in pieces, and may end between any two of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.config import Settings
from sage.errors import StoreError
from sage.kernel.session import open_stores
from sage.kernel.sleeping import COUNTED, LIGHT, Sleep, backlog
from sage.kernel.stores import Stores
from sage.memory.db import Database
from sage.memory.passages import Said
from sage.types import Message, Outcome, Situation


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stores(home: Path, clock: FakeClock) -> Iterator[Stores]:
    with open_stores(home, Settings.model_construct(), clock) as opened:
        yield opened


def say(
    stores: Stores, count: int, *, text: str = "The number of this message is {}, as it was said."
) -> None:
    stores.passages.add_many(
        Said(namespace="me", session="s", speaker="user", at=1000.0 + number, text=text.format(number))
        for number in range(count)
    )


def counts(stores: Stores, **named: object) -> dict[str, int]:
    report = Sleep(stores, Settings.model_construct(), FakeClock()).run(**named)  # type: ignore[arg-type]
    return {part.name: part.count for part in report.parts if part.count}


def test_what_was_imported_is_indexed_appraised_and_merged_once(stores: Stores) -> None:
    say(stores, 1030)
    say(stores, 3, text="The very same words, said once more.")
    assert backlog(stores.db) == COUNTED == 1000
    assert counts(stores) == {"index": 2, "salience": 1033, "duplicates": 2}
    assert backlog(stores.db) == 0
    assert stores.salient.counts("me") == (1031, 1033)
    assert counts(stores) == {}


def test_it_stops_between_two_pieces_and_the_next_one_goes_on(stores: Stores) -> None:
    say(stores, 200)
    asked = iter([False] * 4 + [True] * 1000)
    report = Sleep(stores, Settings.model_construct(), FakeClock()).run(should_stop=lambda: next(asked))
    assert not report.ended
    assert backlog(stores.db) == 200
    done = stores.salient.counts("me")[1]
    assert 0 < done < 200
    assert counts(stores) == {"salience": 200 - done}


def test_one_part_that_fails_does_not_keep_the_others_from_their_work(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(stores, 20)

    def fail(*_: object, **__: object) -> int:
        raise StoreError("No room left.")

    monkeypatch.setattr(stores.recall, "index", fail)
    report = Sleep(stores, Settings.model_construct(), FakeClock()).run()
    failed = [part for part in report.parts if part.error]
    assert [(part.name, part.error, part.ended) for part in failed] == [("index", "No room left.", False)]
    assert stores.salient.counts("me") == (20, 20)
    assert backlog(stores.db) == 20, "it was no whole sleep"


def test_a_light_sleep_only_serves_the_next_request(stores: Stores) -> None:
    say(stores, 600)
    assert counts(stores, only=LIGHT) == {"index": 1}
    assert backlog(stores.db) == 600


def test_questions_that_are_asked_again_and_again_are_named(stores: Stores) -> None:
    from tests.memory.test_patterns import LONE, at

    from sage.memory.patterns import Refinement

    for number, prompt in enumerate(["Same?", "Other?", "Same?", "Same?"]):
        ident = f"turn-{number}"
        stores.turns.begin(
            ident,
            Situation(
                messages=(Message(role="user", content=prompt),),
                kind="fact",
                prompt_tokens=1,
                max_tokens=8,
                session="s",
            ),
        )
        refinement = Refinement(plugin="language", context=at(1), question=prompt, steps=LONE)
        stores.patterns.learn(ident, "default", refinement)
    report = Sleep(stores, Settings.model_construct(), FakeClock()).run()
    assert report.repeated == (("Same?", 3),)


def test_a_row_of_trust_of_which_nothing_is_left_goes(stores: Stores, clock: FakeClock) -> None:
    for number, model in enumerate(["old", "new"]):
        ident = f"turn-{model}"
        stores.turns.begin(
            ident,
            Situation(
                messages=(Message(role="user", content="What?"),),
                kind="fact",
                prompt_tokens=1,
                max_tokens=8,
                session="s",
            ),
        )
        stores.trust.learn(
            Outcome(
                event_id=ident,
                turn_id=ident,
                candidate=model,
                kind="fact",
                quality=1.0,
                source="user",
                at=clock.time() + number * 5000 * 86_400.0,
            )
        )
    assert counts(stores)["trust"] == 1
    with stores.trust.book() as book:
        assert [row.candidate for row in book.rows()] == ["new"]


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
def test_a_sleep_that_is_killed_loses_nothing(home: Path, after_s: float) -> None:
    with open_stores(home, Settings.model_construct(), FakeClock()) as stores:
        say(stores, 3000)
    code = "from sage.cli.main import main; import sys; print('begun', flush=True); main(['sleep'])"
    env = {**os.environ, "SAGE_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Database(home / "sage.db") as db:
        assert db.integrity() == "ok"
        assert db.execute("SELECT count(*) FROM passages") == [(3000,)]
    with open_stores(home, Settings.model_construct(), FakeClock()) as stores:
        Sleep(stores, Settings.model_construct(), FakeClock()).run()
        assert stores.salient.counts("me")[1] == 3000
        assert backlog(stores.db) == 0
