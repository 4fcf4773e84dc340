"""Cards of the models that other programs have already downloaded, made without copying or writing anything.

Owns: which finds are one and the same, which are known already, what each is called.
Must not know: how stores are laid out, what headers mean, or what the user does with the cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sage.errors import SageError
from sage.zoo.card import ModelCard
from sage.zoo.folder import weight_files
from sage.zoo.portrait import folder_card, gguf_card
from sage.zoo.sources import model_path, present
from sage.zoo.staging import sha256_of
from sage.zoo.stores import Place, Spot, Walk, spots

__all__ = ["Found", "as_known", "contradiction", "discover", "plain_name"]

MOST_MODELS = 2000
"""Headers read in one survey: each takes 10 to 100 ms."""

MOST_OFF = 0.1
"""Share by which the weights of a model may differ in number from its card, which may say it rounded."""

SHA256 = re.compile(r"[0-9a-f]{64}")

ARCHITECTURES = {
    "qwen2.5": ("qwen2",),
    "smollm2": ("llama",),
    "llama3.2": ("llama",),
    "nemotron": ("nemotron", "llama"),
    "ministral": ("mistral", "ministral"),
}
"""What files of a family call their architecture, by its beginning, where that is not the family's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One model: where it lies first, where else the same one lies, and its card or what is wrong with it.

    ``known_as`` names the card of the catalog that already uses it, or whose very file it is; ``unused`` says
    that the latter has no weights here yet, so that ``card`` is worth adding. ``bytes`` is its size on disk,
    0 where that cannot be told.
    """

    name: str
    store: str
    path: Path
    bytes: int
    card: ModelCard | None = None
    problem: str = ""
    known_as: str = ""
    unused: bool = False
    also: tuple[Path, ...] = ()

    @property
    def new(self) -> bool:
        """Whether its card is none that the catalog uses already."""
        return self.card is not None and (self.unused or not self.known_as)


def plain_name(text: str) -> str:
    """A name that a card may have, made from a file's or a store's."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:100].rstrip("-._") or "model"


def discover(
    places: Iterable[Place], catalog: Mapping[str, ModelCard], home: Path, walk: Walk
) -> tuple[Found, ...]:
    """Everything in ``places`` that is or should be a model, each once, in the order it is met.

    Nothing is raised for what is broken: it is listed with its ``problem``. ``walk`` learns what could not
    be looked at. A find whose name is that of a card whose weights are not here becomes that model, with
    its base, its needs and its warnings.
    """
    taken = {card.name for card in catalog.values() if present(card, home)}
    used = {model_path(catalog[name], home): catalog[name] for name in taken}
    used |= {
        Path(card.source.removeprefix("path:")): card
        for card in catalog.values()
        if card.source.startswith("path:")
    }
    found, same = list[Found](), dict[object, int]()
    for place in places:
        for spot in spots(place, walk):
            keys = _keys(spot)
            known = next((same[key] for key in keys if key in same), None)
            if known is not None:
                first = found[known]
                if spot.path != first.path and spot.path not in first.also:
                    found[known] = replace(first, also=(*first.also, spot.path))
                continue
            if len(found) == MOST_MODELS:
                walk.cut_short.append(place.root)
                return tuple(found)
            one = _look(spot, catalog, used, taken)
            # Copies under several names have one hash: they are one find.
            copies = (at for at, each in enumerate(found) if one.known_as and each.known_as == one.known_as)
            twin = next(copies, None)
            if twin is not None:
                found[twin] = _together(found[twin], one, used)
                same |= dict.fromkeys(keys, twin)
                continue
            taken.add(one.name)
            same |= dict.fromkeys(keys, len(found))
            found.append(one)
    return tuple(found)


def _together(first: Found, one: Found, used: Mapping[Path, ModelCard]) -> Found:
    """Two finds of one known model as one: at the path that a card uses already, else where the file has the
    model's name, else the first."""

    def worth(each: Found) -> tuple[bool, bool]:
        return each.path in used, plain_name(each.path.stem) == each.known_as

    if worth(one) <= worth(first):
        return replace(first, also=(*first.also, one.path))
    card = first.card
    if card and first.unused:
        card = replace(card, source=f"path:{one.path}")
    return replace(first, store=one.store, path=one.path, card=card, also=(first.path, *first.also))


def _look(
    spot: Spot, catalog: Mapping[str, ModelCard], used: Mapping[Path, ModelCard], taken: set[str]
) -> Found:
    size = _bytes(spot)
    one = Found(name=plain_name(spot.name), store=spot.store, path=spot.path, bytes=size)
    if spot.problem:
        return replace(one, problem=spot.problem)
    if len(spot.parts) > 1:
        joined = (
            f"it lies in {len(spot.parts)} parts; join them: llama-gguf-split --merge {spot.path.name} OUT"
        )
        return replace(one, problem=joined)
    known = used.get(spot.path)
    if known:
        one = replace(one, name=known.name)
        if known.name in taken:
            return replace(one, known_as=known.name, card=known)
    if same := _same_file(spot.path, size, catalog):
        one = replace(one, name=same.name, known_as=same.name, card=same)
        if same.name in taken:
            return one
        # It vouches for itself by its hash, so everything on the card holds for it.
        own = replace(same, source=f"path:{spot.path}", members=(), default=False, opt_in=False)
        return replace(one, card=own, unused=True)
    try:
        if spot.path.is_dir():
            card = folder_card(spot.path, one.name, catalog)
        else:
            card = gguf_card(spot.path, one.name)
    except SageError as error:
        return replace(one, problem=error.message.removeprefix(f"{spot.path.name}: "))
    except OSError as error:
        return replace(one, problem=error.strerror or str(error))
    if card.license == "not stated" and spot.license:
        card = replace(card, license=spot.license)
    # A card whose file has changed since is made anew, with what the user or the catalogue put on it.
    shared = known or catalog.get(one.name)
    if shared and one.name not in taken and not contradiction(card, shared):
        card = as_known(card, shared)
    elif one.name in taken or shared:
        card = replace(card, name=_free(one.name, taken | set(catalog)))
    return replace(one, name=card.name, card=card, bytes=card.bytes)


def _same_file(path: Path, size: int, catalog: Mapping[str, ModelCard]) -> ModelCard | None:
    """The card whose hash this file has. Content is read only where the size is right, because that takes a
    second or more for each GB. The name of a blob in the Hugging Face cache is the hash that its client has
    checked, so a name of another hash is believed and spares the reading; one that would make the file a
    known model is not: only the content may claim that."""
    alike = {card.sha256: card for card in catalog.values() if card.sha256 and card.bytes == size}
    try:
        blob = path.resolve()
        if not alike or not blob.is_file():
            return None
        if blob.parent.name == "blobs" and SHA256.fullmatch(blob.name) and blob.name not in alike:
            return None
        return alike.get(sha256_of(blob))
    except OSError:
        return None


def contradiction(card: ModelCard, known: ModelCard) -> str:
    """Why what was found cannot be the model of the card ``known``; empty where it may be.

    A card that is unfit is never contradicted: its warning is worth more than its figures.
    """
    if card.backend != known.backend:
        return f"it is run by {card.backend}, not by {known.backend}"
    if known.unfit:
        return ""
    if card.parameters and known.parameters and abs(card.parameters / known.parameters - 1) > MOST_OFF:
        return f"it has {card.parameters:,} weights, not about {known.parameters:,}"
    built = ARCHITECTURES.get(known.family, (known.family,))
    if card.family and known.family and card.family != known.family and not card.family.startswith(built):
        return f"it is built as {card.family:.40}, not as {' or '.join(built)}"
    return ""


def as_known(card: ModelCard, known: ModelCard) -> ModelCard:
    """The catalog's card of that name, with the weights that were found and what they say."""
    return replace(
        known,
        source=card.source,
        sha256="",
        bytes=card.bytes,
        members=(),
        context_length=card.context_length if card.context_length > 1 else known.context_length,
        prompt_style=card.prompt_style,
        parameters=card.parameters or known.parameters,
        bits=known.bits or card.bits,
        base=known.base or card.base,
        default=False,
        opt_in=False,
    )


def _free(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name[:96]}-{number}" in taken:
        number += 1
    return f"{name[:96]}-{number}"


def _bytes(spot: Spot) -> int:
    """Size of the weights: of the file, of its parts, or of a folder's weights together."""
    return sum(size for _, size in _weights(spot))


def _weights(spot: Spot) -> list[tuple[tuple[int, int], int]]:
    """Device and inode, and size, of each file of weights."""
    try:
        files = spot.parts or (weight_files(spot.path) if spot.path.is_dir() else (spot.path,))
        stats = [file.stat() for file in files]
    except OSError:
        return []
    return [((stat.st_dev, stat.st_ino), stat.st_size) for stat in stats]


def _keys(spot: Spot) -> list[object]:
    """What two spots have in common if they are the same model: the files themselves, or name and size."""
    weights = _weights(spot)
    if spot.problem or not weights:
        return [spot.path]
    size = sum(size for _, size in weights)
    return [frozenset(inode for inode, _ in weights), (plain_name(spot.name), size)]
