"""Cards: the shipped ones are sound, the user's override them, and a mistake is named."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from sage.errors import ConfigError, ModelNotFound, UsageError
from sage.zoo.card import Figure, ModelCard
from sage.zoo.catalog import (
    add_user_card,
    check_name,
    default_cards,
    every_card,
    find_card,
    load_catalog,
    remove_user_card,
)
from sage.zoo.sources import present

CARD = ModelCard(
    name="mine",
    source='file:/models/a "quoted" \\ name\x7f\t.gguf',
    sha256="ab" * 32,
    bytes=1234,
    license="MIT",
    context_length=2048,
    capabilities=frozenset({"text", "code"}),
    prior={"*": 0.5, "code": 1.0},
    prior_provenance="measured",
    rates={"generate_tok_s": Figure(value=12.5, provenance="measured")},
    notice="Zwei\nZeilen, é",
)

ENTRY = """
[[model]]
name = "mine"
source = "file:/x.gguf"
bytes = 10
license = "MIT"
context_length = 512
"""

UNPINNED = ENTRY.replace("file:/x.gguf", "hf:owner/repo/x.gguf").replace("bytes = 10", "")


def write(home: Path, text: str) -> None:
    (home / "catalog.toml").write_text(text, encoding="utf-8")


def shipped(home: Path, source: str) -> list[ModelCard]:
    return [card for card in load_catalog(home).values() if card.source.startswith(source)]


def test_the_cards_with_packages_are_complete(home: Path) -> None:
    catalog = load_catalog(home)
    assert [card.name for card in default_cards(catalog)] == ["smollm2-135m-instruct", "gemma-3-270m"]
    for card in shipped(home, "package"):
        assert sum(member.bytes for member in card.members) == card.bytes
        assert len({member.wheel_sha256 for member in card.members}) == len(card.members)
        assert card.prior_provenance == "measured"
        assert set(card.prior) == {"fact", "math", "code", "json", "classify", "rewrite", "*"}
        assert {"prompt_tok_s", "generate_tok_s", "load_s", "rss_bytes"} == set(card.rates)
        assert {figure.provenance for figure in card.rates.values()} == {"measured"}
        assert card.opt_in == bool(card.notice)


def test_what_was_never_fetched_claims_no_hash_and_no_measurement(home: Path) -> None:
    cards = [card for card in load_catalog(home).values() if card.source != "package"]
    assert len(cards) >= 25
    for card in cards:
        assert (card.sha256, card.bytes, dict(card.prior)) == ("", 0, {})
        assert {figure.provenance for figure in card.rates.values()} <= {"published"}
        assert card.expected_bytes > 0, card.name
        assert not card.default


def test_the_catalogue_of_the_origin(home: Path) -> None:
    catalog = load_catalog(home)
    for name in (
        "Introspective-Qwen-0.5B-v2.1",
        "epistemic-pragmatism",
        "introspective-qwen-merged",
        "Qwen2.5-14B-Instruct",
        "Qwen2.5-7B-Instruct",
        "Nemotron-H-4B-Instruct-128K",
        "Llama-3.1-Nemotron-Nano-4B-v1.1",
        "Qwen3-Omni-30B",
        "Qwen3-Omni-30B-int8-AWQ",
        "Qwen3-Omni-30B-FP4",
        "qwen2.5-0.5b-sleep4",
        "Phi-2",
        "Gemma-2B",
        "Qwen2.5-0.5B-Instruct",
    ):
        card = find_card(catalog, name)
        assert card.backend == "transformers"
        assert not card.base or catalog[card.base].source == "hf:Qwen/Qwen2.5-0.5B-Instruct"
    assert catalog["introspective-qwen-0.5b-v2.1"].base == "qwen2.5-0.5b-instruct"
    assert "faster with" in catalog["nemotron-h-4b-instruct-128k"].notice
    assert catalog["nemotron-h-4b-instruct-128k"].requires == (), "it runs in plain torch"
    assert catalog["qwen3-omni-30b-int8-awq"].requires == ("compressed_tensors",)
    assert "metadata only" in catalog["qwen3-omni-30b-fp4"].unfit
    assert "vision" in catalog["qwen3-omni-30b"].capabilities


def test_the_hub_cards_name_one_file_each(home: Path) -> None:
    files = [card for card in shipped(home, "hf:") if card.source.endswith(".gguf")]
    assert len(files) >= 12
    for card in files:
        assert card.source.count("/") == 2
        assert card.name == card.source.rpartition("/")[2].removesuffix(".gguf").lower()


def test_no_two_shipped_cards_share_a_name() -> None:
    folder = resources.files("sage.zoo") / "cards"
    names = [
        table["name"]
        for file in folder.iterdir()
        for table in tomllib.loads(file.read_text(encoding="utf-8"))["model"]
    ]
    assert len(names) == len(set(names))


def test_the_embedding_model_can_be_pulled_and_never_answers(home: Path) -> None:
    assert set(every_card(home)) - set(load_catalog(home)) == {"minilm"}
    card = every_card(home)["minilm"]
    assert card.capabilities == {"embed"}
    assert not card.default
    assert card.filename == "minilm.onnx-tokenizer"
    assert sum(member.bytes for member in card.members) == card.bytes
    assert "rss_bytes" in card.rates


def test_what_states_no_licence_is_opt_in(home: Path) -> None:
    card = load_catalog(home)["qwen2.5-coder-0.5b-instruct"]
    assert card.opt_in
    assert not card.default
    assert "misleading name" in card.notice
    assert card.capabilities == {"text", "code"}


def test_the_hub_serves_what_need_not_be_pinned(home: Path) -> None:
    write(home, UNPINNED)
    card = load_catalog(home)["mine"]
    assert (card.bytes, card.sha256, card.expected_bytes) == (0, "", 0)
    add_user_card(home, card)
    assert load_catalog(home)["mine"] == card


def test_capitals_matter_only_between_alike_names(home: Path) -> None:
    write(home, ENTRY + ENTRY.replace('"mine"', '"MINE"') + ENTRY.replace('"mine"', '"Other"'))
    catalog = load_catalog(home)
    assert find_card(catalog, "MINE").name == "MINE"
    assert find_card(catalog, "other").name == "Other"
    with pytest.raises(ModelNotFound):
        find_card(catalog, "Mine")


def test_an_unknown_name_gets_a_hint(home: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"Did you mean 'gemma-3-270m'\?") as caught:
        find_card(load_catalog(home), "gemma-3-270")
    assert caught.value.mend == "sage models list"


def test_a_card_survives_the_file(home: Path) -> None:
    add_user_card(home, CARD)
    assert load_catalog(home)["mine"] == CARD
    changed = replace(CARD, license="Apache-2.0")
    add_user_card(home, replace(CARD, name="other"))
    add_user_card(home, changed)
    catalog = load_catalog(home)
    assert catalog["mine"] == changed
    assert "other" in catalog
    assert [path.name for path in home.iterdir()] == ["catalog.toml"]


def test_a_card_of_ones_own_can_be_taken_out_again(home: Path) -> None:
    assert not remove_user_card(home, "mine")
    assert list(home.iterdir()) == []
    add_user_card(home, CARD)
    add_user_card(home, replace(CARD, name="gemma-3-270m"))
    assert remove_user_card(home, "mine")
    assert "mine" not in load_catalog(home)
    assert remove_user_card(home, "gemma-3-270m")
    assert load_catalog(home)["gemma-3-270m"].source == "package", "the shipped card is in force again"
    assert not remove_user_card(home, "gemma-3-270m")
    assert [path.name for path in home.iterdir()] == ["catalog.toml"]


def test_every_shipped_card_survives_the_file(home: Path) -> None:
    shipped = every_card(home)
    for card in shipped.values():
        add_user_card(home, card)
    assert every_card(home) == shipped


def test_a_user_card_replaces_a_shipped_one(home: Path) -> None:
    write(home, ENTRY.replace("mine", "gemma-3-270m"))
    assert load_catalog(home)["gemma-3-270m"].source == "file:/x.gguf"


def test_a_fake_model_is_always_here(home: Path) -> None:
    write(home, ENTRY.replace("file:/x.gguf", "fake") + 'backend = "fake"\nscript = { answer = "Hi." }')
    card = load_catalog(home)["mine"]
    assert card.script == {"answer": "Hi."}
    assert present(card, home)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ENTRY + "colour = 1", "model 'mine' has the unknown key 'colour'"),
        (ENTRY + 'licence = "MIT"', "Did you mean 'license'"),
        (ENTRY.replace("bytes = 10", "bytes = -1"), "model 'mine' has bytes = -1"),
        (ENTRY.replace("bytes = 10", "bytes = 1.5"), "model 'mine' has bytes = 1.5"),
        (ENTRY.replace('license = "MIT"', ""), "model 'mine' lacks 'license'"),
        (ENTRY.replace('"mine"', '"../mine"'), "'../mine', which cannot be right"),
        (ENTRY.replace("file:/x.gguf", "ftp:x"), "not package, file:PATH, path:PATH, hf:"),
        (ENTRY.replace("file:/x.gguf", "package"), "do not add up"),
        (ENTRY.replace("file:/x.gguf", "fake"), "'fake' is both or neither"),
        (ENTRY + 'backend = "fake"', "'fake' is both or neither"),
        (ENTRY + 'backend = "onnx_embedding"', "must come from a package"),
        (ENTRY + 'sha256 = "abc"', "which cannot be right"),
        (ENTRY.replace("file:/x.gguf", "path:"), "not package, file:PATH, path:PATH, hf:"),
        (ENTRY.replace("file:/x.gguf", "path:/x").replace("bytes = 10", ""), "has bytes = None"),
        (UNPINNED + f'sha256 = "{"0" * 64}"', "has a sha256 and no bytes"),
        (ENTRY + 'prompt_style = "poem"', "not one of chat, qa"),
        (ENTRY + "prior = { math = 2 }", "prior.math = 2, not a number from 0 to 1"),
        (ENTRY + "rates = { load_s = { value = true } }", "rate 'load_s' has value = True"),
        (ENTRY + "default = true\nopt_in = true", "both default and opt_in"),
        (ENTRY + "members = [1]", "member 1 is not a table"),
        (ENTRY + ENTRY, "'mine' is there twice"),
        ("[[model]]\nsource = 'hf:a/b/c'", "model number 1"),
        ("model = 3", "has model, which is not a list"),
        ("[[model", "not valid TOML"),
    ],
)
def test_a_bad_entry_is_named(text: str, why: str, home: Path) -> None:
    write(home, text)
    with pytest.raises(ConfigError) as caught:
        load_catalog(home)
    assert why in caught.value.message
    assert "catalog.toml" in caught.value.message
    assert caught.value.mend


def test_a_bad_file_is_not_overwritten(home: Path) -> None:
    write(home, "[[model")
    with pytest.raises(ConfigError):
        add_user_card(home, CARD)
    assert (home / "catalog.toml").read_text() == "[[model"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "a\n", "x" * 101])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_an_embedding_model_is_no_model_to_ask(home: Path) -> None:
    for name in ("minilm", "MiniLM"):
        with pytest.raises(ModelNotFound, match="minilm tells texts apart and answers nothing"):
            find_card(load_catalog(home), name)
        assert find_card(every_card(home), name).name == "minilm"
