"""Hugging Face folders and GGUF files through transformers and torch, inside a worker process.

Owns: how a model is loaded there, asked, and made to score; LoRA adapters on top of it, through peft.
Must not know: which model should answer, or what the answer is for.

Weights are vetted here once more, just before they are loaded: they may have changed since somebody looked.
The libraries see only the files of a folder that vetting accepts (``sage.zoo.folder``). No code that comes
with a model is ever run, only safetensors are loaded, and nothing goes to the network. A chat template is a
program too: it is run in the sandbox of transformers, in this process, for a second at most.
"""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "USE_HUB_KERNELS": "NO",
    "TOKENIZERS_PARALLELISM": "false",
}

# The libraries read the environment when they are imported.
import torch
import transformers
from transformers import StoppingCriteriaList

from sage.errors import (
    BackendMissing,
    ContextTooLong,
    Interrupted,
    LoadFailed,
    SageError,
    UnsafeFile,
    UsageError,
)
from sage.types import Completion, GenerationRequest, Message
from sage.zoo.backends import EngineOptions, OnText, Score
from sage.zoo.backends.base_model import QA_STOP, qa_prompt
from sage.zoo.estimate_torch import PREFILL, loads_as_bf16
from sage.zoo.folder import ADAPTER_KEYS, only_accepted, vet_folder
from sage.zoo.vet import vet_gguf

__all__ = ["TransformersEngine"]

TEMPLATE_S = 1.0
"""A chat template takes well under a millisecond."""

SAMPLING = {"top_k": 40, "top_p": 0.95, "min_p": 0.05}
"""What llama.cpp does where nothing else is asked for, so that the same model answers alike in both."""


class TransformersEngine:
    """Implements ``Engine``, ``OnDevice`` and ``Scorer``. One generation at a time.

    ``extra["base"]`` is the path of the base model where ``path`` is a LoRA adapter.
    """

    def __init__(self, options: EngineOptions) -> None:
        torch.set_num_threads(options.threads)
        quiet: Any = transformers.utils.logging
        quiet.set_verbosity_error()
        quiet.disable_progress_bar()
        base = options.extra.get("base")
        path = Path(base) if base else options.path
        _vet(path, adapter=False)
        if base:
            _vet(options.path, adapter=True)
        try:
            with _as_seen(path) as seen:
                self._tokenizer = _load_tokenizer(seen)
                model = _load_model(seen)
            self._model = _with_adapter(model, options.path) if base else model
        except (ImportError, SageError):
            raise
        except Exception as error:
            raise LoadFailed(f"transformers could not load {path.name}: {error}"[:500]) from error
        self._model.eval()
        self._context = options.context
        self._chat = options.prompt_style == "chat" and bool(self._tokenizer.chat_template)
        self._ends = _end_tokens(model, self._tokenizer)
        # generate() would take what it is not told from the folder: penalties, forced tokens, other samplers.
        model.generation_config = _settings()
        # A recurrent state cannot be read in pieces, nor shared between continuations.
        self._recurrent = bool(getattr(model, "_is_stateful", False))

    def generate(self, request: GenerationRequest, on_text: OnText) -> Completion:
        if request.schema is not None:
            raise BackendMissing(
                "The backend transformers cannot keep an answer to a schema",
                mend="Use a GGUF file of this model, which llama.cpp runs",
            )
        prompt = self._prompt(request.messages)
        room = self._room(len(prompt))
        stops = request.stop if self._chat else (*request.stop, *QA_STOP)
        stream = _Stream(self._tokenizer, self._ends, stops, on_text)
        if request.max_tokens < 1:
            return Completion(text="", prompt_tokens=len(prompt), completion_tokens=0, finish_reason="length")
        warm = request.temperature > 0
        if warm and request.seed is None:
            torch.seed()
        elif warm:
            torch.manual_seed(request.seed)
        ids = torch.tensor([prompt], device=self._model.device)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=_settings(
                    max_new_tokens=min(request.max_tokens, room),
                    do_sample=warm,
                    eos_token_id=self._ends or None,
                    pad_token_id=self._ends[0] if self._ends else 0,
                    prefill_chunk_size=None if self._recurrent else PREFILL,
                    **({"temperature": request.temperature, **SAMPLING} if warm else {}),
                ),
                logits_processor=[stream.see],
                stopping_criteria=StoppingCriteriaList([stream.take]),
            )
        return stream.completion(len(prompt))

    def score(
        self, prompt: str, continuations: Sequence[str], should_stop: Callable[[], bool]
    ) -> tuple[Score, ...]:
        start = self._encode(prompt)
        wholes = [self._encode(prompt + text) for text in continuations]
        for whole in wholes:
            self._room(len(whole))
        # What every text shares is read once. At least one token of it stays: its output is the first score.
        shared = 0 if self._recurrent else max(0, min((_common(start, w) for w in wholes), default=0) - 1)
        scores: list[Score] = []
        with torch.inference_mode():
            cache = self._read(start[:shared]) if shared else None
            for whole in wholes:
                if should_stop():
                    raise Interrupted("Stopped while texts were scored.")
                scores.append(self._score(whole, _common(start, whole), shared, cache))
        return tuple(scores)

    def device_bytes(self) -> int:
        # What is reserved is kept for the next answer; the driver's own part, some 100 MB, is not seen here.
        return int(torch.cuda.memory_reserved()) if self._model.device.type == "cuda" else 0

    def _score(self, whole: list[int], begin: int, shared: int, cache: Any) -> Score:
        """The log probability of ``whole[begin:]``; ``cache`` holds the first ``shared`` tokens."""
        begin = max(begin, 1)  # nothing says how likely the first token of all is
        count = len(whole) - begin
        if count < 1:
            return Score(logprob=0.0, tokens=0)
        ids = torch.tensor([whole[shared:]], device=self._model.device)
        output = self._model(
            input_ids=ids,
            past_key_values=copy.deepcopy(cache),
            use_cache=cache is not None,
        )
        logits = output.logits[0, begin - 1 - shared : len(whole) - 1 - shared].float()
        chosen = torch.tensor(whole[begin:], device=ids.device)
        found = logits.log_softmax(-1).gather(-1, chosen[:, None])
        return Score(logprob=float(found.sum()), tokens=count)

    def _read(self, ids: list[int]) -> Any:
        """The cache after these tokens, read in pieces as a prompt is."""
        cache = None
        for at in range(0, len(ids), PREFILL):
            piece = torch.tensor([ids[at : at + PREFILL]], device=self._model.device)
            output = self._model(input_ids=piece, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
        return cache

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        # Some tokenizers close every text; here it goes on.
        while len(ids) > 1 and ids[-1] in self._ends:
            ids = ids[:-1]
        return ids

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        if not self._chat:
            return self._encode(qa_prompt(messages))
        try:
            text = self._render(messages)
        except UsageError:
            # Some templates know no system message; llama.cpp folds it into the first question too.
            if not messages or messages[0].role != "system":
                raise
            text = self._render(_without_system(messages))
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _render(self, messages: Sequence[Message]) -> str:
        talk = [{"role": m.role, "content": m.content} for m in messages]
        try:
            with _at_most(TEMPLATE_S):
                text: str = self._tokenizer.apply_chat_template(
                    talk, add_generation_prompt=True, tokenize=False
                )
        except Exception as error:
            raise UsageError(f"The chat template refused the conversation: {error}"[:300]) from error
        return text

    def _room(self, tokens: int) -> int:
        """How many tokens still fit behind these."""
        if tokens >= self._context:
            raise ContextTooLong(
                f"The prompt takes {tokens} tokens, the context holds {self._context}.",
                mend="Shorten the prompt, or raise models.context",
            )
        return self._context - tokens


class _Stream:
    """Turns tokens into text as they come; stops at a stop string or when nobody listens any more."""

    def __init__(self, tokenizer: Any, ends: Sequence[int], stops: Sequence[str], on_text: OnText) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._ends = set(ends)
        self._stops = tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._text = ""
        self._said = 0
        self._finish = ""
        self._row: Any = None

    def see(self, _ids: Any, scores: Any) -> Any:
        """Keeps the model's own figures, before a sampler changes them."""
        self._row = scores[0]
        return scores

    def take(self, ids: Any, _scores: Any, **_: Any) -> Any:
        """One more token; true ends the generation."""
        token = int(ids[0, -1])
        if token in self._ends:
            self._finish = "stop"
        else:
            self._ids.append(token)
            self._logprobs.append(float(self._row.float().log_softmax(-1)[token]))
            self._advance(last=False)
        return torch.tensor([bool(self._finish)], device=ids.device)

    def _advance(self, *, last: bool) -> None:
        """Hand over the text that is sure: no half character, and nothing that may begin a stop string."""
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            text, self._finish = text[: min(found)], "stop"
        sure = len(text)
        if not (found or last):
            sure = len(text.rstrip("\ufffd"))
            sure -= max((_overlap(text[:sure], stop) for stop in self._stops), default=0)
        self._text = text
        if sure > self._said:
            piece, self._said = text[self._said : sure], sure
            if self._on_text(piece) and not self._finish:
                self._finish = "cancelled"

    def completion(self, prompt_tokens: int) -> Completion:
        if self._finish != "cancelled":
            ended = self._finish
            self._advance(last=True)
            self._finish = ended or "length"
        return Completion(
            text=self._text[: self._said].strip(),
            prompt_tokens=prompt_tokens,
            completion_tokens=len(self._ids),
            finish_reason=self._finish,
            logprobs=tuple(self._logprobs),
        )


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens the two begin with alike."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _without_system(messages: Sequence[Message]) -> list[Message]:
    system, *rest = messages
    for at, message in enumerate(rest):
        if message.role == "user":
            rest[at] = Message(role="user", content=f"{system.content}\n\n{message.content}")
            break
    return rest


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside after so many seconds. On the main thread only, where a worker serves."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("it takes too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _vet(path: Path, *, adapter: bool) -> None:
    """Reads headers and settings only (10 to 100 ms). Raises UnsafeFile, WeightsMissing, BackendMissing."""
    if not path.is_dir():
        _where(path)  # a library that is lacking is named first
        vet_gguf(path)
    elif vet_folder(path).adapter != adapter:
        what = "no adapter" if adapter else "an adapter, not a whole model"
        raise UnsafeFile(
            f"{path.name} holds {what}, unlike its card", mend="sage models discover --add FOLDER"
        )


def _as_seen(path: Path) -> AbstractContextManager[Path]:
    """Where the libraries are sent: a file as it is, of a folder what is accepted."""
    return only_accepted(path) if path.is_dir() else nullcontext(path)


def _where(path: Path) -> tuple[str, dict[str, Any]]:
    if path.is_dir():
        return str(path), {"local_files_only": True}
    if find_spec("gguf") is None:
        raise BackendMissing("GGUF files are read by torch through gguf", mend="pip install gguf")
    return str(path.parent), {"local_files_only": True, "gguf_file": path.name}


def _settings(**settings: Any) -> Any:
    kind: Any = transformers.GenerationConfig  # which has no types
    return kind(**settings)


def _load_tokenizer(path: Path) -> Any:
    folder, how = _where(path)
    return transformers.AutoTokenizer.from_pretrained(folder, **how)


def _load_model(path: Path) -> Any:
    folder, how = _where(path)
    gpu = torch.cuda.is_available()
    how["dtype"] = torch.bfloat16 if gpu or loads_as_bf16() else torch.float32
    if gpu:
        how["device_map"] = {"": "cuda"}
    if path.is_dir():
        how["use_safetensors"] = True
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type == "qwen3_omni_moe":
            # The part that reads and writes text; the one that speaks stays on disk.
            thinker = transformers.Qwen3OmniMoeThinkerForConditionalGeneration
            return thinker.from_pretrained(folder, config=config.thinker_config, **how)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **how)


def _with_adapter(model: Any, path: Path) -> Any:
    import peft

    settings: Mapping[str, Any] = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    kept = {
        key: value for key, value in settings.items() if key in ADAPTER_KEYS - {"peft_type", "peft_version"}
    }
    config = peft.LoraConfig(**kept | {"inference_mode": True})
    with only_accepted(path) as seen:
        return peft.PeftModel.from_pretrained(model, str(seen), config=config, local_files_only=True)


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: a chat model often has two, and its tokenizer names one."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = [*named] if isinstance(named, list | tuple) else [named]
    return sorted({int(end) for end in (*ends, tokenizer.eos_token_id) if end is not None})
