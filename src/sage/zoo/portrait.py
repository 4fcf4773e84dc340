"""A card from what a file or folder says about itself, read as an enemy would have written it.

Owns: which fields of a header mean what on a card. Must not know: where models lie or what is done with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sage.errors import ModelNotFound, UnsafeFile
from sage.zoo.card import ModelCard
from sage.zoo.folder import vet_folder
from sage.zoo.ggml import GGML_TYPES
from sage.zoo.sources import describe
from sage.zoo.vet import GgufHeader, vet_gguf

__all__ = ["folder_card", "gguf_card", "quantisation"]

NO_ANSWERS = ("clip", "bert", "t5encoder", "wavtokenizer", "whisper", "imatrix")
"""Architectures of GGUF files that answer nothing: eyes, ears, and what turns texts into vectors."""

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
"""``general.file_type``, as in llama.cpp's ``llama_ftype``; the withdrawn numbers are left out."""

MIXED_BITS = {"Q4_K_M": 4.85}
"""Bits of a recipe that keeps some tensors finer than the type it is named after. Source: llama.cpp's list of
its quantisations, for a model of 7 billion weights."""

DTYPE_BITS = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
README_BYTES = 4096


def quantisation(header: GgufHeader) -> str:
    """What the file calls its own quantisation; else the type that most of its weights have."""
    number = header.metadata.get("general.file_type")
    if isinstance(number, int) and number in FILE_TYPES:
        return FILE_TYPES[number]
    largest = max(header.tensors, key=lambda tensor: tensor.bytes)
    return largest.type.name


def _claimed_bits(label: str) -> float:
    """Bits of a known recipe, or of the type that it is named after: ``Q5_K_M`` is mostly ``Q5_K``."""
    if label in MIXED_BITS:
        return MIXED_BITS[label]
    for kind in GGML_TYPES.values():
        if kind.name in (label, re.sub(r"_(S|M|L)$", "", label)):
            return kind.size * 8 / kind.block
    digits = re.search(r"\d+", label)
    return float(digits[0]) if digits else 0.0


def gguf_card(path: Path, name: str) -> ModelCard:
    """The card of a GGUF file, used where it lies.

    Raises:
        UnsafeFile: no sound GGUF file, or one that answers nothing. WeightsMissing: there is no file.
    """
    header = vet_gguf(path)
    kind = str(header.metadata.get("general.type", "model"))
    if kind != "model":
        raise UnsafeFile(f"it is no model but: {kind:.30}")
    if any(word in header.architecture for word in NO_ANSWERS):
        raise UnsafeFile(f"models of the kind {header.architecture:.30} answer nothing")
    card = ModelCard(
        name=name,
        source=f"path:{path}",
        sha256="",
        bytes=header.file_bytes,
        license="not stated",
        context_length=1,
        parameters=sum(math.prod(tensor.shape) for tensor in header.tensors),
        bits=_claimed_bits(quantisation(header)),
    )
    return describe(card, header)


def folder_card(path: Path, name: str, catalog: Mapping[str, ModelCard]) -> ModelCard:
    """The card of a model in the Hugging Face form, used where it lies; of an adapter, with its base.

    Raises:
        UnsafeFile, BackendMissing, WeightsMissing: as ``vet_folder``.
        ModelNotFound: an adapter whose base has no card.
    """
    folder = vet_folder(path)
    card = ModelCard(
        name=name,
        source=f"path:{path}",
        sha256="",
        bytes=folder.weight_bytes,
        license=_readme_license(path / "README.md"),
        context_length=1,
        backend="transformers",
        parameters=sum(tensor.elements for tensor in folder.tensors),
    )
    if not folder.adapter:
        dtype = _deep(folder.config, "dtype") or _deep(folder.config, "torch_dtype")
        return describe(replace(card, bits=DTYPE_BITS.get(str(dtype), 0.0)), folder)
    base = _base(str(folder.config.get("base_model_name_or_path") or ""), catalog)
    return replace(
        card,
        base=base.name,
        family=base.family,
        context_length=base.context_length,
        prompt_style=base.prompt_style,
        bits=folder.weight_bytes * 8 / card.parameters if card.parameters else 0.0,
    )


def _base(wanted: str, catalog: Mapping[str, ModelCard]) -> ModelCard:
    """The card of what an adapter was trained on: of that repository, or else of its last name."""
    for base in catalog.values():
        if base.source == f"hf:{wanted}":
            return base
    last = wanted.rstrip("/").rpartition("/")[2].lower()
    if last in catalog:
        return catalog[last]
    raise ModelNotFound(f"it is an adapter of {wanted[:80] or 'a model it does not name'}, which has no card")


def _deep(table: Mapping[str, Any], key: str) -> Any:
    """The value of ``key`` in the table, or else in the first table inside it that has it; else None."""
    if key in table:
        return table[key]
    inner = (_deep(value, key) for value in table.values() if isinstance(value, dict))
    return next((value for value in inner if value is not None), None)


def _readme_license(path: Path) -> str:
    """The licence that a model's page states in its head."""
    try:
        with path.open("rb") as file:
            head = file.read(README_BYTES).decode("utf-8", "replace")
    except OSError:
        return "not stated"
    found = re.search(r"^license:[ \t]*([\w.-]{1,60})", head, re.MULTILINE)
    return found[1] if found else "not stated"
