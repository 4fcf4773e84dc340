"""Facts and words that questions are made of.

Owns: small tables, written for this project. Must not know: how a question is put.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "CAPITALS",
    "CODE",
    "KINDS",
    "NEGATIVE",
    "NO",
    "OPPOSITES",
    "PEOPLE",
    "PLACES",
    "PLURALS",
    "POSITIVE",
    "YES",
]


def _pairs(text: str) -> Mapping[str, str]:
    return dict(pair.split("=") for pair in text.split())


CAPITALS: Mapping[str, str] = _pairs(
    "Austria=Vienna Belgium=Brussels Canada=Ottawa Chile=Santiago China=Beijing Cuba=Havana "
    "Denmark=Copenhagen Egypt=Cairo Finland=Helsinki France=Paris Germany=Berlin Greece=Athens "
    "Hungary=Budapest Iran=Tehran Iraq=Baghdad Ireland=Dublin Italy=Rome Japan=Tokyo Kenya=Nairobi "
    "Norway=Oslo Peru=Lima Poland=Warsaw Portugal=Lisbon Russia=Moscow Spain=Madrid Sweden=Stockholm "
    "Thailand=Bangkok Turkey=Ankara Ukraine=Kyiv Vietnam=Hanoi"
)

OPPOSITES: Mapping[str, str] = _pairs(
    "hot=cold big=small|little fast=slow happy=sad|unhappy up=down old=young|new rich=poor wet=dry "
    "early=late open=closed|shut|close strong=weak full=empty hard=soft|easy clean=dirty high=low "
    "near=far loud=quiet|silent heavy=light day=night win=lose|loss buy=sell left=right first=last "
    "true=false wide=narrow deep=shallow begin=end|finish|stop inside=outside love=hate push=pull"
)
"""Several right answers are parted by a stroke."""

PLURALS: Mapping[str, str] = _pairs(
    "mouse=mice child=children foot=feet tooth=teeth man=men woman=women goose=geese city=cities "
    "baby=babies leaf=leaves knife=knives wolf=wolves box=boxes church=churches bus=buses hero=heroes "
    "potato=potatoes sheep=sheep fish=fish deer=deer ox=oxen person=people story=stories wife=wives "
    "shelf=shelves dish=dishes lady=ladies half=halves glass=glasses day=days"
)

KINDS: Mapping[str, str] = _pairs(
    "trout=animal oak=plant hammer=tool bread=food robin=animal rose=plant saw=tool cheese=food "
    "horse=animal tulip=plant drill=tool rice=food spider=animal pine=plant screwdriver=tool soup=food "
    "shark=animal ivy=plant axe=tool butter=food frog=animal fern=plant wrench=tool cake=food "
    "eagle=animal cactus=plant shovel=tool pasta=food"
)

POSITIVE = (
    "I love this film",
    "The food was delicious",
    "What a wonderful surprise",
    "She is a brilliant singer",
    "I am so happy with my new phone",
    "The staff were kind and helpful",
    "We had the best holiday ever",
    "The room was bright and spotless",
    "He won and everybody cheered",
    "This book made me smile all day",
    "A perfect end to a perfect week",
    "The garden looks beautiful",
    "It works even better than I hoped",
    "My friends enjoyed every minute",
    "The concert was amazing",
)
NEGATIVE = (
    "This is the worst day of my life",
    "I hated every minute",
    "The service was terrible",
    "The room was dirty and cold",
    "It broke after one day",
    "The soup tasted awful",
    "He was rude to all of us",
    "What a waste of money",
    "The film was boring and far too long",
    "I will never come back here",
    "The train was late again and nobody cared",
    "Her answer made me very angry",
    "The house smells of mould",
    "They lost my luggage and did not apologise",
    "The game crashes all the time",
)

YES = (
    "Is ice cold?",
    "Can birds fly?",
    "Is the Earth round?",
    "Do cats have tails?",
    "Is water wet?",
    "Do plants need light?",
    "Is seven a prime number?",
    "Is Paris in France?",
    "Do bees make honey?",
    "Is a whale a mammal?",
    "Is gold a metal?",
    "Does the Moon go around the Earth?",
    "Is a minute shorter than an hour?",
    "Do spiders have eight legs?",
)
NO = (
    "Is fire cold?",
    "Can a stone swim?",
    "Is the Sun a planet?",
    "Do snakes have legs?",
    "Is Tokyo in Italy?",
    "Is nine a prime number?",
    "Do fish breathe with lungs?",
    "Is a mouse bigger than a horse?",
    "Is February longer than March?",
    "Do cows lay eggs?",
    "Is wood a metal?",
    "Is the Atlantic a river?",
    "Does a triangle have four sides?",
    "Is a kilogram lighter than a gram?",
)

PEOPLE = ("Maria", "Tom", "Aisha", "Ken", "Olga", "Pedro", "Clara", "Ivan", "Lena", "Omar", "Nora", "Hugo")
PLACES = ("Lisbon", "Paris", "Cairo", "Osaka", "Riga", "Lima", "Oslo", "Quito", "Turin", "Accra", "Delhi")

_LISTS = ([3, -1, 4, 8], [2, 2, 7], [9, 6, -5, 0, 1])
_TEXTS = ("banana split", "open a door", "big red ball")
_NUMBERS = (7, -12, 40)

CODE: tuple[tuple[str, str, str, tuple[object, ...]], ...] = (
    *(
        (f"gives {what} of the list x", answer, "x", _LISTS)
        for what, answer in (
            ("the number of elements", "len(x)"),
            ("the sum", "sum(x)"),
            ("the largest element", "max(x)"),
            ("the smallest element", "min(x)"),
            ("the first element", "x[0]"),
            ("the last element", "x[-1]"),
            ("the second element", "x[1]"),
            ("the first two elements", "x[:2]"),
            ("all but the first element", "x[1:]"),
            ("all but the last element", "x[:-1]"),
            ("the reverse", "x[::-1]"),
            ("the squares of the elements", "[v * v for v in x]"),
            ("the doubles of the elements", "[2 * v for v in x]"),
            ("the positive elements", "[v for v in x if v > 0]"),
            ("the even elements", "[v for v in x if v % 2 == 0]"),
            ("the mean", "sum(x) / len(x)"),
        )
    ),
    ("sorts the list x from small to large", "sorted(x)", "x", _LISTS),
    ("sorts the list x from large to small", "sorted(x, reverse=True)", "x", _LISTS),
    ("tells whether 7 is in the list x", "7 in x", "x", _LISTS),
    *(
        (f"gives {what} of the string s", answer, "s", _TEXTS)
        for what, answer in (
            ("the length", "len(s)"),
            ("the reverse", "s[::-1]"),
            ("the first character", "s[0]"),
            ("the last character", "s[-1]"),
            ("the list of words", "s.split()"),
        )
    ),
    ("gives the string s in capital letters", "s.upper()", "s", _TEXTS),
    ("counts the letter a in the string s", "s.count('a')", "s", _TEXTS),
    ("tells whether the string s starts with b", "s.startswith('b')", "s", _TEXTS),
    ("gives the square of the number n", "n * n", "n", _NUMBERS),
    ("gives the absolute value of the number n", "abs(n)", "n", _NUMBERS),
    ("tells whether the number n is even", "n % 2 == 0", "n", _NUMBERS),
    ("gives half of the number n", "n / 2", "n", _NUMBERS),
)
"""What an expression should do, one that does, the name it is about, and values to try it on."""
