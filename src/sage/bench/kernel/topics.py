"""What the simulated person talks about: facts of projects, and work of several topics.

Owns: the words. Must not know: when something is said, or who answers.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BATCH", "CHAT", "FACTS", "PROJECTS", "THINGS", "WORK", "FactKind", "Topic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FactKind:
    """Something a project has: what it is called, its ``values``, and wordings of telling it, of correcting
    it, of asking for it, and of asking for it where the project was just spoken of."""

    name: str
    values: tuple[str, ...]
    told: tuple[str, ...]
    changed: tuple[str, ...]
    asked: tuple[str, ...]
    followed: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """A kind of work. ``long``: its answers are texts, which never agree word for word; ``tested``: somebody
    can tell at once whether an answer is right."""

    name: str
    asked: str
    long: bool
    tested: bool = False


PROJECTS = ("Heron", "Osprey", "Lantern", "Quarry", "Saffron", "Tundra")

FACTS = (
    FactKind(
        name="database",
        values=("PostgreSQL", "SQLite", "MariaDB", "DuckDB", "CouchDB", "Redis", "Firebird"),
        told=("{p} keeps its tables in {v}.", "For {p} we use {v} as the database."),
        changed=("We moved {p} to another database, it is {v} now.",),
        asked=("Which database does {p} use?", "Where does {p} keep its tables?"),
        followed="And which database does it use?",
    ),
    FactKind(
        name="lead",
        values=("Anna", "Boris", "Chidi", "Dana", "Emre", "Freya", "Goran", "Hana"),
        told=("{v} leads {p}.", "The lead of {p} is {v}, I work with both."),
        changed=("{v} has taken over {p} from the old lead.",),
        asked=("Who leads {p}?", "Who is the lead of {p}?"),
        followed="And who leads it?",
    ),
    FactKind(
        name="deadline",
        values=("March 3", "April 12", "June 9", "July 21", "August 30", "October 5", "November 17"),
        told=("The deadline of {p} is {v}.", "{p} must be delivered on {v}."),
        changed=("They postponed {p}: the new deadline is {v}.",),
        asked=("When is the deadline of {p}?", "On what day must {p} be delivered?"),
        followed="And when is its deadline?",
    ),
    FactKind(
        name="language",
        values=("Kotlin", "Haskell", "Erlang", "Fortran", "Clojure", "Scala", "Elixir"),
        told=("{p} is written in {v}.", "We program {p} in {v}."),
        changed=("We rewrote {p}, it is in {v} now.",),
        asked=("In which language is {p} written?", "What do we program {p} in?"),
        followed="And in which language is it written?",
    ),
    FactKind(
        name="office",
        values=("Lisbon", "Oslo", "Ghent", "Turin", "Graz", "Malmo", "Bergen", "Cork"),
        told=("The people of {p} sit in {v}.", "{p} has its office in {v}."),
        changed=("The office of {p} moved to {v}.",),
        asked=("Where do the people of {p} sit?", "In which town is the office of {p}?"),
        followed="And where is its office?",
    ),
    FactKind(
        name="server",
        values=("kestrel", "walnut", "basalt", "juniper", "cobalt", "marble", "thistle"),
        told=("{p} runs on the server {v}.", "The server of {p} is called {v}."),
        changed=("We replaced the server of {p}, the new one is {v}.",),
        asked=("What is the server of {p} called?", "On which server does {p} run?"),
        followed="And on which server does it run?",
    ),
)

WORK = (
    Topic(
        name="python",
        asked="Write a Python function that returns the {thing} of a list. Case {n}.",
        long=True,
        tested=True,
    ),
    Topic(
        name="sql",
        asked="Write an SQL query that selects the {thing} of every customer. Case {n}.",
        long=True,
        tested=True,
    ),
    Topic(
        name="german",
        asked="Translate my letter about the {thing} into German. Case {n}.",
        long=True,
    ),
    Topic(
        name="minutes",
        asked="Summarise the minutes of the meeting about the {thing}. Case {n}.",
        long=True,
    ),
    Topic(
        name="sums",
        asked="How much is {n} times 17 plus the {thing} of 240? Case {n}.",
        long=False,
        tested=True,
    ),
    Topic(name="dates", asked="In which year was the {thing} of this town built? Case {n}.", long=False),
    Topic(name="rumours", asked="Is the rumour about the {thing} of the king true? Case {n}.", long=False),
)
"""Of ``dates``, models know different ones, so that a second opinion pays; of ``rumours`` all know the same,
and none is sure."""

BATCH = "Classify ticket {n}: the {thing} arrived late and the customer is not amused."

THINGS = (
    *("invoice", "bridge", "harvest", "median", "garden", "engine", "ladder", "market", "tower", "filter"),
    *("sample", "budget", "carpet", "signal", "tunnel", "pension", "orchard", "mirror", "ferry", "archive"),
)

CHAT = (
    "Thanks, that helps.",
    "Good morning!",
    "I had too much coffee today.",
    "It rains again, as it did all week.",
    "Have you heard of the football match?",
    "Ha, that is funny.",
    "I will be back after lunch.",
    "My neighbour plays the trumpet at night.",
)
