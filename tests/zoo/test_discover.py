"""Models that other programs downloaded: every layout, duplicate and broken thing; and nothing is written."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sage.zoo.card import ModelCard
from sage.zoo.catalog import add_user_card, every_card, load_catalog
from sage.zoo.discover import Found, contradiction, discover, plain_name
from sage.zoo.stores import Place, Walk, known_places, place_of

WORDS = {"general.name": "Tiny", "general.file_type": 2, "tokenizer.chat_template": "{{ messages }}"}


@pytest.fixture
def sound(gguf: Any) -> bytes:
    gguf.metadata |= WORDS
    return bytes(gguf.bytes())


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def look(
    home: Path, *roots: Path, catalog: Mapping[str, ModelCard] | None = None, walk: Walk | None = None
) -> dict[str, Found]:
    known = every_card(home) if catalog is None else catalog
    found = discover([place_of(root) for root in roots], known, home, walk or Walk())
    assert len({one.name for one in found if one.card}) == len([one for one in found if one.card])
    return {one.name: one for one in found}


def safetensors(tensors: Mapping[str, tuple[str, list[int], int]]) -> bytes:
    """A sound file of zeros; ``tensors`` are dtype, shape and bytes."""
    at, table = 0, {}
    for name, (dtype, shape, size) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + bytes(at)


def hf_folder(folder: Path, config: Mapping[str, Any] | None = None, **files: str) -> Path:
    tensors = {"a.weight": ("BF16", [4, 8], 64), "b.weight": ("BF16", [8], 16)}
    put(folder / "model.safetensors", safetensors(tensors))
    settled = {"model_type": "qwen2", "torch_dtype": "bfloat16", "max_position_embeddings": 4096}
    put(folder / "config.json", json.dumps(settled | dict(config or {})).encode())
    put(folder / "tokenizer.json", b"{}")
    for name, text in files.items():
        put(folder / name.replace("__", "."), text.encode())
    return folder


def snapshot(cache: Path, repo: str, files: Mapping[str, bytes], commit: str = "c0ffee00") -> Path:
    """A repository as the hub's client leaves it: links in snapshots, content in blobs."""
    root = cache / f"models--{repo.replace('/', '--')}"
    for number, (name, content) in enumerate(files.items()):
        blob = put(root / "blobs" / f"{number}{commit}", content)
        link = root / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    put(root / "refs" / "main", commit.encode())
    return root / "snapshots" / commit


def ollama(root: Path, model: str, content: bytes, digest: str = "a", **layers: bytes) -> Path:
    """A tag of Ollama's store; ``layers`` beside the model's."""
    listed = []
    for number, (kind, data) in enumerate({"model": content, **layers}.items()):
        name = f"{number}{digest}".rjust(64, "0")  # as long as a hash
        put(root / "blobs" / f"sha256-{name}", data)
        media = f"application/vnd.ollama.image.{kind}"
        listed.append({"mediaType": media, "digest": f"sha256:{name}", "size": len(data)})
    manifest = root / "manifests" / "registry.ollama.ai" / Path(model)
    return put(manifest, json.dumps({"schemaVersion": 2, "layers": listed}).encode())


def test_a_folder_of_gguf_files(home: Path, tmp_path: Path, sound: bytes) -> None:
    put(tmp_path / "m" / "publisher" / "repo" / "Tiny Model.Q4_0.gguf", sound)
    put(tmp_path / "m" / "readme.md", b"no model")
    found = look(home, tmp_path / "m")["tiny-model.q4_0"]
    card = found.card
    assert card is not None
    assert card.source == f"path:{tmp_path}/m/publisher/repo/Tiny Model.Q4_0.gguf"
    assert (card.bytes, card.license, card.context_length) == (len(sound), "mit", 1024)
    assert (card.family, card.backend, card.prompt_style) == ("llama", "llama_cpp", "chat")
    assert card.parameters == 64 * 16 + 32 * 3
    assert card.bits == 4.5, "Q4_0 stores 18 bytes for 32 weights"
    assert not found.also
    assert not found.problem


def test_a_mixed_quantisation_claims_what_its_recipe_takes(home: Path, tmp_path: Path, gguf: Any) -> None:
    gguf.metadata |= WORDS | {"general.file_type": 15}
    card = look(home, put(tmp_path / "tiny.gguf", gguf.bytes()))["tiny"].card
    assert card is not None
    assert card.bits == 4.85
    assert {c.bits for n, c in every_card(home).items() if n.endswith("q4_k_m")} == {4.85}


def test_the_hugging_face_cache(home: Path, tmp_path: Path, sound: bytes) -> None:
    cache = tmp_path / "hub"
    snapshot(cache, "owner/Tiny-GGUF", {"tiny-q4_0.gguf": sound, "sub/other.gguf": sound + bytes(32)})
    folder = snapshot(
        cache,
        "owner/Small-1B",
        {
            "config.json": json.dumps({"model_type": "llama", "max_position_embeddings": 2048}).encode(),
            "model.safetensors": safetensors({"w": ("F32", [4], 16)}),
            "README.md": b"---\nlicense: apache-2.0\n---\n",
            "tokenizer.json": b"{}",
            "tokenizer_config.json": b'{"chat_template": "x"}',
        },
    )
    (cache / "models--owner--started" / "blobs").mkdir(parents=True)
    (cache / "datasets--owner--data").mkdir()
    found = look(home, tmp_path)
    assert set(found) == {"tiny-q4_0", "other", "small-1b", "started"}
    assert found["started"].problem == "no finished download"
    card = found["small-1b"].card
    assert card is not None
    assert card.source == f"path:{folder}"
    assert (card.backend, card.family, card.license) == ("transformers", "llama", "apache-2.0")
    assert (card.bytes, card.parameters, card.prompt_style) == (found["small-1b"].bytes, 4, "chat")


def test_of_several_snapshots_main_counts_and_else_the_newest(
    home: Path, tmp_path: Path, sound: bytes
) -> None:
    for commit in ("aaaaaa", "bbbbbb"):
        snapshot(tmp_path, "o/r", {"x.gguf": sound + bytes(len(commit))}, commit)
    assert "bbbbbb" in str(look(home, tmp_path)["x"].path)
    refs = tmp_path / "models--o--r" / "refs" / "main"
    refs.write_text("../../../../etc")
    os.utime(tmp_path / "models--o--r" / "snapshots" / "aaaaaa", (2e9, 2e9))
    assert "aaaaaa" in str(look(home, tmp_path)["x"].path)


def test_ollamas_store(home: Path, tmp_path: Path, sound: bytes) -> None:
    root = tmp_path / "models"
    ollama(root, "library/tiny/latest", sound, license=b"\n  MIT License\n\nmore")
    ollama(root, "library/tiny/4b", sound + bytes(32), "b")
    ollama(root, "me/tiny/mine", sound + bytes(64), "c", adapter=b"x")
    ollama(root, "library/gone/latest", sound, "d")
    (root / "blobs" / f"sha256-{'0d':0>64}").unlink()
    put(root / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest", b"{")
    sly = {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd"}
    put(root / "manifests" / "h" / "n" / "sly" / "latest", json.dumps({"layers": [sly, 3]}).encode())
    found = look(home, tmp_path)
    assert {one.store for one in found.values()} == {"Ollama"}
    card = found["tiny"].card
    assert card is not None
    assert card.license == "mit", "what the file says comes before the store's words"
    assert card.source.endswith("a")
    assert found["tiny-4b"].card is not None
    assert "adapter" in found["me-tiny-mine"].problem
    assert found["gone"].problem == "its file is missing"
    assert found["bad"].problem == "its manifest cannot be read"
    assert "names no GGUF" in found["n-sly"].problem


def test_a_file_with_the_hash_of_a_card_is_that_model(home: Path, tmp_path: Path, sound: bytes) -> None:
    digest = hashlib.sha256(sound).hexdigest()
    known = replace(
        every_card(home)["gemma-3-270m"],
        sha256=digest,
        bytes=len(sound),
        notice="Mind this.",
        prior={"*": 0.3},
    )
    catalog = {known.name: known}
    blob = put(tmp_path / "o" / "blobs" / f"sha256-{digest}", sound)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    tag = tmp_path / "o" / "manifests" / "registry.ollama.ai" / "library" / "gemma" / "270m"
    put(tag, json.dumps({"layers": [layer]}).encode())
    found = look(home, tmp_path / "o", catalog=catalog)[known.name]
    assert (found.known_as, found.unused, found.new) == (known.name, True, True)
    assert found.card is not None
    assert (found.card.source, found.card.members) == (f"path:{blob}", ())
    assert (found.card.notice, found.card.prior, found.card.sha256) == ("Mind this.", {"*": 0.3}, digest)
    again = look(home, tmp_path / "o", catalog={known.name: found.card})[known.name]
    assert (again.known_as, again.new) == (known.name, False)
    put(home / "models" / known.filename, sound)
    here = look(home, tmp_path / "o", catalog=catalog)[known.name]
    assert (here.known_as, here.new, here.card) == (known.name, False, known)
    blob.write_bytes(sound[:-1] + b"x")
    (home / "models" / known.filename).unlink()
    assert look(home, tmp_path / "o", catalog=catalog)["gemma-270m"].known_as == "", "its name alone says it"


def test_only_a_file_that_may_be_a_known_one_is_hashed(
    home: Path, tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, hashed = hashlib.sha256(sound).hexdigest(), list[Path]()
    monkeypatch.setattr("sage.zoo.discover.sha256_of", hashed.append)
    known = replace(every_card(home)["gemma-3-270m"], sha256=digest, bytes=len(sound))
    link = tmp_path / "x.gguf"
    for name, size, read in (("0" * 64, 0, False), (digest, 1, False), (digest, 0, True)):
        link.unlink(missing_ok=True)
        link.symlink_to(blob := put(tmp_path / "blobs" / name, sound))
        look(home, link, catalog={known.name: replace(known, bytes=len(sound) + size)})
        assert hashed == [blob] * read


def test_a_find_that_contradicts_a_card_does_not_become_it(home: Path, tmp_path: Path) -> None:
    hf_folder(tmp_path / "Epistemic-Pragmatism")
    found = look(home, tmp_path)
    assert list(found) == ["epistemic-pragmatism-2"]
    card = found["epistemic-pragmatism-2"].card
    assert card is not None
    known = every_card(home)["epistemic-pragmatism"]
    assert "weights" in contradiction(card, known)
    alike = replace(card, parameters=known.parameters)
    assert contradiction(alike, known) == ""
    assert contradiction(replace(alike, parameters=int(known.parameters * 1.09)), known) == ""
    assert "llama" in contradiction(replace(alike, family="llama"), known)
    assert "llama_cpp" in contradiction(replace(alike, backend="llama_cpp"), known)


def test_a_licence_that_only_the_store_knows(home: Path, tmp_path: Path, gguf: Any) -> None:
    del gguf.metadata["general.license"]
    ollama(tmp_path, "library/tiny/latest", gguf.bytes(), license=b"\n  MIT License\n\nmore")
    card = look(home, tmp_path)["tiny"].card
    assert card is not None
    assert card.license == "MIT License"


def test_one_model_in_several_stores_is_named_once(home: Path, tmp_path: Path, sound: bytes) -> None:
    first = put(tmp_path / "a" / "tiny.gguf", sound)
    linked = tmp_path / "b" / "other name.gguf"
    linked.parent.mkdir()
    os.link(first, linked)
    copied = put(tmp_path / "c" / "tiny.gguf", sound)
    (tmp_path / "c" / "soft.gguf").symlink_to(first)
    found = look(home, tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert list(found) == ["tiny"]
    assert found["tiny"].also == (linked, tmp_path / "c" / "soft.gguf", copied)


def test_two_models_of_one_name_get_two_names(home: Path, tmp_path: Path, sound: bytes) -> None:
    put(tmp_path / "a" / "tiny.gguf", sound)
    put(tmp_path / "b" / "tiny.gguf", sound + bytes(32))
    assert list(look(home, tmp_path)) == ["tiny", "tiny-2"]


def test_broken_things_are_named_and_nothing_is_raised(home: Path, tmp_path: Path, gguf: Any) -> None:
    root = tmp_path / "m"
    put(root / "cut.gguf", gguf.bytes()[:-50])
    put(root / "noise.gguf", b"\xff" * 999)
    put(root / "empty.gguf", b"")
    (root / "gone.gguf").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.gguf")
    gguf.metadata["general.architecture"] = "clip"
    put(root / "mmproj.gguf", gguf.bytes())
    gguf.metadata |= {"general.architecture": "llama", "general.type": "adapter"}
    put(root / "lora.gguf", gguf.bytes())
    del gguf.metadata["llama.context_length"]
    gguf.metadata["general.type"] = "model"
    put(root / "endless.gguf", gguf.bytes())
    found = look(home, root)
    assert all(one.card is None for one in found.values())
    for name, why in {
        "cut": "cut short",
        "noise": "not a GGUF file",
        "empty": "not a GGUF file",
        "gone": "a link to nothing",
        "pipe": "not a regular file",
        "mmproj": "answer nothing",
        "lora": "adapter",
        "endless": "context_length",
    }.items():
        assert why in found[name].problem, name


def test_links_that_go_round_are_walked_once(home: Path, tmp_path: Path, sound: bytes) -> None:
    root = tmp_path / "m"
    put(root / "deep" / "tiny.gguf", sound)
    (root / "deep" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "deep")
    (root / "self").symlink_to(root / "self")
    assert list(look(home, root)) == ["tiny"]


def test_what_may_not_be_read_is_said(
    home: Path, tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "m" / "shut" / "tiny.gguf", sound)
    put(tmp_path / "m" / "open.gguf", sound)
    real = os.scandir

    def scandir(path: Any) -> Any:  # as root, permissions stop nobody
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    walk = Walk()
    assert list(look(home, tmp_path / "m", walk=walk)) == ["open"]
    assert walk.unread == [(tmp_path / "m" / "shut", "Permission denied")]


def test_split_files_are_one_model(home: Path, tmp_path: Path, sound: bytes) -> None:
    for number in (1, 2, 3):
        put(tmp_path / "m" / f"big-0000{number}-of-00003.gguf", sound)
    put(tmp_path / "m" / "half-00002-of-00002.gguf", sound)
    found = look(home, tmp_path / "m")
    assert set(found) == {"big", "half"}
    assert found["big"].bytes == 3 * len(sound)
    assert "3 parts" in found["big"].problem
    assert "--merge big-00001-of-00003.gguf" in found["big"].problem
    assert found["half"].problem == "1 of its 2 parts are missing"


def test_folders_that_may_hold_code_are_refused(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    put(root / "pickled" / "pytorch_model.bin", b"x")
    put(root / "pickled" / "config.json", b"{}")
    hf_folder(root / "remote", {"auto_map": {"AutoModel": "x.py"}})
    hf_folder(root / "strange", {"model_type": "nothing_known"})
    hf_folder(root / "squeezed", {"quantization_config": {"bits": 4, "quant_method": "awq"}})
    hf_folder(root / "torn")
    (root / "torn" / "config.json").write_text("{")
    hf_folder(root / "lying")
    (root / "lying" / "model.safetensors").write_bytes(b"\xff" * 64)
    hf_folder(root / "sound", tokenizer_config__json="{}")
    found = look(home, root)
    assert "can run code" in found["pickled"].problem
    assert "awq" in found["squeezed"].problem
    assert "code of its own" in found["remote"].problem
    assert "nothing_known" in found["strange"].problem
    assert "config.json" in found["torn"].problem
    assert "model.safetensors" in found["lying"].problem
    card = found["sound"].card
    assert card is not None
    assert (card.parameters, card.bits, card.bytes, card.context_length) == (
        40,
        16.0,
        (root / "sound" / "model.safetensors").stat().st_size,
        4096,
    )
    assert card.prompt_style == "qa"


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        ({"torch_dtype": "float32"}, 32.0),
        ({"dtype": "float16", "torch_dtype": None}, 16.0),
        ({"torch_dtype": "odd"}, 0.0),
        ({"torch_dtype": ["odd"]}, 0.0),
    ],
)
def test_the_bits_that_a_configuration_claims(
    config: Mapping[str, Any], bits: float, home: Path, tmp_path: Path
) -> None:
    card = look(home, hf_folder(tmp_path / "m", config))["m"].card
    assert card is not None
    assert (card.bits, card.context_length) == (bits, 4096)


def test_of_a_model_of_several_parts_the_text_counts(home: Path, tmp_path: Path) -> None:
    config = {
        "model_type": "qwen3_omni_moe",
        "talker_config": {"text_config": {"max_position_embeddings": 1}},
        "thinker_config": {"text_config": {"max_position_embeddings": 65536, "dtype": "float16"}},
    }
    folder = hf_folder(tmp_path / "m")
    put(folder / "config.json", json.dumps(config).encode())
    card = look(home, folder)["m"].card
    assert card is not None
    assert (card.context_length, card.bits) == (65536, 16.0)
    del config["thinker_config"]
    put(folder / "config.json", json.dumps(config).encode())
    assert "max_position_embeddings" in look(home, folder)["m"].problem


def test_an_adapter_finds_its_base(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    weights = safetensors({"lora_A": ("F32", [2, 4], 32)})
    for name, base in (
        ("Introspective-Qwen-0.5B-v2.1/model", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("mine", "/data/Qwen2.5-0.5B-Instruct/"),
        ("lost", "somebody/unknown"),
    ):
        put(root / name / "adapter_model.safetensors", weights)
        config = {"base_model_name_or_path": base, "peft_type": "LORA"}
        put(root / name / "adapter_config.json", json.dumps(config).encode())
    catalog = every_card(home)
    name = "introspective-qwen-0.5b-v2.1"
    found = look(home, root, catalog=catalog | {name: replace(catalog[name], parameters=8)})
    origin = found[name].card
    assert origin is not None
    assert origin.source == f"path:{root}/Introspective-Qwen-0.5B-v2.1/model"
    assert origin.notice, "the card of the catalogue, with its warning"
    assert {c.base for n in ("mine",) if (c := found[n].card)} == {"qwen2.5-0.5b-instruct"}
    assert "somebody/unknown" in found["lost"].problem


def test_a_find_with_a_name_of_the_catalogue_becomes_that_model(home: Path, tmp_path: Path) -> None:
    hf_folder(tmp_path / "Qwen3-Omni-30B-fp4")
    card = look(home, tmp_path)["qwen3-omni-30b-fp4"].card
    assert card is not None
    assert "metadata only" in card.unfit
    assert (card.bits, card.parameters, card.bytes > 0) == (4.0, 40, True)


def test_added_cards_are_known_the_next_time(home: Path, tmp_path: Path, sound: bytes) -> None:
    path = put(tmp_path / "m" / "tiny.gguf", sound)
    card = look(home, path)["tiny"].card
    assert card is not None
    add_user_card(home, replace(card, name="mine"))
    assert load_catalog(home)["mine"].source == f"path:{path}"


def test_nothing_is_written(home: Path, tmp_path: Path, sound: bytes) -> None:
    root = tmp_path / "m"
    put(root / "tiny.gguf", sound)
    snapshot(root / "hub", "o/r", {"x.gguf": sound})
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))
    look(home, root, root / "hub")
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_tens_of_thousands_of_files_are_bounded_and_reported(
    home: Path, tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        folder = tmp_path / "m" / f"{number:02}"
        folder.mkdir(parents=True)
        for file in range(500):
            os.close(os.open(folder / f"{file}.txt", os.O_CREAT))
    put(tmp_path / "m" / "19" / "tiny.gguf", sound)
    counts = list[int]()
    started = time.perf_counter()
    assert list(look(home, tmp_path / "m", walk=Walk(on_progress=lambda n, _: counts.append(n)))) == ["tiny"]
    assert time.perf_counter() - started < 5, "10,000 files"
    assert counts == sorted(counts)
    assert counts[-1] == 20 + 20 * 500 + 1
    monkeypatch.setattr("sage.zoo.stores.MOST_ENTRIES", 1000)
    walk = Walk()
    assert look(home, tmp_path / "m", walk=walk) == {}
    assert walk.cut_short


def test_no_more_headers_are_read_than_anyone_can_wait_for(
    home: Path, tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sage.zoo.discover.MOST_MODELS", 2)
    for number in range(3):
        put(tmp_path / "m" / f"{number}.gguf", sound + bytes(32 * number))
    walk = Walk()
    assert len(look(home, tmp_path / "m", walk=walk)) == 2
    assert walk.cut_short == [tmp_path / "m"]


def test_where_stores_are_looked_for(tmp_path: Path) -> None:
    for folder in (".cache/huggingface/hub", ".ollama/models", ".lmstudio/models", ".cache/lm-studio/models"):
        (tmp_path / folder).mkdir(parents=True)
    roots = [place.root for place in known_places({}, tmp_path) if place.root.is_relative_to(tmp_path)]
    assert [str(root.relative_to(tmp_path)) for root in roots] == [
        ".cache/huggingface/hub",
        ".ollama/models",
        ".lmstudio/models",
        ".cache/lm-studio/models",
    ]
    for name in ("h/hub", "c", "o"):
        (tmp_path / name).mkdir(parents=True)
    moved = {"HF_HOME": str(tmp_path / "h"), "OLLAMA_MODELS": str(tmp_path / "o")}
    roots = [place.root for place in known_places(moved, tmp_path)]
    assert roots[:2] == [tmp_path / "h" / "hub", tmp_path / "o"]
    moved["HF_HUB_CACHE"] = str(tmp_path / "c")
    assert known_places(moved, tmp_path)[0] == Place(
        store="Hugging Face", layout="hugging face", root=tmp_path / "c"
    )


@pytest.mark.parametrize(
    ("text", "name"), [("A b/C", "a-b-c"), ("..x", "x"), ("日本", "model"), ("y" * 200, "y" * 100)]
)
def test_names_that_cards_may_have(text: str, name: str) -> None:
    assert plain_name(text) == name
