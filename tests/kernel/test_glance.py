"""How long an answer about a model's files is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sage.clock import FakeClock
from sage.errors import WeightsMissing
from sage.kernel.glance import HOLDS_S, Glance
from sage.zoo.card import ModelCard


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    (tmp_path / "model").mkdir()
    return ModelCard(
        name="mine",
        source=f"path:{tmp_path / 'model'}",
        sha256="",
        bytes=1,
        license="MIT",
        context_length=64,
        backend="transformers",
    )


def test_an_answer_holds_for_a_moment(card: ModelCard, tmp_path: Path) -> None:
    clock, asked = FakeClock(), []
    look = Glance(tmp_path, {}, clock).at(lambda card: asked.append(card) or len(asked))
    assert [look(card), look(card)] == [1, 1]
    clock.advance(HOLDS_S)
    assert look(card) == 2


def test_what_comes_or_goes_is_seen_at_once(card: ModelCard, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    look = Glance(tmp_path, {}, FakeClock()).at(lambda _: sorted(file.name for file in folder.glob("*")))
    assert look(card) == []
    (folder / "a").write_text("a")
    assert look(card) == ["a"]
    (folder / "a").unlink()
    folder.rmdir()
    assert look(card) == []


def test_a_base_that_goes_is_seen_at_once(card: ModelCard, tmp_path: Path) -> None:
    base = replace(card, name="base", source=f"path:{tmp_path / 'base'}")
    (tmp_path / "base").mkdir()
    look = Glance(tmp_path, {"base": base}, FakeClock()).at(lambda _: (tmp_path / "base").exists())
    adapter = replace(card, base="base")
    assert look(adapter)
    (tmp_path / "base").rmdir()
    assert not look(adapter)


def test_a_refusal_is_kept_too(card: ModelCard, tmp_path: Path) -> None:
    asked = []

    def refuse(card: ModelCard) -> int:
        asked.append(card)
        raise WeightsMissing("none")

    look = Glance(tmp_path, {}, FakeClock()).at(refuse)
    for _ in range(3):
        with pytest.raises(WeightsMissing):
            look(card)
    assert len(asked) == 1


def test_what_has_no_files_is_always_asked(card: ModelCard, tmp_path: Path) -> None:
    asked = []
    look = Glance(tmp_path, {}, FakeClock()).at(lambda card: asked.append(card) or len(asked))
    fake = replace(card, backend="fake")
    assert [look(fake), look(fake)] == [1, 2]


def test_each_thread_gets_a_refusal_of_its_own(card: ModelCard, tmp_path: Path) -> None:
    """What one does with it, a traceback above all, is not seen by another."""

    def refuse(_card: ModelCard) -> int:
        raise WeightsMissing("none", mend="pull")

    look, errors = Glance(tmp_path, {}, FakeClock()).at(refuse), []
    for _ in range(2):
        with pytest.raises(WeightsMissing) as caught:
            look(card)
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert (errors[1].message, errors[1].mend) == ("none", "pull")


def test_not_all_answers_grow_old_at_once(card: ModelCard, tmp_path: Path) -> None:
    clock, asked = FakeClock(), []
    cards = [replace(card, name=f"model-{number}") for number in range(40)]
    look = Glance(tmp_path, {}, clock).at(lambda card: asked.append(card.name))
    for each in cards:
        look(each)
    clock.advance(0.75 * HOLDS_S)
    for each in cards:
        look(each)
    assert 50 < len(asked) < 70
