"""How trust and decisions look in a terminal.

Owns: rows and tables. Must not know: where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage.economy.trust import TrustBook
    from sage.types import Rule

__all__ = ["FULL_MODELS", "decision_table", "left_out", "rule_line", "trust_rows", "trust_table"]

FULL_MODELS = 2
"""So many models are shown with spread and evidence beside each other in 80 columns."""


NAMED = 5
"""Names in one line of those who were left out."""


def left_out(excluded: Mapping[str, str]) -> list[tuple[str, str]]:
    """Who was left out, a line for each reason: names, reason. Most are models that are not here."""
    names = dict[str, list[str]]()
    for name, why in excluded.items():
        names.setdefault(why, []).append(name)
    return [
        (", ".join(who[:NAMED]) + (f" and {len(who) - NAMED} more" if len(who) > NAMED else ""), why)
        for why, who in names.items()
    ]


def trust_rows(book: TrustBook, name: str, prior: Mapping[str, float], now: float) -> list[dict[str, Any]]:
    """One row a kind of work: what is believed of a model where nothing but the kind is known."""
    import numpy as np

    from sage.economy.pool import card_overall, card_shift
    from sage.kernel.sense import KINDS

    rows = []
    for number, kind in enumerate(KINDS):
        held = book.beliefs(
            (name,),
            book.codebook.alone("kind", number),
            priors=np.array([card_overall(prior)]),
            shifts=np.array([card_shift(prior, kind)]),
            now=now,
        )
        rows.append(
            {
                "model": name,
                "kind": kind,
                "quality": round(float(held.mean[0]), 4),
                "sd": round(float(held.sd[0]), 4),
                "evidence": round(float(held.evidence[0]), 3),
            }
        )
    return rows


def trust_table(rows: list[dict[str, Any]]) -> Any:
    """Up to two models across, kinds down: quality with its spread, and the evidence where there is some.

    More models go down and kinds across, with the quality alone, so that 80 columns hold them.
    """
    from rich.table import Table

    models = list(dict.fromkeys(row["model"] for row in rows))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    cells = {(row["kind"], row["model"]): row for row in rows}
    table = Table(box=None, pad_edge=False, header_style="bold")
    few = len(models) <= FULL_MODELS
    table.add_column("kind" if few else "model", no_wrap=True)
    for name in models if few else kinds:
        table.add_column(name, justify="right", no_wrap=True)
    if not few:
        for model in models:
            table.add_row(model, *(f"{cells[kind, model]['quality']:.2f}" for kind in kinds))
        return table
    for kind in kinds:
        line = []
        for model in models:
            row = cells[kind, model]
            seen = f"  n={row['evidence']:.1f}" if row["evidence"] else "       "
            line.append(f"{row['quality']:.2f} ± {row['sd']:.2f}{seen}")
        table.add_row(kind, *line)
    return table


def decision_table(candidates: Sequence[Mapping[str, Any]], *, chosen: str, rule: Rule | None = None) -> Any:
    """The candidates with their three factors, the chosen one marked.

    With the rule, also the expertise at which each of the others would have won, or else the price.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(" candidate", no_wrap=True)
    columns = ("expertise", "cheap", "persist", "permission", "load+run", "ATP")
    for column in (*columns, "wins at") if rule else columns:
        table.add_column(column, justify="right", no_wrap=True)
    for score in candidates:
        load = "0" if score["resident"] else f"{score['est_load_s']:.1f}"
        cells = [
            ("▸" if score["name"] == chosen else " ") + score["name"],
            f"{score['expertise']:.2f}",
            f"{score['cheapness']:.2f}",
            f"{score['persistence']:.1f}",
            f"{score['permission']:.3f}",
            f"{load}+{score['est_run_s']:.1f} s",
            f"{score['est_atp']:.1f}",
        ]
        if rule:
            cells.append(_wins_from(score, candidates[0]["permission"], rule))
        table.add_row(*cells, style="bold" if score["name"] == chosen else None)
    return table


def _wins_from(score: Mapping[str, Any], target: float, rule: Rule) -> str:
    from sage.economy.reason import UNITS, expertise_to_win, price_to_win
    from sage.types import CandidateScore

    if score["permission"] >= target:
        return ""
    candidate = CandidateScore(**score)
    needed = expertise_to_win(candidate, target, rule)
    if needed <= 1.0:
        return f"{needed:.2f}"
    price = price_to_win(candidate, target, rule)
    return f"{price:.2g} {UNITS[rule.unit]}" if price > 0.0 else "never"


def rule_line(rule: Rule) -> str:
    """The settings a decision was made under, in one line."""
    from sage.economy.reason import UNITS

    if rule.scale == float("inf"):
        price = "price does not matter"
    else:
        price = f"{rule.scale:.3g} {UNITS[rule.unit]} halve cheapness"
    return (
        f"{rule.form} form, dial {rule.dial:.2f} ({price}), state {rule.state}; "
        f"trust stands on {rule.outcomes:.1f} outcomes"
    )
