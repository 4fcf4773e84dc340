"""What stands in the way of a model: each obstacle by its own error, with a command that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sage.errors import BackendMissing, ModelNotFound, SageError, UnsafeFile, WeightsMissing
from sage.zoo.card import Figure, ModelCard
from sage.zoo.card_status import as_one, how_to_get, obstacle, obstacles, status, stored_bits
from sage.zoo.catalog import every_card

FAKE = ModelCard(
    name="fake", source="fake", backend="fake", sha256="", bytes=1, license="MIT", context_length=512
)
BASE = replace(FAKE, name="base")
CATALOG = {card.name: card for card in (FAKE, BASE, replace(FAKE, name="adapter", base="base"))}


def test_nothing_stands_in_the_way_of_what_is_here(home: Path) -> None:
    assert obstacle(FAKE, home, CATALOG) is None
    assert obstacle(replace(FAKE, requires=("json",)), home, CATALOG) is None
    assert obstacle(replace(FAKE, base="base"), home, CATALOG) is None


@pytest.mark.parametrize(
    ("card", "error", "said", "mend"),
    [
        (replace(FAKE, unfit="only metadata"), UnsafeFile, "only metadata", "sage models show fake"),
        (replace(FAKE, requires=("json", "no_such_lib")), BackendMissing, "no_such_lib", "install no-such"),
        (replace(FAKE, requires=("os; rm",)), BackendMissing, "os; rm", "pip install"),
        (replace(FAKE, base="nobody"), ModelNotFound, "of its base nobody", "sage models show fake"),
        (replace(FAKE, base="adapter"), UnsafeFile, "an adapter itself", "show"),
        (replace(FAKE, source="package", backend="llama_cpp"), WeightsMissing, "not here", "pull fake"),
        (replace(FAKE, source="unpublished", backend="llama_cpp"), WeightsMissing, "not here", "discover"),
    ],
)
def test_each_obstacle_has_its_error(
    card: ModelCard, error: type[SageError], said: str, mend: str, home: Path
) -> None:
    found = obstacle(card, home, CATALOG)
    assert type(found) is error
    assert said in found.message
    assert mend in found.mend


def test_a_bases_obstacle_is_the_adapters(home: Path) -> None:
    base = replace(FAKE, name="base", source="hf:a/b/c.gguf", backend="llama_cpp", bytes=0)
    found = obstacle(replace(FAKE, base="base"), home, {"base": base})
    assert isinstance(found, WeightsMissing)
    assert (found.message, found.mend) == (
        "of its base base: its weights are not here",
        "sage models pull base",
    )


def test_all_that_is_in_the_way_is_told_at_once(home: Path) -> None:
    lost = replace(
        FAKE, name="lost", source="hf:a/b/c.gguf", backend="llama_cpp", bytes=0, requires=("no_lib",)
    )
    card = replace(lost, name="card", base="lost", requires=("no_such_lib",))
    found = obstacles(card, home, {"lost": lost})
    assert [type(each) for each in found] == [BackendMissing, BackendMissing, WeightsMissing, WeightsMissing]
    one = as_one(found)
    assert isinstance(one, BackendMissing)
    assert one.message == (
        "it needs no_such_lib; of its base lost: it needs no_lib; "
        "of its base lost: its weights are not here; its weights are not here"
    )
    assert one.mend == (
        "pip install no-such-lib && pip install no-lib && sage models pull lost && sage models pull card"
    )
    same = as_one(obstacles(replace(card, requires=("no_lib",)), home, {"lost": lost}))
    assert same is not None
    assert same.mend.count("pip install") == same.message.count("no_lib") == 1
    assert as_one(()) is None
    assert len(obstacles(replace(card, unfit="only metadata"), home, {})) == 1


def test_a_file_of_another_size_is_an_obstacle(home: Path) -> None:
    card = replace(FAKE, source="package", backend="llama_cpp", bytes=10)
    (home / "models").mkdir()
    (home / "models" / card.filename).write_bytes(b"x" * 9)
    assert isinstance(obstacle(card, home, CATALOG), UnsafeFile)
    (home / "models" / card.filename).write_bytes(b"x" * 10)
    assert obstacle(card, home, CATALOG) is None


def test_what_the_origin_could_not_run_is_flagged(home: Path) -> None:
    catalog = every_card(home)
    assert isinstance(obstacle(catalog["qwen3-omni-30b-fp4"], home, catalog), UnsafeFile)
    awq = obstacle(catalog["qwen3-omni-30b-int8-awq"], home, catalog)
    assert isinstance(awq, BackendMissing)
    assert "compressed_tensors" in awq.message or "torch" in awq.message
    assert "ARM64" in catalog["nemotron-h-4b-instruct-128k"].notice
    adapter = obstacle(catalog["introspective-qwen-0.5b-v2.1"], home, catalog)
    assert adapter is not None


@pytest.mark.parametrize(
    ("card", "word"),
    [
        (FAKE, "scripted"),
        (replace(FAKE, source="openai:http://x/v1#m", backend="openai_http", bytes=0), "server"),
        (replace(FAKE, unfit="only metadata"), "unfit"),
        (replace(FAKE, requires=("no_such_lib",)), "needs no_such_lib"),
        (replace(FAKE, base="nobody"), "base missing"),
        (replace(FAKE, base="adapter"), "base missing"),
        (replace(FAKE, base="lost"), "base missing"),
        (replace(FAKE, source="package", backend="llama_cpp"), "not pulled"),
        (replace(FAKE, source="unpublished", backend="llama_cpp"), "unpublished"),
    ],
)
def test_a_word_for_each_state(card: ModelCard, word: str, home: Path) -> None:
    lost = replace(FAKE, name="lost", source="package", backend="llama_cpp")
    catalog = CATALOG | {"lost": lost}
    assert status(card, obstacle(card, home, catalog)) == word


def test_how_weights_are_had() -> None:
    assert how_to_get(replace(FAKE, source="hf:a/b")) == "sage models pull fake"
    assert how_to_get(replace(FAKE, source="path:/x")) == "sage models discover --add FOLDER"


def test_bits_on_disk_against_bits_claimed(home: Path) -> None:
    catalog = every_card(home)
    stored, kept = stored_bits(catalog["qwen3-omni-30b-fp4"]) or (0, True)
    assert stored == pytest.approx(17.6)
    assert not kept
    assert stored_bits(catalog["qwen3-omni-30b"]) == (pytest.approx(17.5), True)
    # Five bits are claimed for each of 134,515,008 weights.
    assert stored_bits(catalog["smollm2-135m-instruct"]) == (pytest.approx(5.8), True)
    assert stored_bits(catalog["gemma-3-270m"]) == (pytest.approx(7.6), False)
    assert stored_bits(FAKE) is None
    known = replace(FAKE, bytes=0, parameters=8, bits=8.0)
    assert stored_bits(known) == (8.0, True), "without a size the claim is all there is"
    assert stored_bits(replace(known, rates={"disk_bytes": Figure(value=16.0)})) == (16.0, False)
