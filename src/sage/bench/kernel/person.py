"""A person at work, simulated: weeks of requests, with the times at which they come.

Owns: what is asked when, and what a right answer holds. Must not know: models, memory, the kernel.

Two sessions a workday, each about one project, seconds to a minute apart: facts are told, corrected and
asked for days later, also such as nobody told; questions lean on the one before; work of several topics is
asked, some of it again another day, some urgent; chat. On every other day a batch of tickets comes, one a
second, and in the midst of it something urgent. What is asked how often was written down before anything was
measured with it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from sage.bench.kernel.topics import BATCH, CHAT, FACTS, PROJECTS, THINGS, WORK, FactKind, Topic

__all__ = ["TYPES", "Ask", "Type", "live"]

Type = Literal[
    "tell",
    "fact",
    "absent",
    "follow-up",
    "edit",
    "work",
    "again",
    "urgent",
    "opinion",
    "vain",
    "batch",
    "chat",
]

TYPES: dict[Type, str] = {
    "tell": "a fact is told or corrected",
    "fact": "a fact that was told in an earlier session is asked for",
    "absent": "a fact that nobody told is asked for; right is not to know it",
    "follow-up": "the next fact of the project that was just spoken of, without its name",
    "edit": "the last answer is to be made shorter",
    "work": "work of a topic that some models are better at",
    "urgent": "the same, said to be urgent",
    "again": "work that was asked on an earlier day",
    "opinion": "a short question that models are right about independently",
    "vain": "a short question that all models answer alike, unsure",
    "batch": "a ticket to classify, of a batch that comes at one a second",
    "chat": "nothing to be right about",
}
"""The types of requests, in words."""

SHARES: dict[Type, int] = {
    "tell": 20,
    "fact": 20,
    "absent": 4,
    "work": 14,
    "urgent": 5,
    "again": 7,
    "opinion": 6,
    "vain": 6,
    "chat": 8,
}
"""How often each type is asked, beside the batches and what leans on the request before; what is not possible
yet becomes work."""

LEANS = 0.4
"""Chance that a fact is followed by another of its project, and a long answer by a wish for a shorter one."""

DAY_S, HOUR_S = 86_400.0, 3600.0
MORNINGS = (9.0, 14.0)
SESSION, TICKETS = (5, 10), 24
PAUSE_S, TICKET_S = 25.0, 1.0
WORDY = {topic.name for topic in WORK if topic.name not in ("dates", "rumours")}
CHANGED = 0.3
"""Share of the tellings that correct what was told."""

QUEUES = ("billing", "technical", "delivery", "praise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One request. ``at`` is in seconds from the start.

    ``about`` is what a line must name to speak of it, ``value`` what the right answer holds (empty: any will
    do), ``values`` what such a line may hold instead. ``item`` is the same for the same work. ``known``: the
    answer can only be known from what was said.
    """

    at: float
    session: str
    text: str
    type: Type
    about: str = ""
    value: str = ""
    values: tuple[str, ...] = ()
    topic: str = ""
    item: int = 0
    known: bool = False
    long: bool = False
    tested: bool = False


def live(seed: int, *, days: int) -> list[Ask]:
    """The requests of so many workdays, in the order they come."""
    return _Life(random.Random(seed)).live(days)  # noqa: S311  a simulation


class _Life:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._facts: dict[tuple[str, str], str] = {}
        self._told_in: dict[tuple[str, str], str] = {}
        self._work: list[tuple[int, Ask]] = []
        self._items = 0
        self._last: Ask | None = None

    def live(self, days: int) -> list[Ask]:
        asks: list[Ask] = []
        for day in range(days):
            began = (day + day // 5 * 2) * DAY_S
            for part, hour in enumerate(MORNINGS):
                at = began + (hour + self._draw.random()) * HOUR_S
                asks += self._session(day, f"day {day} {'ab'[part]}", at)
            if day % 2:
                asks += self._tickets(day, began + 17.0 * HOUR_S)
        return asks

    def _session(self, day: int, session: str, at: float) -> list[Ask]:
        project = self._draw.choice(PROJECTS)
        self._last = None
        asks = []
        for _ in range(self._draw.randint(*SESSION)):
            ask = self._leaning() if self._draw.random() < LEANS else None
            if ask is None:
                wanted: Type = self._draw.choices(list(SHARES), list(SHARES.values()))[0]
                ask = self._ask(wanted, project, session, day) or self._new_work("work", day)
            self._last = replace(ask, at=at, session=session)
            asks.append(self._last)
            at += 2.0 + self._draw.expovariate(1.0 / PAUSE_S)
        return asks

    def _ask(self, wanted: Type, project: str, session: str, day: int) -> Ask | None:
        """A request of this type, or None where there is nothing to ask so."""
        match wanted:
            case "tell":
                return self._tell(project, session)
            case "fact":
                earlier = [key for key, told in self._told_in.items() if told != session]
                return self._fact(*self._draw.choice(earlier)) if earlier else None
            case "absent":
                absent = [(p, k.name) for p in PROJECTS for k in FACTS if (p, k.name) not in self._facts]
                return self._fact(*self._draw.choice(absent)) if absent else None
            case "again":
                earlier_work = [ask for asked, ask in self._work if asked < day]
                return replace(self._draw.choice(earlier_work), type="again") if earlier_work else None
            case "chat":
                return Ask(at=0.0, session="", text=self._draw.choice(CHAT), type="chat")
            case _:
                return self._new_work(wanted, day)

    def _tell(self, project: str, session: str) -> Ask:
        kinds = [kind for kind in FACTS if (project, kind.name) not in self._facts]
        known = [kind for kind in FACTS if (project, kind.name) in self._facts]
        changes = not kinds or (bool(known) and self._draw.random() < CHANGED)
        kind = self._draw.choice(known if changes else kinds)
        key = (project, kind.name)
        value = self._draw.choice([value for value in kind.values if value != self._facts.get(key)])
        wording = self._draw.choice(kind.changed if changes else kind.told)
        self._facts[key], self._told_in[key] = value, session
        return Ask(at=0.0, session="", text=wording.format(p=project, v=value), type="tell", about=project)

    def _fact(self, project: str, name: str) -> Ask:
        kind = next(kind for kind in FACTS if kind.name == name)
        value = self._facts.get((project, name), "")
        text = self._draw.choice(kind.asked).format(p=project)
        return _known(kind, project, value, text, "fact" if value else "absent")

    def _leaning(self) -> Ask | None:
        """What only makes sense after the last request, where something does."""
        last = self._last
        if last is None or last.type not in ("tell", "fact", "work", "urgent"):
            return None
        if last.type in ("work", "urgent"):
            text = "Make that shorter, please."
            return replace(last, text=text, type="edit", known=True, long=False) if last.long else None
        kinds = [k for k in FACTS if (last.about, k.name) in self._facts and k.values != last.values]
        if not kinds:
            return None
        kind = self._draw.choice(kinds)
        return _known(kind, last.about, self._facts[last.about, kind.name], kind.followed, "follow-up")

    def _new_work(self, kind: Type, day: int) -> Ask:
        self._items += 1
        wanted = {"opinion": {"dates"}, "vain": {"rumours"}}.get(kind, WORDY)
        topic = self._draw.choice([topic for topic in WORK if topic.name in wanted])
        ask = self._of_topic(topic, kind)
        if kind == "urgent":
            ask = replace(ask, text=f"Urgent, the client waits and I need it right now! {ask.text}")
        self._work.append((day, ask))
        return ask

    def _of_topic(self, topic: Topic, kind: Type) -> Ask:
        number = 1000 + self._items
        right, *wrong = self._draw.sample(range(100_000, 999_999), 6)
        return Ask(
            at=0.0,
            session="",
            text=topic.asked.format(thing=self._draw.choice(THINGS), n=number),
            type=kind,
            about=f"Case {number}",
            value=str(right),
            values=tuple(map(str, (right, *wrong))),
            topic=topic.name,
            item=number,
            long=topic.long,
            tested=topic.tested,
        )

    def _tickets(self, day: int, at: float) -> list[Ask]:
        """Each ticket is a session of its own: nobody waits for one before the next comes."""
        urgent = self._new_work("urgent", day)
        asks = [replace(urgent, at=at + TICKETS / 4 * TICKET_S, session=f"day {day} urgent")]
        for place in range(TICKETS):
            self._items += 1
            number = 1000 + self._items
            asks.append(
                Ask(
                    at=at + place * TICKET_S,
                    session=f"day {day} ticket {place}",
                    text=BATCH.format(n=number, thing=self._draw.choice(THINGS)),
                    type="batch",
                    about=f"ticket {number}",
                    value=self._draw.choice(QUEUES),
                    values=QUEUES,
                    topic="tickets",
                    item=number,
                )
            )
        return sorted(asks, key=lambda ask: ask.at)


def _known(kind: FactKind, project: str, value: str, text: str, type_: Type) -> Ask:
    return Ask(
        at=0.0,
        session="",
        text=text,
        type=type_,
        about=project,
        value=value,
        values=kind.values,
        topic=kind.name,
        known=True,
    )
