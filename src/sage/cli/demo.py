"""`sage demo`: five real prompts, each answered by the model that SAGE chose, with the reason.

Owns: how the story is told. Must not know: how a model is chosen or run.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage.bench.questions import Question
    from sage.kernel.tick import Kernel
    from sage.kernel.turn import Reply

__all__ = ["demo"]


def demo() -> None:
    """Pull two small models, answer five prompts, and say why.

    The models are the default ones; what is here already is not pulled again.
    """
    from sage.bench.questions import ONE_OF_EACH
    from sage.cli import models
    from sage.cli.render import console, printable
    from sage.cli.stream import progress
    from sage.cli.trust_view import decision_table, trust_rows, trust_table
    from sage.config import load_settings
    from sage.kernel.session import open_kernel
    from sage.zoo.catalog import default_cards

    out = console()
    models.pull()
    right: list[bool] = []
    settings = load_settings()
    # Five questions are too few to try models on.
    steady = settings.selector.model_copy(update={"explore_share": 0.0})
    settings = settings.model_copy(update={"selector": steady})
    with open_kernel(settings=settings) as kernel, progress(kernel.bus):
        cards = default_cards(kernel.catalog)
        before = _qualities(kernel)
        for number, (title, question) in enumerate(ONE_OF_EACH.items(), start=1):
            out.print()
            out.rule(f"{number} of {len(ONE_OF_EACH)}: {title}", align="left", style="dim")
            out.print(question.prompt, style="bold", markup=False)
            reply = _answer(kernel, question)
            candidates = [_plain(score) for score in reply.decision.candidates]
            out.print(decision_table(candidates, chosen=reply.model))
            out.print(f"why: {reply.decision.reason}", markup=False, style="dim")
            ok = question.verify(reply.answer) == 1.0
            right.append(ok)
            mark = "[green]✓[/green]" if ok else "[red]✗[/red]"
            out.print(f"{mark} ", end="")
            out.print(f"{reply.model}: {printable(reply.answer)}", markup=False)
            out.print(_effort(reply), style="dim")
        out.print()
        out.rule("what trust has learned", align="left", style="dim")
        with kernel.trust.book() as book:
            now = kernel.clock.time()
            rows = [row for card in cards for row in trust_rows(book, card.name, card.prior, now)]
        out.print(trust_table([row for row in rows if row["kind"] in {k for _, k in before}]))
        if changes := _changes(before, _qualities(kernel)):
            out.print("largest changes:")
        for line in changes:
            out.print(f"  {line}", markup=False)
        out.print(
            f"\n{sum(right)} of {len(right)} answers were right; every one was verified, right or wrong, and "
            "taught trust. These are very small models: SAGE chooses among what there is.",
        )
        out.print(_next_steps(), style="dim", markup=False, soft_wrap=True)


def _next_steps() -> str:
    """What to type now; where the shell would not find `sage`, how to make it known first."""
    commands = "sage chat, sage ask, sage models list, sage doctor"
    prefix = Path(sys.prefix)
    activate = prefix / "bin" / "activate"
    if shutil.which("sage") or not activate.is_file():
        return f"Next: {commands}"
    here = Path.cwd()
    shown = activate.relative_to(here) if activate.is_relative_to(here) else activate
    return f"Next: . {shown}\nThen: {commands}"


def _answer(kernel: Kernel, question: Question) -> Reply:
    from sage.bench.questions import SYSTEM
    from sage.kernel.sense import Request
    from sage.types import Message, new_id

    return kernel.tick(
        Request(
            messages=(
                Message(role="system", content=SYSTEM),
                Message(role="user", content=question.prompt),
            ),
            session=new_id("demo"),
            schema=question.schema,
            max_tokens=60,
            verify=question.verify,
        )
    )


def _plain(score: Any) -> dict[str, Any]:
    import dataclasses

    return dataclasses.asdict(score)


def _effort(reply: Reply) -> str:
    from sage.cli.render import human_seconds

    usage, irp = reply.usage, reply.irp
    energies = " → ".join(f"{energy:.2f}" for energy in irp["energy"])
    return (
        f"load {human_seconds(usage['load_s'])} · run {human_seconds(usage['run_s'])} · "
        f"{usage['completion_tokens']} tokens · energy {energies} ({irp['halt_reason']}) · "
        f"{reply.atp['spent']:.2f} ATP spent, {reply.atp['balance']:.1f} left"
    )


def _qualities(kernel: Kernel) -> dict[tuple[str, str], float]:
    from sage.bench.questions import ONE_OF_EACH
    from sage.cli.trust_view import trust_rows
    from sage.kernel.sense import kind_of
    from sage.zoo.catalog import default_cards

    kinds = dict.fromkeys("json" if q.schema else kind_of(q.prompt) for q in ONE_OF_EACH.values())
    with kernel.trust.book() as book:
        return {
            (card.name, row["kind"]): row["quality"]
            for card in default_cards(kernel.catalog)
            for row in trust_rows(book, card.name, card.prior, kernel.clock.time())
            if row["kind"] in kinds
        }


def _changes(before: dict[tuple[str, str], float], after: dict[tuple[str, str], float]) -> list[str]:
    """The three largest changes of trust, in words."""
    moved = sorted(before, key=lambda key: -abs(after[key] - before[key]))
    return [
        f"{name} at {kind}: {before[name, kind]:.2f} → {after[name, kind]:.2f}"
        for name, kind in moved[:3]
        if abs(after[name, kind] - before[name, kind]) > 0.005
    ]
