"""A host whose models are simulated, on a clock that they move.

Owns: which simulated models are loaded, and the seconds that loads and answers take.
Must not know: what is right, or who chose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sage.bench.kernel.models import Simulated
from sage.bench.kernel.person import Ask
from sage.clock import FakeClock
from sage.kernel.candidates import LOAD_FLOOR_S
from sage.kernel.sense import count_tokens
from sage.types import GenerationRequest
from sage.zoo.card import ModelCard
from sage.zoo.holding import Picture
from sage.zoo.host import Answer
from sage.zoo.signals import Standing

__all__ = ["DISK_BYTES_S", "SimulatedHost"]

DISK_BYTES_S = 1e9


class SimulatedHost:
    """What the kernel uses of :class:`sage.zoo.host.Host`. Who is worth least leaves first.

    ``now`` is the request that is being answered: the simulated models are asked what the person asked.
    ``given`` counts the tokens that models were given beside it.
    """

    def __init__(self, zoo: Sequence[Simulated], clock: FakeClock, *, room_bytes: int, seed: int) -> None:
        self._zoo = {model.name: model for model in zoo}
        self._clock = clock
        self._room = room_bytes
        self._seed = seed
        self._loaded: dict[str, int] = {}
        self._worth: Mapping[str, float] = {}
        self.now: Ask | None = None
        self.given = 0

    @property
    def free_bytes(self) -> int:
        """What models may still take."""
        return self._room - sum(self._loaded.values())

    @property
    def picture(self) -> Picture:
        """See :class:`Picture`."""
        models = [
            Standing(
                name=name,
                phase="loaded",
                bytes=size,
                since=0.0,
                last_used=0.0,
                busy=False,
                waiting=0,
                leaves=False,
            )
            for name, size in self._loaded.items()
        ]
        return Picture(
            budget=self._room,
            used=sum(self._loaded.values()),
            models=tuple(models),
            occupied=dict(self._loaded),
        )

    def resident(self) -> dict[str, int]:
        """Bytes by name of what is loaded."""
        return dict(self._loaded)

    def reclaimable(self) -> int:
        """Bytes of what is loaded: nobody is busy when somebody asks."""
        return sum(self._loaded.values())

    def resting(self) -> Mapping[str, float]:
        """Nobody fails here."""
        return {}

    def appraise(self, worth: Mapping[str, float]) -> None:
        """See :meth:`Host.appraise`."""
        self._worth = dict(worth)

    def prefetch(self, card: ModelCard) -> None:
        """Load into free room, while nobody waits: the clock stands."""
        if card.name not in self._loaded and card.bytes <= self.free_bytes:
            self._loaded[card.name] = card.bytes

    def ask(
        self,
        card: ModelCard,
        request: GenerationRequest,
        on_text: Callable[[str], None],
        *,
        should_stop: Callable[[], bool] = lambda: False,
        turn_id: str = "",
        head_start_s: float = 0.0,
    ) -> Answer:
        """Load and answer; the clock moves by what that takes. Nobody waits: requests are made one by one."""
        del should_stop, turn_id, head_start_s
        assert self.now is not None  # noqa: S101  set before the kernel is asked
        model = self._zoo[card.name]
        load_s = self._load(card)
        again = request.temperature > 0.0
        completion = model.answer(self.now, request.messages, seed=self._seed, again=again)
        self.given += completion.prompt_tokens - count_tokens(self.now.text)
        read_s, write_s = model.seconds(completion.prompt_tokens, completion.completion_tokens)
        self._clock.advance(load_s + read_s + write_s)
        on_text(completion.text)
        return Answer(
            completion=replace(completion, run_s=read_s + write_s, first_text_s=read_s),
            load_s=load_s,
            load_bytes=card.bytes if load_s else 0,
            resident_bytes=card.bytes,
        )

    def _load(self, card: ModelCard) -> float:
        """Seconds until it is loaded; pushes out who is worth least, the oldest of equals."""
        if card.name in self._loaded:
            return 0.0
        while self.free_bytes < card.bytes:
            del self._loaded[min(self._loaded, key=lambda name: self._worth.get(name, 0.0))]
        self._loaded[card.name] = card.bytes
        return LOAD_FLOOR_S + card.bytes / DISK_BYTES_S
