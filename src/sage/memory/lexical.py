"""The words of a message and of a question, as recall compares them.

Owns: which words count, how they are cut to stems, and what else a message or a question shows at a glance.
Must not know: indexes, scores.

Stems are cut by a short list of English endings: coarse, but the same for a question and what it is held
against. Words of other scripts are kept whole; text without spaces is found by single signs.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

__all__ = ["STOP", "Asked", "Glance", "glance", "name_key", "question", "term_key", "terms"]

LONGEST_WORD = 40
MOST_TERMS = 4000
"""Words of one message that are indexed; a longer one is a document, not a message."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_SIGN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_VOWEL = re.compile("[aeiouy]")
_FIRST_PERSON = re.compile(r"\b(?:i|i'm|i've|i'd|i'll|my|me|mine|we|our|us)\b")
_NAME = re.compile(r"(?<=[a-z,'] )[A-Z][a-z]+")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_TIME = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|week|weekend|month|year|monday|tuesday|wednesday"
    r"|thursday|friday|saturday|sunday|recently|morning|just|soon|since|" + "|".join(_MONTHS) + r")\b"
)
_WHEN = re.compile(
    r"\bwhen\b|\b(?:what|which) (?:date|day|month|year|time)|how long"
    r"|how (?:many|much) (?:years|months|weeks|days)"
)
_CHANGE = re.compile(
    r"\b(?:nowadays|these days|from now on|no longer|any ?more|instead|correction|changed|moved|switched"
    r"|replaced|shifted|postponed|rescheduled|cancelled|called off|updated|turned out|got rid of|took up"
    r"|went off|gave (?:\w+ ){0,3}(?:up|away)|stopped|sold|traded|quit|retired|broke up|divorced|is gone"
    r"|passed away|died|(?:i|we|is|are) now|now (?:i|we) \w+"
    r"|since (?:yesterday|today|spring|summer|autumn|winter|last \w+|this \w+|\w+day|"
    + "|".join(_MONTHS)
    + r"))\b"
)
_PAST = re.compile(
    r"\b(?:did|was|were|had|(?:has|have) been|first|originally|initially|used to|before|previous(?:ly)?"
    r"|earlier|formerly|old)\b"
)
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_DAY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)?\b(?!\s*(?:years|months|weeks|days|people|times))")

STOP = frozenset(
    re.findall(
        r"\w+",
        "a an the is are was were be been being am do does did done doing has have had having will would "
        "shall should can could may might must of in on at to for from by with about as into onto over "
        "after before during between through and or but if than then so that this these those it its he "
        "she they them his her their theirs him i me my mine you your yours we us our ours what when "
        "where who whom whose which why how many much long there here not no any some also just get got "
        "kind type s t ever such more most other own same too very ",
    )
)
"""Words of a question that say nothing of what it is about."""

_ENDINGS = (
    *("ational", "ation", "ition", "ment", "ness", "ful", "tion", "ion"),
    *("er", "or", "ist", "ly", "ive", "ous", "al", "able"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Glance:
    """What ranking wants to know of a message beside its words: ``names`` counts capitalised words, up to 3;
    ``change`` says that something is other than it was."""

    first_person: bool
    asks: bool
    time: bool
    names: int
    change: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question: its ``terms`` in order, whom its words may name, whether it asks for a time or for what was
    or happened (not for how things are), whether it speaks of the asker, and the months (1..12), years and
    days it names."""

    terms: tuple[str, ...]
    words: tuple[str, ...]
    when: bool
    past: bool
    own: bool
    months: frozenset[int]
    years: frozenset[int]
    days: frozenset[int]


def terms(text: str) -> list[str]:
    """Stems in the order of the text."""
    return [_stem(word) for word in _words(text)]


def term_key(term: str) -> int:
    """A hash below 2**63, the same on every machine: the name of a term in the index."""
    data = term.encode("utf-8", "replace")
    return (zlib.crc32(data) << 31) ^ zlib.crc32(data[::-1])


def name_key(speaker: str) -> int:
    """The same for a speaker, by the first word of the name."""
    words = _words(speaker)
    return _key(words[0]) if words else 0


def glance(text: str) -> Glance:
    """See :class:`Glance`."""
    plain = _plain(text)
    return Glance(
        first_person=_FIRST_PERSON.search(plain) is not None,
        asks="?" in text,
        time=_TIME.search(plain) is not None,
        names=min(3, len(_NAME.findall(text))),
        change=_CHANGE.search(plain) is not None,
    )


def question(text: str, speakers: frozenset[int] = frozenset()) -> Asked:
    """See :class:`Asked`. Words that name one of ``speakers`` (keys) are no terms, because who spoke is
    compared by itself. Where nothing else is left, all words are terms."""
    plain = _plain(text)
    words = _words(text)
    about = [word for word in words if word.split("'")[0] not in STOP and _key(word) not in speakers] or words
    months = frozenset(n for n, month in enumerate(_MONTHS, start=1) if month in words and month != "may")
    if re.search(r"\b(?:in|on|of|late|early|\d) may\b|\bmay,? \d", plain):
        months |= {5}
    return Asked(
        terms=tuple(dict.fromkeys(_stem(word) for word in about)),
        words=tuple(dict.fromkeys(word.split("'")[0] for word in words)),
        when=_WHEN.search(plain) is not None,
        past=_PAST.search(plain) is not None,
        own=_FIRST_PERSON.search(plain) is not None,
        months=months,
        years=frozenset(int(year) for year in _YEAR.findall(plain)),
        days=frozenset(int(day) for day in _DAY.findall(plain) if 1 <= int(day) <= 31)
        if months
        else frozenset(),
    )


def _key(word: str) -> int:
    return zlib.crc32(word.split("'")[0].encode("utf-8", "replace"))


def _plain(text: str) -> str:
    return text.lower().replace("\u2019", "'")


def _words(text: str) -> list[str]:
    spaced = _SIGN.sub(lambda sign: f" {sign[0]} ", _plain(text))
    return [word for word in _WORD.findall(spaced)[:MOST_TERMS] if len(word) <= LONGEST_WORD]


def _stem(word: str) -> str:
    word = word.split("'")[0]
    if len(word) < 4:
        return word
    if word.endswith(("ies", "ied")):
        word = word[:-3] + "y"
    elif word.endswith("sses"):
        word = word[:-2]
    else:
        if word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
        for ending in ("ing", "ed"):
            rest = word.removesuffix(ending)
            if rest != word and len(rest) >= 3 and _VOWEL.search(rest):
                word = rest[:-1] if len(rest) > 3 and rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
                break
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            word = word.removesuffix(ending)
            break
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") and len(word) > 2 else word
