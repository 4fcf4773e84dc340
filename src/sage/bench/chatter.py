"""Generated conversations: small talk, facts that are told, corrected and asked for in other words.

Owns: the templates, and which message is evidence for which question. Must not know: what is measured.

Seeded: the same seed says the same. Each fact has several wordings, and its question shares few words with
some of them; other people's facts of the same kind, wishes and small talk lie between. What the words mean is
as plain as a template is, so these conversations are easier than people's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sage.bench.conversations import Conversation, Question
from sage.memory.passages import Said

__all__ = ["Fact", "Told", "tell"]

DAY, START = 86_400.0, 1_672_574_400.0
SESSION_TURNS = 16

PEOPLE = ("Anna", "Boris", "Chidi", "Dana", "Emre", "Freya", "Goran", "Hana", "Ilias", "Jun", "Kofi", "Lena")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of fact: wordings of telling it, of correcting it, of correcting it in words that nothing was
    tuned on (``held_out``), of wishing it, of asking for it."""

    name: str
    values: tuple[str, ...]
    told: tuple[str, ...]
    changed: tuple[str, ...]
    held_out: tuple[str, ...]
    wished: tuple[str, ...]
    asked: tuple[str, ...]


KINDS = (
    Kind(
        name="home",
        values=("Lisbon", "Oslo", "Porto", "Ghent", "Turin", "Graz", "Malmo", "Bergen", "Leeds", "Cork"),
        told=(
            "I live in {} now, near the river.",
            "My flat in {} is small but bright.",
            "Home for me is {}.",
        ),
        changed=(
            "We moved last week, I live in {} these days.",
            "I gave up the old flat, my place is in {} now.",
        ),
        held_out=(
            "We finally left, the keys to the house in {} are ours.",
            "Update your address book: {} since Friday.",
        ),
        wished=("I would love to see {} one day.", "My cousin is visiting {} in spring."),
        asked=("Where does {who} live?", "In which city is {who}'s home?", "What town did {who} settle in?"),
    ),
    Kind(
        name="work",
        values=("baker", "nurse", "welder", "tailor", "pilot", "librarian", "plumber", "chemist", "gardener"),
        told=(
            "I work as a {} and mostly like it.",
            "My job as a {} keeps me busy.",
            "They hired me as a {}.",
        ),
        changed=("I quit the old job, now I work as a {}.", "A new job since Monday: I am a {}."),
        held_out=(
            "Left the old place on Friday. Next week I begin as a {}.",
            "You are talking to a {} as of this week!",
        ),
        wished=("My neighbour is a {}, I admire that.", "As a child I wanted to be a {}."),
        asked=("What does {who} do for a living?", "What is {who}'s job?", "As what does {who} work?"),
    ),
    Kind(
        name="pet",
        values=("parrot", "tortoise", "ferret", "beagle", "rabbit", "gecko", "poodle", "hamster", "goldfish"),
        told=(
            "We got a {} for the children.",
            "My {} woke me up at five again.",
            "I adopted a {} from the shelter.",
        ),
        changed=(
            "We gave the old pet away and have a {} instead.",
            "Our new animal is a {}, the other one died.",
        ),
        held_out=(
            "The kids talked me into a {} after we lost the last one.",
            "There is a {} in our kitchen since the old one ran away.",
        ),
        wished=("I saw a {} in the park, so funny.", "A friend talks of buying a {}."),
        asked=(
            "What pet does {who} have?",
            "Which animal does {who} keep?",
            "What kind of pet lives with {who}?",
        ),
    ),
    Kind(
        name="instrument",
        values=("cello", "banjo", "oboe", "trumpet", "ukulele", "harp", "clarinet", "drums", "accordion"),
        told=(
            "I practise the {} every evening.",
            "My {} lessons are going well.",
            "I play the {} in a small band.",
        ),
        changed=("I sold my instrument and took up the {} instead.", "I switched, now I play the {}."),
        held_out=(
            "Band news: they have me on the {} from this autumn.",
            "The old one hangs on the wall, it is the {} for me this year.",
        ),
        wished=("The {} in that song is lovely.", "We heard somebody play the {} in the street."),
        asked=(
            "Which instrument does {who} play?",
            "What does {who} play in the band?",
            "What music lessons does {who} take?",
        ),
    ),
    Kind(
        name="dish",
        values=(
            "lasagna",
            "ramen",
            "paella",
            "goulash",
            "falafel",
            "risotto",
            "pierogi",
            "ceviche",
            "moussaka",
        ),
        told=("My favourite food is {}.", "I could eat {} every day.", "Nothing beats {} for dinner, I say."),
        changed=(
            "I went off it, my favourite dish is {} now.",
            "These days I like to eat {} more than anything.",
        ),
        held_out=(
            "Forget what I said, {} beats it by far.",
            "Since the trip I only want {}, I cannot see the other dish any more.",
        ),
        wished=("They served {} at the office party.", "My aunt cooked {} on Sunday."),
        asked=(
            "What is {who}'s favourite food?",
            "Which dish does {who} like best?",
            "What does {who} love to eat?",
        ),
    ),
    Kind(
        name="dentist",
        values=("March 3", "April 12", "June 9", "July 21", "August 30", "October 5", "November 17"),
        told=(
            "My dentist appointment is on {}.",
            "I have to see the dentist on {}.",
            "The dentist booked me in for {}.",
        ),
        changed=("The dentist called, the appointment moved to {}.", "They shifted my dentist visit to {}."),
        held_out=(
            "The dentist cannot make it, so I go on {} after all.",
            "My dentist visit will be on {}, not as planned.",
        ),
        wished=("The fair opens on {}, I heard.", "School starts again on {}."),
        asked=(
            "When is {who}'s dentist appointment?",
            "On what date does {who} see the dentist?",
            "When must {who} go to the dentist?",
        ),
    ),
    Kind(
        name="car",
        values=("blue Fiat", "red Skoda", "grey Volvo", "green Mini", "white Seat", "black Saab", "old Lada"),
        told=("I drive a {} to work.", "My {} needs new tyres.", "I bought a {} from my uncle."),
        changed=(
            "I traded the old one in and drive a {} now.",
            "The garage sold me a {}, the other car is gone.",
        ),
        held_out=(
            "The old car did not pass inspection, so it is a {} for us.",
            "Picked up my {} yesterday, goodbye to the old car.",
        ),
        wished=("A {} blocked our street this morning.", "My boss got a {}."),
        asked=("What car does {who} drive?", "Which car belongs to {who}?", "What vehicle does {who} own?"),
    ),
)

ABSENT = (
    ("What is {who}'s blood type?", "Which blood group does {who} have?"),
    ("What is the name of {who}'s grandmother?", "How is {who}'s grandmother called?"),
    ("Which university did {who} graduate from?", "Where did {who} study at university?"),
    ("What size of shoes does {who} wear?", "What is {who}'s shoe size?"),
    ("Which mountain did {who} climb?", "What peak has {who} climbed?"),
    ("What is {who}'s insurance number?", "Under which insurance policy number is {who} registered?"),
)
"""Questions about what nobody ever tells."""

SMALL = (
    "The weather is odd today, {thing} everywhere.",
    "Did you sleep well? I dreamt of {thing}.",
    "I read something about {thing} on the train.",
    "Busy week here, mostly {thing} and meetings.",
    "Ha, that reminds me of {thing}.",
    "Have you tried {thing}? Everyone talks about it.",
    "Thanks, that is kind of you!",
    "We should meet soon and talk about {thing}.",
    "The children made a drawing of {thing}.",
    "I am tired of {thing}, honestly.",
    "That sounds great, tell me more!",
    "My sister sent me a picture of {thing}.",
)
THINGS = (
    *(
        "rain",
        "old films",
        "crossword puzzles",
        "tomatoes",
        "traffic",
        "yoga",
        "ghost stories",
        "paper boats",
    ),
    *("football", "the new bridge", "wild garlic", "bicycles", "tax forms", "moss", "the night sky", "jam"),
    *("podcasts", "the election", "board games", "foxes", "thunder", "wool socks", "chess", "street art"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What was told of ``who``: ``newest`` and ``stale`` are places of messages, counted from 0."""

    kind: str
    who: str
    newest: int
    stale: tuple[int, ...]
    question: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A conversation with the facts told in it, and questions about what was not."""

    conversation: Conversation
    facts: tuple[Fact, ...]
    absent: tuple[str, ...]


def tell(*, seed: int, turns: int = 400, name: str = "", held_out: bool = False) -> Told:
    """A conversation of two people, about ``turns`` messages long; with ``held_out``, corrected in the words
    that nothing was tuned on."""
    draw = random.Random(seed)  # noqa: S311
    people = draw.sample(PEOPLE, 2)
    plan = [
        (who, kind, draw.sample(kind.values, draw.choice((1, 2, 2, 3)))) for who in people for kind in KINDS
    ]
    places = iter(sorted(draw.sample(range(4, turns - 4), sum(len(values) for _, _, values in plan))))
    events: dict[int, tuple[str, str]] = {}
    told: dict[tuple[str, str], list[int]] = {}
    waiting = [[who, kind, list(values), True] for who, kind, values in plan]
    while waiting:
        entry = draw.choice(waiting)
        who, kind, values, first = entry
        changed = kind.held_out if held_out else kind.changed  # type: ignore[attr-defined]
        text = draw.choice(kind.told if first else changed).format(values.pop(0))  # type: ignore[attr-defined]
        place = next(places)
        events[place] = (str(who), text)
        told.setdefault((str(who), kind.name), []).append(place)  # type: ignore[attr-defined]
        entry[3] = False
        if not values:
            waiting.remove(entry)
    said = []
    for place in range(turns):
        session = place // SESSION_TURNS
        who, text = events.get(place, (people[place % 2], ""))
        if not text and draw.random() < 0.15:
            kind = draw.choice(KINDS)
            text = draw.choice(kind.wished).format(draw.choice(kind.values))
        text = text or draw.choice(SMALL).format(thing=draw.choice(THINGS))
        if place in events and draw.random() < 0.4:
            text = f"{draw.choice(SMALL).format(thing=draw.choice(THINGS))} {text}"
        at = START + 3 * session * DAY + place * 60.0
        said.append(Said(namespace=name, session=f"{name}/{session}", speaker=str(who), at=at, text=text))
    facts = []
    for (who, kind_name), where in told.items():
        kind = next(each for each in KINDS if each.name == kind_name)
        asked = draw.choice(kind.asked).format(who=who)
        facts.append(Fact(kind=kind_name, who=who, newest=where[-1], stale=tuple(where[:-1]), question=asked))
    questions = tuple(
        Question(
            text=fact.question,
            category="updated" if fact.stale else "told once",
            evidence=frozenset({fact.newest}),
        )
        for fact in facts
    )
    absent = tuple(draw.choice(wordings).format(who=draw.choice(people)) for wordings in ABSENT)
    conversation = Conversation(name=name, said=tuple(said), questions=questions)
    return Told(conversation=conversation, facts=tuple(facts), absent=absent)
