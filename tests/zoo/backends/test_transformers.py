"""The backend transformers on tiny random checkpoints of every architecture, loaded as a user's are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sage.config import load_settings
from sage.errors import BackendMissing, ContextTooLong, Interrupted, LoadFailed, UnsafeFile, UsageError
from sage.kernel.session import memory_need, memory_parts
from sage.types import GenerationRequest, Message
from sage.zoo.backends import EngineOptions, Scorer, open_engine
from sage.zoo.card import ModelCard
from sage.zoo.catalog import add_user_card
from sage.zoo.config_keys import KEYS, MODEL_TYPES, PART_TYPES
from sage.zoo.folder import vet_folder
from sage.zoo.launch import worker_limits, worker_spec
from sage.zoo.process import Worker
from sage.zoo.sources import describe, vetted

from ..checkpoints import ARCHITECTURES, write_adapter, write_checkpoint

pytest.importorskip("torch")
pytest.importorskip("transformers")

EVERY = sorted({*ARCHITECTURES, "gemma3", "qwen3_omni_moe"})
QUESTION = "what is the capital of france"
TEXTS = [" paris", " london and paris", " no"]

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Each checkpoint is written once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def make(kind: str) -> Path:
        return root / kind if (root / kind).exists() else write_checkpoint(kind, root / kind)

    return make


@pytest.fixture(scope="module")
def llama(folders: Folders) -> Any:
    return engine(folders("llama"))


@pytest.fixture(scope="module")
def talker(folders: Folders) -> Any:
    """A model that does not end its answer at once: the tests of its text need some."""
    return engine(folders("qwen3_moe"))


def engine(path: Path, *, context: int = 128, style: Any = "chat", **extra: Any) -> Any:
    options = EngineOptions(path=path, context=context, threads=1, prompt_style=style, extra=extra)
    return open_engine("transformers", options)


def card_of(path: Path, name: str = "tiny", **changes: Any) -> ModelCard:
    folder = vet_folder(path)
    card = ModelCard(
        name=name,
        source=f"path:{path}",
        sha256="",
        bytes=folder.weight_bytes,
        license="MIT",
        context_length=256,
    )
    return replace(card if folder.adapter else describe(card, folder), backend="transformers", **changes)


def ask(talk: str = QUESTION, **changes: Any) -> GenerationRequest:
    return GenerationRequest(messages=(Message(role="user", content=talk),), **{"max_tokens": 8, **changes})


def test_every_listed_model_is_tried_here() -> None:
    assert set(EVERY) == MODEL_TYPES


def test_every_field_of_the_listed_models_is_listed() -> None:
    import dataclasses

    from transformers import CONFIG_MAPPING, PreTrainedConfig

    def fields(kind: Any) -> Iterator[str]:
        assert kind.model_type in MODEL_TYPES | PART_TYPES | {""}
        yield from (field.name for field in dataclasses.fields(kind))
        for part in (getattr(kind, "sub_configs", None) or {}).values():
            inner = getattr(part, "config_class", part)
            if isinstance(inner, type) and issubclass(inner, PreTrainedConfig):
                yield from fields(inner)

    assert {name for kind in MODEL_TYPES for name in fields(CONFIG_MAPPING[kind])} - KEYS == set()


@pytest.mark.parametrize("kind", EVERY)
def test_an_architecture(kind: str, folders: Folders, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Card, vetting, estimate, loading, an answer as the library's own, scores as computed by hand."""
    import torch

    # The prompt is longer than that, so it is read in pieces, as a long one is.
    monkeypatch.setattr("sage.zoo.backends.transformers.PREFILL", 4)

    card = card_of(folders(kind))
    found = vetted(card, home)
    parts = memory_parts(home, card, 64)
    loaded = engine(folders(kind))
    held = sum(p.numel() * p.element_size() for p in loaded._model.parameters())
    # Weights that two layers share may be stored twice; routers of experts stay in fp32.
    assert 0.9 * held <= parts.weights <= 1.3 * held
    assert parts.kv > 0
    assert found.context_length == 256

    prompt = loaded._prompt(ask().messages)
    with torch.inference_mode():
        ids = torch.tensor([prompt])
        plain = loaded._model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=2
        )
    expected = plain[0, len(prompt) :].tolist()
    pieces: list[str] = []
    answer = loaded.generate(ask(), lambda text: bool(pieces.append(text)))
    words = [token for token in expected if token != 2]
    assert answer.text == loaded._tokenizer.decode(words, skip_special_tokens=True).strip()
    assert "".join(pieces).strip() == answer.text
    assert (answer.prompt_tokens, answer.completion_tokens) == (len(prompt), len(words))
    assert answer.finish_reason == ("stop" if 2 in expected else "length")

    assert isinstance(loaded, Scorer)
    start = loaded._tokenizer(QUESTION)["input_ids"]
    for text, score in zip(TEXTS, loaded.score(QUESTION, TEXTS, lambda: False), strict=True):
        whole = loaded._tokenizer(QUESTION + text)["input_ids"]
        with torch.inference_mode():
            rows = loaded._model(input_ids=torch.tensor([whole])).logits[0].float().log_softmax(-1)
        by_hand = sum(float(rows[at - 1, whole[at]]) for at in range(len(start), len(whole)))
        assert score.tokens == len(whole) - len(start)
        assert score.logprob == pytest.approx(by_hand, rel=0.03, abs=0.05)  # bf16: three digits


def test_a_user_s_weights_through_a_real_worker(folders: Folders, home: Path, tmp_path: Path) -> None:
    card = card_of(folders("qwen2"))
    settings = load_settings().models
    assert memory_need(home, card, 64) > card.bytes
    worker = Worker(worker_spec(home, card, settings), worker_limits(card, settings), log=tmp_path / "log")
    try:
        pieces: list[str] = []
        answer = worker.ask(ask(), pieces.append)
        assert answer.text == "".join(pieces).strip()
        assert answer.text == engine(folders("qwen2")).generate(ask(), lambda _: False).text
        assert len(worker.score(QUESTION, TEXTS)) == 3
        with pytest.raises(BackendMissing, match="schema"):
            worker.ask(ask(schema={"type": "object"}), pieces.append)
        stopped = worker.ask(ask(max_tokens=200), pieces.append, should_stop=lambda: len(pieces) > 12)
        assert stopped.finish_reason in ("cancelled", "stop", "length")
        assert worker.alive
        estimate = memory_parts(home, card, 64).total
        # Nearly all of it is libraries, of which the system maps more where they were lately written.
        assert worker.resident_bytes() == pytest.approx(estimate, rel=0.25)
    finally:
        worker.close()


def test_an_adapter_through_a_real_worker(folders: Folders, home: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    base = card_of(folders("qwen2"), "base")
    add_user_card(home, base)
    card = card_of(write_adapter(folders("qwen2"), tmp_path / "lora"), "lora", base="base")
    settings = load_settings().models
    assert memory_need(home, card, 64) > memory_need(home, base, 64)
    worker = Worker(worker_spec(home, card, settings), worker_limits(card, settings), log=tmp_path / "log")
    try:
        changed = [score.logprob for score in worker.score(QUESTION, TEXTS)]
        estimate = memory_need(home, card, 64)
        # Nearly all of it is libraries, of which the system maps more where they were lately written.
        assert worker.resident_bytes() == pytest.approx(estimate, rel=0.25)
    finally:
        worker.close()
    plain = [score.logprob for score in engine(folders("qwen2")).score(QUESTION, TEXTS, lambda: False)]
    assert changed != pytest.approx(plain, abs=0.2)


def test_logprobs_are_those_of_the_tokens_that_were_written(talker: Any) -> None:
    answer = talker.generate(ask(), lambda _: False)
    assert len(answer.logprobs) == answer.completion_tokens > 1
    prompt = talker._prompt(ask().messages)
    text = talker._tokenizer.decode(prompt)
    assert all(logprob <= 0 for logprob in answer.logprobs)
    greedy = talker.score(text, [" " + answer.text], lambda: False)[0]
    assert sum(answer.logprobs) == pytest.approx(greedy.logprob, rel=0.05, abs=0.3)


def test_an_answer_ends_where_the_listener_ends_it(talker: Any) -> None:
    pieces: list[str] = []

    def two(text: str) -> bool:
        pieces.append(text)
        return len(pieces) == 2

    answer = talker.generate(ask(max_tokens=50), two)
    assert (answer.finish_reason, len(pieces)) == ("cancelled", 2)
    assert answer.text == "".join(pieces).strip()


def test_a_stop_string_is_never_shown_even_in_parts(talker: Any) -> None:
    whole = talker.generate(ask(), lambda _: False).text
    first, second = whole.split()[:2]
    stop = f"{first[-1]} {second}"  # spread over two tokens
    pieces: list[str] = []
    answer = talker.generate(ask(stop=(stop,)), lambda text: bool(pieces.append(text)))
    assert (answer.text, answer.finish_reason) == (first[:-1], "stop")
    assert "".join(pieces) == first[:-1]


def test_what_only_looked_like_a_stop_string_is_shown_at_the_end(talker: Any) -> None:
    whole = talker.generate(ask(), lambda _: False).text
    answer = talker.generate(ask(stop=(whole[-2:] + " and more",)), lambda _: False)
    assert (answer.text, answer.finish_reason) == (whole, "length")


def test_a_seed_repeats_and_warmth_varies(talker: Any) -> None:
    def say(seed: int | None) -> str:
        return str(talker.generate(ask(temperature=1.5, seed=seed, max_tokens=24), lambda _: False).text)

    assert say(7) == say(7)
    assert len({say(None) for _ in range(4)} | {say(seed) for seed in range(4)}) > 2


def test_what_does_not_fit_is_refused_and_what_nearly_does_is_cut(folders: Folders) -> None:
    small = engine(folders("qwen3_moe"), context=16)
    with pytest.raises(ContextTooLong, match="the context holds 16"):
        small.generate(ask("the " * 40), lambda _: False)
    with pytest.raises(ContextTooLong):
        small.score("the " * 40, [" a"], lambda: False)
    answer = small.generate(ask(max_tokens=500), lambda _: False)
    assert answer.prompt_tokens + answer.completion_tokens <= 16
    assert small.generate(ask(max_tokens=0), lambda _: False).text == ""


def test_scoring_stops_when_nobody_waits(llama: Any) -> None:
    asked: list[int] = []
    with pytest.raises(Interrupted):
        llama.score(QUESTION, TEXTS, lambda: len(asked) > 0 or bool(asked.append(1)))
    assert llama.score(QUESTION, [], lambda: False) == ()
    assert llama.score(QUESTION, [""], lambda: False)[0].tokens == 0


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too long"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{{ raise_exception('only questions') }}", "only questions"),
        ("{% if %}", "refused"),
    ],
)
def test_a_hostile_chat_template(llama: Any, template: str, said: str) -> None:
    kept = llama._tokenizer.chat_template
    llama._tokenizer.chat_template = template
    try:
        with pytest.raises(UsageError, match=said):
            llama.generate(ask(), lambda _: False)
    finally:
        llama._tokenizer.chat_template = kept


def test_a_template_without_a_system_message_gets_it_in_the_first_question(llama: Any) -> None:
    kept = llama._tokenizer.chat_template
    llama._tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.role }} {{ m.content }} {% endfor %}"
    )
    talk = (Message(role="system", content="sky"), Message(role="user", content="grass"))
    try:
        ids = llama._prompt(talk)
    finally:
        llama._tokenizer.chat_template = kept
    assert llama._tokenizer.decode(ids).split() == ["user", "sky", "grass"]


def test_a_base_model_is_asked_by_question_and_answer(folders: Folders) -> None:
    base = engine(folders("qwen3_moe"), context=256, style="qa")
    assert base.generate(ask(), lambda _: False).prompt_tokens > 60  # the examples


def test_a_model_that_is_deleted_while_it_is_loaded_goes_on_answering(
    folders: Folders, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(folders("qwen3_moe"), tmp_path / "gone")
    loaded = engine(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    again = engine(folders("qwen3_moe")).generate(ask(), lambda _: False)
    assert loaded.generate(ask(), lambda _: False) == again


def test_a_gguf_file_without_its_reader_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sage.zoo.backends.transformers.find_spec", lambda _: None)
    with pytest.raises(BackendMissing) as caught:
        engine(tmp_path / "model.gguf")
    assert caught.value.mend == "pip install gguf"


def test_a_broken_folder_is_no_crash(folders: Folders, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folders("llama"), broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_attention_heads": 7}))
    with pytest.raises(LoadFailed, match="could not load broken"):
        engine(broken)


def test_the_settings_of_an_adapter_beside_a_whole_model_lead_nowhere(
    folders: Folders, tmp_path: Path
) -> None:
    import shutil

    stale = tmp_path / "stale"
    shutil.copytree(folders("llama"), stale)
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "gone"), "r": 2, "evil": 1}
    (stale / "adapter_config.json").write_text(json.dumps(settings))
    assert engine(stale).generate(ask(), lambda _: False) == engine(folders("llama")).generate(
        ask(), lambda _: False
    )


def test_what_changed_since_it_was_vetted_is_seen_before_it_is_loaded(
    folders: Folders, tmp_path: Path
) -> None:
    import shutil

    changed = tmp_path / "changed"
    shutil.copytree(folders("llama"), changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(UnsafeFile, match="auto_map"):
        engine(changed)
    with pytest.raises(UnsafeFile, match="no adapter"):
        engine(folders("llama"), base=str(folders("llama")))
    adapter = write_adapter(folders("qwen2"), tmp_path / "lora")
    with pytest.raises(UnsafeFile, match="not a whole model"):
        engine(adapter)


def test_an_adapter_that_is_none_is_refused(folders: Folders, home: Path, tmp_path: Path) -> None:
    adapter = write_adapter(folders("qwen2"), tmp_path / "lora")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["megatron_config"] = {"a": 1}
    settings["megatron_core"] = "antigravity"
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UnsafeFile, match="megatron"):
        vet_folder(adapter)


def test_nothing_of_this_is_imported_by_the_base() -> None:
    code = (
        "import sys, sage, sage.cli.main, sage.kernel.session, sage.zoo.folder, sage.zoo.estimate_torch;"
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
