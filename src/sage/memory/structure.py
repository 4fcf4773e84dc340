"""What a text looks like, whatever it says: script, code, answer options, digits, length, form of the answer.

Owns: the features and their numbering. Must not know: embeddings, models, what the number is used for.

The cells are fixed, not fitted: two machines that never met number them alike. They say little alone, but
steady the views that are fitted (docs/lab.md).
"""

from __future__ import annotations

import re

import numpy as np

__all__ = ["STRUCTURES", "describe_structure", "structure"]

LENGTHS = (120, 400)
"""Characters up to which a text is short, and medium."""

DIGITS = 0.015
"""Share of digits from which on a text has numbers in it."""

SCRIPT = 0.20
"""Share of characters beyond Latin (above U+02FF) from which on a text is in another script."""

OPTIONS = 2
"""Different letters at the beginnings of lines that make a choice between answers."""

STRUCTURES = 2 * 2 * 2 * 2 * 3 * 3
"""How many cells there are: 144."""

_CODE = re.compile(
    r"\bdef |\bimport |\breturn\b|```|python|javascript|#include|public static|console\.log"
    r"|\bselect\b.{1,200}\bfrom\b",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^[ \t]*\(?([A-J])[.):]", re.MULTILINE)

_READ = 4000
"""Characters that are looked at: the beginning shows what a text is, and time stays bounded."""

_FORMS = ("", "schema requested", "not text alone")
_LENGTH_WORDS = ("short", "medium", "long")


def structure(text: str, *, schema: bool = False, modality: bool = False) -> int:
    """The cell of a text, in 0..143 (about 0.03 ms).

    ``schema``: an answer of a given form is requested. ``modality``: something else than text belongs to
    it, such as an image; this outweighs ``schema``.
    """
    head = text[:_READ]
    points = np.frombuffer(head.encode("utf-32-le", "surrogatepass"), "<u4")
    read = max(len(points), 1)
    script = int(np.count_nonzero(points > 0x2FF) > SCRIPT * read)
    digits = int(np.count_nonzero((points >= ord("0")) & (points <= ord("9"))) > DIGITS * read)
    code = int(_CODE.search(head) is not None)
    options = int(len(set(_OPTION.findall(head))) >= OPTIONS)
    length = sum(len(text) > limit for limit in LENGTHS)
    form = 2 if modality else int(schema)
    return ((((form * 2 + script) * 2 + code) * 2 + options) * 2 + digits) * len(_LENGTH_WORDS) + length


def describe_structure(cell: int) -> str:
    """The cell in words, such as ``code, long``.

    Raises:
        ValueError: there is no such cell.
    """
    if not 0 <= cell < STRUCTURES:
        raise ValueError(f"{cell} is not a structure, 0..{STRUCTURES - 1}")
    rest, length = divmod(cell, len(_LENGTH_WORDS))
    rest, digits = divmod(rest, 2)
    rest, options = divmod(rest, 2)
    rest, code = divmod(rest, 2)
    form, script = divmod(rest, 2)
    words = [
        "not in Latin letters" if script else "",
        "code" if code else "",
        "answer options" if options else "",
        "numbers" if digits else "",
        _FORMS[form],
        _LENGTH_WORDS[length],
    ]
    return ", ".join(word for word in words if word)
