"""Who is taken up first where requests wait for one model."""

from __future__ import annotations

from sage.zoo.residency import Residency
from sage.zoo.signals import Grant, Loaded, Requested, Served


def test_a_head_start_is_a_place_in_the_line() -> None:
    machine = Residency(10)

    def ask(name: str, now: float, head_start_s: float = 0.0) -> None:
        wanted = Requested(id=name, model="m", bytes=5, deadline=1000.0, head_start_s=head_start_s)
        machine.handle(wanted, now)

    def granted_after(name: str) -> list[str]:
        effects = machine.handle(Served(id=name, bytes=5), 62.0)
        return [effect.id for effect in effects if isinstance(effect, Grant)]

    ask("first", 0.0)
    machine.handle(Loaded(model="m", bytes=5), 0.0)
    ask("plain", 0.0)
    ask("salient", 0.5, head_start_s=60.0)
    ask("late and salient", 61.0, head_start_s=60.0)
    assert granted_after("first") == ["salient"]
    assert granted_after("salient") == ["plain"], "whoever came a minute before is not overtaken"
    assert granted_after("plain") == ["late and salient"]
