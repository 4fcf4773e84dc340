"""What a text is about, by a small sentence model: all-MiniLM-L6-v2 with int8 weights, on onnxruntime.

Owns: the model's file, its tokenizer, pooling. Must not know: how the file arrives, what the vectors are for.

Mean pooling over the tokens and unit length, as the model was trained
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2). The file is the ONNX model with its
tokenizer.json behind it, joined when it is pulled: one rename puts both in place, one hash covers both.

The int8 weights are widened to float when the model is loaded, so batches save nothing (measured: 22 ms of
processor time for 77 tokens, alone as well as among 8). Each text goes through alone, without padding: its
vector is the same whatever else is asked. Many texts share the cores instead.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sage.errors import BackendMissing, SageError, UnsafeFile, WeightsMissing
from sage.hardware.probe import usable_cores

__all__ = ["MINILM_VIEWS", "MiniLM", "minilm_path", "why_no_minilm"]

WIDTH = 384
MINILM_VIEWS: Mapping[str, int] = MappingProxyType({"minilm": WIDTH})
"""Name and width of the one view."""

SHA256 = "20a8733fdbd3ac8eef7c9883f09daa691a883647ec2a82a0eda21eb5f7609942"
ONNX_BYTES = 22_928_619
"""Hash of the joined file and length of its first part. Pinned as on the card, because the shipped centroids
mean nothing under another export."""

MAX_TOKENS = 128
"""About 500 characters; the rest of a longer text is not seen. The model could read twice as many, in twice
the time; choices are no better for it (docs/lab.md)."""

LONGEST = 16_000
"""Characters that reach the tokenizer: enough for 128 tokens, and never a megabyte."""

INSTALL = "pip install 'sage-kernel[embed]'"
PULL = "sage models pull minilm"

Floats = npt.NDArray[np.float32]


def minilm_path(home: Path) -> Path:
    """Where ``sage models pull minilm`` puts the file."""
    return home / "models" / "minilm.onnx-tokenizer"


def why_no_minilm(home: Path) -> str:
    """What is missing, and the command that mends it; empty when nothing is (about 20 ms, for the hash)."""
    try:
        _read(home)
    except SageError as error:
        return f"{error.message}: {error.mend}"
    return ""


def _read(home: Path) -> bytes:
    """The joined file.

    Raises:
        BackendMissing: a library is not installed. WeightsMissing: there is no file.
        UnsafeFile: it is another file.
    """
    for library in ("onnxruntime", "tokenizers"):
        if find_spec(library) is None:
            raise BackendMissing(f"{library} is not installed", mend=INSTALL)
    try:
        whole = minilm_path(home).read_bytes()
    except FileNotFoundError as error:
        raise WeightsMissing("the embedding model is not on this machine", mend=PULL) from error
    except OSError as error:
        raise WeightsMissing(f"the embedding model cannot be read ({error.strerror})", mend=PULL) from error
    if hashlib.sha256(whole).hexdigest() != SHA256:
        raise UnsafeFile("the embedding model's file is damaged", mend=PULL)
    return whole


class MiniLM:
    """The view ``minilm``. Loaded at the first text (0.3 s, about 215 MB); several threads may use it."""

    name = "minilm"
    views = MINILM_VIEWS

    def __init__(self, home: Path, *, threads: int | None = None) -> None:
        """``threads`` work on many texts; as many as there are cores to use, if left out."""
        self._home = home
        self._threads = threads or usable_cores()
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, frozenset[str]] | None = None

    def embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        """``minilm`` (n, 384), unit rows; an empty text is a zero row.

        Raises:
            BackendMissing, WeightsMissing, UnsafeFile: at the first text, if the model cannot be loaded.
        """
        if len(texts) < 2 or self._threads == 1:
            rows = [self._one(text) for text in texts]
        else:
            self._engine()
            with ThreadPoolExecutor(self._threads) as pool:
                rows = list(pool.map(self._one, texts))
        return {"minilm": np.array(rows, np.float32).reshape(len(texts), WIDTH)}

    def tokens(self, text: str) -> tuple[list[str], Floats]:
        """The pieces of a text and what each means where it stands, (n, 384), without the marks of beginning
        and end; none for an empty text. Raises: see :meth:`embed`."""
        hidden, encoded = self._hidden(text)
        return (list(encoded.tokens[1:-1]), hidden[1:-1]) if len(hidden) else ([], hidden)

    def _one(self, text: str) -> Floats:
        hidden, _ = self._hidden(text)
        if not len(hidden):
            return np.zeros(WIDTH, np.float32)
        mean = hidden.mean(0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)

    def _hidden(self, text: str) -> tuple[Floats, Any]:
        tokenizer, session, wanted = self._engine()
        plain = text[:LONGEST].encode("utf-8", "replace").decode("utf-8")
        if not plain.strip():
            return np.zeros((0, WIDTH), np.float32), None
        encoded = tokenizer.encode(plain)
        ids = np.array([encoded.ids], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {key: value for key, value in inputs.items() if key in wanted})[0]
        return np.asarray(hidden[0], np.float32), encoded

    def _engine(self) -> tuple[Any, Any, frozenset[str]]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(_read(self._home))
            return self._loaded


def _load(whole: bytes) -> tuple[Any, Any, frozenset[str]]:
    """Tokenizer, session and the names of its inputs.

    Raises:
        BackendMissing: a library is there but cannot be loaded.
    """
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BackendMissing(
            f"the embedding model's libraries do not load ({error})", mend=INSTALL
        ) from error
    options = onnxruntime.SessionOptions()
    # More threads for one text spin against the language model's and gain little on a text this short.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it saves no time here and keeps 20 MB
    session = onnxruntime.InferenceSession(whole[:ONNX_BYTES], options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_str(whole[ONNX_BYTES:].decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer, session, frozenset(each.name for each in session.get_inputs())
