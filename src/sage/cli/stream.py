"""An answer as it is made: the answer on stdout, everything about it on stderr.

Owns: what a person sees between a question and the end of its answer.
Must not know: which command asked.

On a terminal text appears as it is made, drafts that were not kept included. Elsewhere (a pipe, a file)
only the answer itself is written, at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sage.cli.render import human_bytes, human_seconds, notes, printable

if TYPE_CHECKING:
    from sage.events import Event, EventBus
    from sage.kernel.turn import Reply
    from sage.types import Piece

__all__ = ["Printer", "loading_spinner"]


class Printer:
    """Shows one turn: subscribe ``on_event``, pass ``on_piece``, end with ``show`` or ``stop``."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._draft: int | None = None
        self._line_open = False

    def on_piece(self, piece: Piece) -> None:
        if not self._live:
            return
        if self._draft is not None and piece.draft != self._draft:
            self.stop()
            notes().print(f"[dim]— another opinion, from {piece.model}:[/dim]")
        self._draft = piece.draft
        self._write(piece.text if self._line_open else piece.text.lstrip())

    def on_event(self, event: Event) -> None:
        from sage.events import CandidateFailed

        if isinstance(event, CandidateFailed):
            self.stop()
            notes().print(f"{event.model} failed: {event.message}", style="yellow", markup=False)

    def show(self, reply: Reply) -> None:
        """The end of a turn: the answer, unless it is what was shown last, and one line about it."""
        kept_last = self._draft is not None and reply.draft == self._draft
        if not (self._live and kept_last):
            self.stop()
            if self._live and reply.irp["steps"] > 1:
                notes().print(f"[dim]— the answer of {reply.model} is kept:[/dim]")
            self._write(reply.answer)
        self.stop()
        seconds = human_seconds(reply.usage["load_s"] + reply.usage["run_s"])
        notes().print(
            f"[dim]{reply.model} · {seconds} · {reply.atp['spent']:.1f} ATP · "
            f"why: sage trust explain {reply.turn_id}[/dim]"
        )

    def stop(self) -> None:
        """End the line that is being written."""
        if self._line_open:
            self._write("\n")
            self._line_open = False

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(printable(text) if self._live else text)
            sys.stdout.flush()
            self._line_open = True


@contextmanager
def loading_spinner(bus: EventBus) -> Iterator[None]:
    """A spinner on stderr while a model loads; nothing where stderr is no terminal."""
    from sage.events import LoadFinished, LoadStarted, TurnEnded

    status = notes().status("")

    def show(event: Event) -> None:
        if isinstance(event, LoadStarted):
            status.update(f"loading {event.model} ({human_bytes(event.bytes)})")
            status.start()
        elif isinstance(event, LoadFinished | TurnEnded):
            status.stop()

    remove = bus.subscribe(show)
    try:
        yield
    finally:
        remove()
        status.stop()
