"""A folder as Hugging Face's libraries write it: what it holds, and whether it is safe to load.

Owns: which files count, their limits, and every reason to refuse one. Must not know: how it will run.

Nothing in the folder is run and only safetensors are read as weights: other formats are programs in disguise.
Files of code are ignored, and so are an adapter's settings beside whole weights: a library gets only the
files that count, through ``only_accepted``. What names code (``auto_map``) or anything else that is not on
the list refuses the folder. Links are followed: the cache of the hub is made of them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sage.errors import BackendMissing, UnsafeFile, WeightsMissing
from sage.zoo.config_keys import check_config, check_no_code
from sage.zoo.safetensors_header import StoredTensor, vet_safetensors

__all__ = ["Folder", "accepted_files", "only_accepted", "vet_folder", "wanted", "weight_files"]

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TEMPLATES = "additional_chat_templates"
INDEX = "model.safetensors.index.json"

MIB = 1 << 20
JSON_FILES = {
    "config.json": MIB,
    "generation_config.json": MIB,
    ADAPTER: MIB,
    "tokenizer_config.json": 8 * MIB,
    "special_tokens_map.json": MIB,
    "added_tokens.json": 8 * MIB,
    "chat_template.json": MIB,
}
"""Read here whole, and by the libraries again. Sizes in bytes."""

OTHER_FILES = {
    "tokenizer.json": 64 * MIB,
    "vocab.json": 64 * MIB,
    "merges.txt": 64 * MIB,
    "tokenizer.model": 64 * MIB,
    "chat_template.jinja": MIB,
    INDEX: 16 * MIB,
}
"""Read by the libraries only, but for the index. The largest vocabularies of today take 35 MB."""

MAX_SHARDS = 4096
UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl")

ADAPTER_KEYS = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias", "lora_dropout",
    "modules_to_save", "peft_type", "peft_version", "r", "rank_pattern", "revision", "target_modules",
    "task_type", "use_dora", "use_rslora",
})  # fmt: skip
"""Other keys must be empty: some of them import a module or fetch one."""

ADAPTER_DEFAULTS = {"megatron_core": "megatron.core", "ensure_weight_tying": False, "qalora_group_size": 16}
"""What the library writes into every adapter, with no effect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What a folder says of itself, checked. Sizes are bytes.

    ``config`` is ``config.json``, or of an adapter (``adapter``) its ``adapter_config.json``. ``chat``: it
    brings a chat template. ``tokenizer_bytes`` is the size of its vocabulary's files.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]
    weight_bytes: int
    tokenizer_bytes: int = 0
    chat: bool = False
    adapter: bool = False

    @property
    def context_length(self) -> int:
        """The tokens it can hold.

        Raises:
            UnsafeFile: it does not say, or not in a way that can be.
        """
        config = self.config.get("thinker_config") or self.config
        config = config.get("text_config") or config
        length = config.get("max_position_embeddings", config.get("n_positions"))
        if not isinstance(length, int) or isinstance(length, bool) or not 0 < length < 1 << 31:
            raise UnsafeFile(f"{self.path.name}/config.json: max_position_embeddings is {length!r:.40}")
        return length


def wanted(name: str) -> bool:
    """Whether a file of this name is of any use here: nothing else is fetched."""
    safe = name.endswith(".safetensors") and not name.startswith("consolidated")
    return "/" not in name and (safe or name in JSON_FILES or name in OTHER_FILES)


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files that hold a folder's weights, by their names alone; empty where there are none."""
    for name in (ADAPTER_WEIGHTS, "model.safetensors"):
        if os.path.exists(f"{path}/{name}"):
            return (path / name,)
    return tuple(sorted(path.glob("model-*.safetensors"))) if (path / INDEX).exists() else ()


def accepted_files(path: Path) -> tuple[str, ...]:
    """The names, in the folder, of everything that may be read when it is loaded: all that vetting looks at.
    Empty where there are no weights. Takes microseconds a file.

    The settings of an adapter count where its weights do: beside a whole model the libraries would follow
    them to some other model. An index counts where the weights are in shards.
    """
    weights = [file.name for file in weight_files(path)]
    if not weights:
        return ()
    unread = {ADAPTER} if weights[0] != ADAPTER_WEIGHTS else set()
    if not weights[0].startswith("model-"):
        unread.add(INDEX)
    named = [name for name in (*JSON_FILES, *OTHER_FILES) if name not in unread]
    here = [name for name in named if os.path.lexists(f"{path}/{name}")]
    more: list[str] = []
    with suppress(OSError):  # what cannot be listed is not linked to either
        more = sorted(os.listdir(f"{path}/{TEMPLATES}"))
    return (*weights, *here, *(f"{TEMPLATES}/{name}" for name in more))


@contextmanager
def only_accepted(path: Path) -> Iterator[Path]:
    """A folder of links to the accepted files and nothing else, for a library that looks around in what it is
    given. It is gone afterwards; what was opened through it stays open."""
    with TemporaryDirectory(prefix="sage-") as name:
        view = Path(name)
        (view / TEMPLATES).mkdir()
        for file in accepted_files(path):
            (view / file).symlink_to((path / file).absolute())
        yield view


def vet_folder(path: Path) -> Folder:
    """What is in the folder, if all of it is as it should be. Takes milliseconds a shard.

    Raises:
        UnsafeFile: something is not; says what. WeightsMissing: there is no such folder.
        BackendMissing: its weights are in a format that nothing here can compute with.
    """
    if not path.is_dir():
        raise WeightsMissing(f"There is no folder {path}")
    files = weight_files(path)
    if not files:
        raise _no_weights(path)
    _check_files(path)
    shards = [vet_safetensors(file) for file in files]
    names = [tensor.name for shard in shards for tensor in shard.tensors]
    if len(set(names)) < len(names):
        raise UnsafeFile(f"{path.name}: two of its files hold the same tensor")
    adapter = files[0].name == ADAPTER_WEIGHTS
    config = _json(path / (ADAPTER if adapter else "config.json"))
    if adapter:
        _check_adapter(config)
    else:
        _check_shards(path, files)
        _check_runnable(config)
        check_config(config)
    tokenizer = _json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").exists() else {}
    return Folder(
        path=path,
        config=config,
        tensors=tuple(tensor for shard in shards for tensor in shard.tensors),
        weight_bytes=sum(shard.file_bytes for shard in shards),
        tokenizer_bytes=_tokenizer_bytes(path, needed=not adapter),
        chat=bool(tokenizer.get("chat_template"))
        or any((path / f"chat_template.{kind}").exists() for kind in ("jinja", "json")),
        adapter=adapter,
    )


def _check_files(path: Path) -> None:
    """Every file that the libraries would read is a file, small enough, and names no code."""
    limits = JSON_FILES | OTHER_FILES
    for name in accepted_files(path):
        if name.endswith(".safetensors"):
            continue  # looked at on its own
        limit = limits.get(name, MIB)
        try:
            found = os.stat(path / name)
        except OSError as error:
            raise UnsafeFile(f"{path.name}/{name} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            raise UnsafeFile(f"{path.name}/{name} is no file of at most {limit} bytes")
        if name in JSON_FILES:
            check_no_code(_json(path / name), f"{path.name}/{name}")
    settings = _json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").exists() else {}
    for key, value in settings.items():
        # These would make the library read some other file in place of the folder's own.
        if key.endswith("_file") and value is not None:
            raise UnsafeFile(f"{path.name}/tokenizer_config.json names a file: {key} = {value!r:.60}")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnsafeFile(f"{path.parent.name} has no {path.name}", mend="Get the folder again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnsafeFile(f"{path.parent.name}/{path.name} is not JSON") from error
    if not isinstance(value, dict):
        raise UnsafeFile(f"{path.parent.name}/{path.name} is not a table")
    return value


def _no_weights(path: Path) -> UnsafeFile | WeightsMissing:
    if any(file.suffix in UNSAFE for file in path.iterdir()):
        return UnsafeFile(
            f"{path.name} has weights in a format that can run code when it is read, and no safetensors",
            mend="Get the safetensors of this model, or a GGUF file of it",
        )
    return WeightsMissing(f"{path.name} has no model.safetensors")


def _check_shards(path: Path, files: tuple[Path, ...]) -> None:
    if files[0].name == "model.safetensors":
        return
    named = _json(path / INDEX).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise UnsafeFile(f"{path.name}/{INDEX} has no weight_map")
    expected, here = set(named.values()), {file.name for file in files}
    if expected != here or len(here) > MAX_SHARDS:
        odd = ", ".join(sorted(expected ^ here)[:3])
        raise UnsafeFile(f"{path.name}/{INDEX} names other files than there are: {odd:.200}")


def _check_runnable(config: Mapping[str, Any]) -> None:
    packed = config.get("quantization_config") or config.get("compression_config")
    if packed:
        method = packed.get("quant_method") if isinstance(packed, dict) else packed
        raise BackendMissing(
            f"its weights are quantized ({method!r:.40}), which needs a library that is not used here",
            mend="Use the unquantized weights, or a GGUF file of this model",
        )


def _check_adapter(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise UnsafeFile(f"{ADAPTER}: {config.get('peft_type')!r:.40} is not LORA, the only kind known here")
    for key, value in config.items():
        if value and key not in ADAPTER_KEYS and ADAPTER_DEFAULTS.get(key) != value:
            if key == "auto_mapping" and config.get("task_type"):
                continue  # names the class it was trained on; never passed on
            raise UnsafeFile(
                f"{ADAPTER} has {key!r:.60}, which is not on the list of what may be passed on",
                mend="Remove it where you know that the adapter works without it",
            )


def _tokenizer_bytes(path: Path, *, needed: bool) -> int:
    for names in (("tokenizer.json",), ("vocab.json", "merges.txt")):
        if all((path / name).exists() for name in names):
            return sum((path / name).stat().st_size for name in names)
    if needed:
        raise UnsafeFile(f"{path.name} has no tokenizer.json", mend="Get the folder again, whole")
    return 0
