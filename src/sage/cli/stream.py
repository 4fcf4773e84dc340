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

__all__ = ["Printer", "Progress", "printing", "progress"]

UNLIKELY = 0.5
"""An answer whose chance of being right is below this is likelier wrong than right."""

ORDINALS = ("first", "second", "third", "fourth", "fifth")


class Progress:
    """A spinner on stderr: who loads, and who reads or answers. Nothing where stderr is no terminal."""

    def __init__(self, *, streams: bool) -> None:
        """``streams``: the text will be seen as it is made, so waiting ends with its first piece."""
        self._doing = "reading" if streams else "answering"
        self._status = notes().status("")

    def on_event(self, event: Event) -> None:
        from sage.events import (
            Decided,
            HomeAwaited,
            LoadFinished,
            LoadProgress,
            LoadStarted,
            RoomAwaited,
            TurnEnded,
        )

        if isinstance(event, HomeAwaited):
            self.stop()
            said = f"{event.holder} holds the models of {event.home}; waiting"
            notes().print(said, style="yellow", markup=False, soft_wrap=True)
            self._say("waiting")
        elif isinstance(event, RoomAwaited):
            self._say(f"{event.model} waits for {', '.join(event.behind) or 'its turn'}")
        elif isinstance(event, LoadStarted):
            size = f" ({human_bytes(event.bytes)})" if event.bytes else ""  # a server's model has none here
            self._say(f"loading {event.model}{size}")
        elif isinstance(event, LoadProgress):
            self._say(f"loading {event.model}, {event.seconds:.0f} s so far")
        elif isinstance(event, LoadFinished) or (isinstance(event, Decided) and event.mode != "escalated"):
            self._say(f"{event.model} is {self._doing}")
        elif isinstance(event, TurnEnded):
            self.stop()

    def stop(self) -> None:
        self._status.stop()

    def _say(self, text: str) -> None:
        self._status.update(text)
        self._status.start()


@contextmanager
def progress(bus: EventBus) -> Iterator[None]:
    """The spinner alone, until the turn ends: for a command that shows no text as it is made."""
    spinner = Progress(streams=False)
    remove = bus.subscribe(spinner.on_event)
    try:
        yield
    finally:
        remove()
        spinner.stop()


class Printer:
    """Shows one turn: what happens, each draft as it is made, and the end."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._progress = Progress(streams=self._live)
        self._drafts: dict[int, str] = {}  # the model of each draft that was shown and did not fail
        self._draft: int | None = None  # the one that is being written
        self._failed = False
        self._line_open = False

    def on_piece(self, piece: Piece) -> None:
        if not self._live:
            return
        text = piece.text if piece.draft == self._draft else piece.text.lstrip()
        if not text:
            return
        self._progress.stop()
        if piece.draft != self._draft:
            self.stop()
            if heading := self._heading(piece.model):
                notes().print(f"— {heading}:", style="dim", markup=False)
            self._draft, self._failed = piece.draft, False
            self._drafts[piece.draft] = piece.model
        self._write(text)

    def on_event(self, event: Event) -> None:
        from sage.events import CandidateFailed, Decided, HomeAwaited, LoadStarted

        if isinstance(event, CandidateFailed | Decided | HomeAwaited | LoadStarted):
            self._end_line()  # a spinner would wipe out the line that is being written
        self._progress.on_event(event)
        if isinstance(event, CandidateFailed):
            if self._draft is not None and self._drafts.get(self._draft) == event.model:
                del self._drafts[self._draft]
                self._failed = True
            notes().print(f"{event.model} failed: {event.message}", style="yellow", markup=False)

    def show(self, reply: Reply) -> None:
        """The end of a turn: the answer, unless it was shown, and one line about it."""
        self.stop()
        if reply.draft not in self._drafts:
            self._write(reply.answer)
            self.stop()
        elif reply.draft != self._draft:
            place = list(self._drafts).index(reply.draft)
            notes().print(f"— the {_ordinal(place)} answer is kept.", style="dim", markup=False)
        doubts = _doubts(reply)
        recalled, again = len(reply.irp["recalled"]), reply.irp["remembered"]
        brought = [f"recalled {recalled} message{'s' * (recalled > 1)}"] if recalled else []
        told = (
            reply.model,
            *doubts,
            *([f"as in {again}"] if again else brought),
            human_seconds(reply.usage["wall_s"]),
            *([f"{reply.atp['spent']:.1f} ATP"] if reply.atp else ["not kept"]),
            f"sage trust explain {reply.turn_id}",
        )
        notes().print(
            " · ".join(told),
            style="yellow" if doubts else "dim",
            markup=False,
            soft_wrap=True,  # the command stays in one piece, to be copied
        )

    def stop(self) -> None:
        """End the waiting, and the line that is being written."""
        self._progress.stop()
        self._end_line()

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n")

    def _heading(self, model: str) -> str:
        """What comes before the text of another draft; nothing before the first."""
        if self._failed:
            return f"from {model} instead"
        if not self._drafts:
            return ""
        before = list(self._drafts.values()).count(model)
        return f"a {_ordinal(before)} draft, from {model}" if before else f"another opinion, from {model}"

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._live:
            sys.stdout.write(printable(text))
        else:  # whatever the locale: what reads a pipe expects UTF-8
            sys.stdout.flush()
            sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        sys.stdout.flush()
        self._line_open = not text.endswith("\n")


def _doubts(reply: Reply) -> list[str]:
    """What speaks against an answer: it is estimated to be likelier wrong than right, or it was cut."""
    said = list[str]()
    chance = max((float(one["p"]) for one in reply.irp.get("opinions", ())), default=1.0)
    if chance < UNLIKELY:
        said.append(f"likely wrong (right: {100 * chance:.0f} %)")
    if reply.finish_reason == "length":
        # Of the drafts by this model the longest is the one that was cut.
        tokens = max(one["tokens"] for one in reply.irp["opinions"] if one["model"] == reply.model)
        said.append(f"cut at {tokens} tokens")
    elif reply.finish_reason == "deadline":
        said.append("cut at the deadline")
    return said


def _ordinal(index: int) -> str:
    return ORDINALS[index] if index < len(ORDINALS) else f"{index + 1}th"


@contextmanager
def printing(bus: EventBus) -> Iterator[Printer]:
    """A printer that hears of one turn: give its ``on_piece`` to the kernel, then ``show`` the reply."""
    printer = Printer()
    remove = bus.subscribe(printer.on_event)
    try:
        yield printer
    finally:
        remove()
        printer.stop()
