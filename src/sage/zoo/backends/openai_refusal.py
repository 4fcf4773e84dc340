"""What a server of models says when it does not answer, as our errors.

Owns: statuses, error objects and Retry-After. Must not know: how they arrived, or what an answer is.
What a server says is repeated shortened, in one line, and without the key that was sent to it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from sage.errors import ContextTooLong, RateLimited, RemoteFailed, SageError, UsageError

__all__ = ["LOOK", "Refusals", "retry_after_s"]

LOOK = "Look at that server's log: the fault is on its side"

SAID = 300
"""Characters of a server's own words that are repeated."""

LONGEST_WAIT_S = 86_400.0

CONTEXT_TYPES = ("context_length_exceeded", "exceed_context_size_error")
CONTEXT_WORDS = re.compile(r"context.{0,12}(length|size|window)|prompt is too long|input is too long", re.I)
"""vLLM and others tell of a prompt that is too long in words alone."""


def retry_after_s(value: str, now: float | None = None) -> float:
    """Seconds from a Retry-After header: a number, or an HTTP date; 0 where it says nothing sensible.

    At most a day, whatever the header says. Source: RFC 9110, 10.2.3.
    """
    value = value.strip()
    if re.fullmatch(r"\d{1,15}(\.\d{1,6})?", value):  # some servers send fractions
        return min(float(value), LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, until - (time.time() if now is None else now)), LONGEST_WAIT_S)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusals:
    """Makes errors of one server's words. ``key`` is blotted out of them, should the server repeat it."""

    url: str
    key_env: str = ""
    key: str = ""

    def failed(self, what: str, *, mend: str = "", silent_s: float = 0.0) -> RemoteFailed:
        """A failure of the server, told in our words with some of its own."""
        return RemoteFailed(f"{self.url} {self._clean(what)}", mend=mend, silent_s=silent_s)

    def of_status(self, status: int, headers: Mapping[str, str], body: bytes, *, schema: bool) -> SageError:
        """The error of an answer that is not 200. ``schema``: the request asked for one."""
        code, words = _read(body)
        if 300 <= status < 400:
            return self.failed(
                f"sends its callers elsewhere (status {status}), and that is not followed",
                mend="Put the final address on the card",
            )
        if status in (401, 403):
            what = "Put the key into a variable, and name that: sage models add ... --key-env VARIABLE"
            what = f"Check the key in {self.key_env}" if self.key_env else what
            return self.failed(f"refused the key (status {status}): {words}", mend=what)
        if status == 429 or (status == 503 and "retry-after" in headers):
            wait = retry_after_s(headers.get("retry-after", ""))
            when = f"for {wait:.0f} s" if wait else "for a while"
            return RateLimited(
                f"{self.url} asks not to be asked {when}: {self._clean(words)}",
                mend="Wait, or choose another model",
                retry_after_s=wait,
            )
        if status == 413 or (status < 500 and _too_long(code, words)) or code in CONTEXT_TYPES:
            return self._too_long(words)
        if status in (400, 422) and not schema:
            return UsageError(f"{self.url} refused the request: {self._clean(words)}")
        mend = LOOK if status >= 500 else ""
        if schema and status in (400, 422, 501):
            mend = "Choose a model whose server keeps JSON schemas, or ask without one"
        elif status == 404:
            mend = "Check the address, which mostly ends in /v1, and the model's name"
        return self.failed(f"answered with status {status}: {words}", mend=mend)

    def of_event(self, error: object) -> SageError:
        """The error that came in a stream which had begun well."""
        code, words = _words(error)
        if _too_long(code, words):
            return self._too_long(words)
        if code in ("429", "rate_limit_exceeded"):
            return RateLimited(f"{self.url} asks not to be asked for a while: {self._clean(words)}")
        return self.failed(f"broke off its answer: {words}", mend=LOOK)

    def _too_long(self, words: str) -> ContextTooLong:
        return ContextTooLong(
            f"{self.url}: {self._clean(words)}", mend="Shorten the prompt, or give the server more context"
        )

    def _clean(self, text: str) -> str:
        text = text.replace(self.key, "***") if self.key else text
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= SAID else f"{text[:SAID]} ..."


def _too_long(code: str, words: str) -> bool:
    return code in CONTEXT_TYPES or bool(CONTEXT_WORDS.search(words))


def _read(body: bytes) -> tuple[str, str]:
    """Kind and words of an error's body; of one that is no JSON, its beginning."""
    text = body.decode("utf-8", "replace")
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "", "it answers with a web page" if "<html" in text.lower() else text or "no reason given"
    if isinstance(value, Mapping):
        value = value.get("error") or value.get("detail") or value
    return _words(value)


def _words(error: object) -> tuple[str, str]:
    """Kind and words of an error object, in the several forms in use."""
    if not isinstance(error, Mapping):
        return "", str(error)
    kinds = [str(error.get(key) or "") for key in ("type", "code", "error_type")]
    code = next((kind for kind in kinds if kind in (*CONTEXT_TYPES, "429", "rate_limit_exceeded")), "")
    return code, str(error.get("message") or error.get("error_message") or dict(error))
