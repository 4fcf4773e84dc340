"""Fitting of the shipped codebook: sources are capped, own prompts are there, the model is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage.bench.codebook import main, read_texts
from sage.bench.prompts import own_prompts
from sage.errors import WeightsMissing


def test_no_source_gives_more_than_the_cap(tmp_path: Path) -> None:
    for name, count in (("large", 50), ("small", 3)):
        lines = [json.dumps({"text": f"{name} {i % 40}"}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n\n")
    files = [tmp_path / "large.jsonl", tmp_path / "small.jsonl"]
    found = read_texts(files, cap=10, seed=1)
    assert {name: len(set(texts)) for name, texts in found.items()} == {"large": 10, "small": 3}
    assert found == read_texts(files, cap=10, seed=1) != read_texts(files, cap=10, seed=2)
    assert len(read_texts(files, cap=100, seed=1)["large"]) == 40


def test_own_prompts_are_whole_and_of_many_scripts() -> None:
    prompts = own_prompts()
    assert len(prompts) == len(set(prompts)) > 300
    assert not [prompt for prompt in prompts if "{}" in prompt]
    assert sum(any(ord(letter) > 0x2FF for letter in prompt) for prompt in prompts) > 50


def test_without_the_sentence_model_nothing_is_fitted(home: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing) as caught:
        main([str(tmp_path / "out")])
    assert "sage models pull minilm" in caught.value.mend
    assert not (tmp_path / "out").exists()
