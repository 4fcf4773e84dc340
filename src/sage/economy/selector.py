"""Who should do this work: filter by hard needs, then rank by permission.

Owns: the order of the steps and the decision record. Must not know: clocks, files, processes, or whether
its candidates are experts of a layer, models of a zoo or devices; it sees a pool and a trust book.

Cost grows linearly with candidates, in array operations; history does not enter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sage.economy.belief import SPREAD, Beliefs
from sage.economy.context import Context
from sage.economy.demand import Demand, Loads
from sage.economy.filters import Limits, Rejection, allowed, nobody, why_not
from sage.economy.permission import (
    cheapness,
    hot_bonus_at,
    load_scale_at,
    permission,
    persistence,
    price_scale_at,
    worth_of_permission,
)
from sage.economy.pool import LOADS_IN, Pool
from sage.economy.reason import reason
from sage.economy.trust import TrustBook
from sage.errors import ModelNotFound, NoCandidate, did_you_mean
from sage.types import (
    CandidateScore,
    Decision,
    DecisionMode,
    Form,
    MetabolicState,
    PriceUnit,
    Rule,
    Situation,
)

__all__ = ["FrontierPoint", "Selector"]

Floats = npt.NDArray[np.float64]

OVERALL = 0.5
"""How much of its variance a draw keeps where it is about who is good overall: all of it costs half a point
on fourteen small models that are nearly equal (docs/lab.md)."""

SPECIAL = 6.0
"""The same for what a context adds: few candidates are special in it, and those by more than the variety of
all says."""

FAMILIAR = 20.0
"""Outcomes of anyone in a context after which half of what it adds is left to find out."""

RECORDED = 8
"""Candidates in a decision record: nobody reads more, and a record of a thousand costs milliseconds."""

FEW = 64
"""Candidates that are sorted sooner than sifted."""

EXPLAINED = 20
"""Candidates whose exclusion is put in words, where others are left; with nobody left, all are."""

CLOSE = 0.05
"""A race is close when the lighter candidate is behind by at most this share of the winner's permission."""

TRUSTED = 0.3
"""Expertise below which a candidate is not trusted, and a relative above it is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontierPoint:
    """Who would be chosen at one setting of the dial, with the expected quality and the price."""

    dial: float
    name: str
    expertise: float
    price: float


class Selector:
    """Chooses among candidates. Stateless: what it knows is in the trust book and the demand it is given."""

    def __init__(
        self,
        *,
        hot_bonus: float,
        price_scale: float,
        load_scale: float | None = None,
        form: Form = "product",
        unit: PriceUnit = "atp",
    ) -> None:
        """The price that halves cheapness at the middle of the dial, and the price of a load that does so
        (without it, the same): see :func:`sage.economy.permission.scales`."""
        self._hot_bonus = hot_bonus
        self._price_scale = price_scale
        self._load_scale = price_scale if load_scale is None else load_scale
        self._form: Form = form
        self._unit: PriceUnit = unit

    def choose(
        self,
        situation: Situation,
        context: Context,
        pool: Pool,
        trust: TrustBook,
        *,
        limits: Limits,
        now: float,
        dial: float = 0.5,
        state: MetabolicState = "WAKE",
        pinned: str | None = None,
        random: np.random.Generator | None = None,
        demand: Demand | None = None,
    ) -> Decision:
        """Rank the candidates and choose one. With ``pinned``, only that one may be chosen.

        ``random`` allows exploring (Thompson sampling), within ``limits.explore_atp`` and never in CRISIS.
        ``demand`` shares the price of a load among the requests that want it, and remembers this one.

        Raises:
            NoCandidate: nothing to choose from, or several filters removed everyone.
            ContextTooLong, DoesNotFit, BudgetSpent, DeadlineExceeded: one filter removed everyone.
            ModelNotFound: the pinned name is not among the candidates.
            ValueError: the context is of another codebook than the trust book.
        """
        lines, rejected = self._field(situation, pool, limits, pinned)
        beliefs = self._beliefs(situation, context, pool, trust, now)
        if state == "CRISIS":
            random = None
        explore_atp = None if random is None else limits.explore_atp
        rule = self._rule(dial, state, float(beliefs.total.sum()), explore_atp)
        loads = demand.loads(pool, unit=rule.unit, free_bytes=limits.free_bytes) if demand else None
        price, cheap, persist = self._factors(pool, rule, loads)
        score = permission(rule.form, beliefs.mean, cheap, persist)
        ranked = _best_first(lines, score, price)
        winner = ranked[0]
        mode: DecisionMode = "pinned"
        if not pinned:
            tried = winner
            if random is not None and len(lines) > 1:
                # Who costs too much to try is not tried, and does not keep others from it.
                may = lines[pool.atp[lines] - pool.atp[winner] <= limits.explore_atp]
                due = trust.due_for_trial(pool.index, _only(may, beliefs.mean))
                drawn = permission(rule.form, _draw(beliefs, random), cheap, persist)
                tried = int(_only(may, drawn).argmax()) if due is None else due
            if tried != winner:
                winner, mode = tried, "explore"
            else:
                winner, mode = self._override(pool, lines, ranked, score, price, beliefs.mean, rule)
            if winner not in ranked:
                ranked[-1] = winner
        columns = (beliefs.mean, beliefs.sd, beliefs.evidence, price, cheap, persist, score, pool.atp)
        if demand is not None and loads is not None:
            warm = self._remember(demand, pool, lines, beliefs.mean, rule, pool.names[winner])
            scores = _records(pool, ranked, (*columns, warm, loads.saved, loads.price), loads)
        else:
            scores = _records(pool, ranked, (*columns, pool.nothing, pool.nothing, pool.waits[rule.unit]))
        chosen = scores[ranked.index(winner)]
        return Decision(
            chosen=chosen.name,
            mode=mode,
            reason=reason(scores, chosen, mode, situation.kind, rule),
            kind=situation.kind,
            candidates=scores,
            excluded={name: rejection.why for name, rejection in rejected.items()},
            instead_of="" if mode in ("permission", "pinned") else scores[0].name,
            others=len(lines) - len(ranked),
            rule=rule,
        )

    def frontier(
        self,
        situation: Situation,
        context: Context,
        pool: Pool,
        trust: TrustBook,
        *,
        limits: Limits,
        now: float,
        demand: Demand | None = None,
        steps: int = 101,
    ) -> tuple[FrontierPoint, ...]:
        """Who wins at each setting of the dial, from cheapest to best, each winner once.

        ``demand`` shares the price of a load as in :meth:`choose`; nothing is remembered.

        Raises: as :meth:`choose`.
        """
        lines, _ = self._field(situation, pool, limits, None)
        beliefs = self._beliefs(situation, context, pool, trust, now)
        loads = demand.loads(pool, unit=self._unit, free_bytes=limits.free_bytes) if demand else None
        points: list[FrontierPoint] = []
        for dial in np.linspace(0.0, 1.0, steps):
            price, cheap, persist = self._factors(pool, self._rule(float(dial), "WAKE", 0.0, None), loads)
            score = permission(self._form, beliefs.mean, cheap, persist)
            winner = _best_first(lines, score, price)[0]
            if not points or points[-1].name != pool.names[winner]:
                points.append(
                    FrontierPoint(
                        dial=float(dial),
                        name=pool.names[winner],
                        expertise=float(beliefs.mean[winner]),
                        price=float(price[winner]),
                    )
                )
        # What is loaded wins at the cheap end by its bonus too, and may be worse and dearer than the next.
        return tuple(
            point
            for number, point in enumerate(points)
            if not any(
                p.expertise >= point.expertise and p.price <= point.price for p in points[number + 1 :]
            )
        )

    def _field(
        self, situation: Situation, pool: Pool, limits: Limits, pinned: str | None
    ) -> tuple[npt.NDArray[np.intp], dict[str, Rejection]]:
        """Who may do the work, and why the others may not."""
        if pinned is not None and pinned not in pool.index:
            hint = did_you_mean(pinned, pool.names)
            raise ModelNotFound(f"No model is called {pinned!r}.{hint}", mend="sage models list")
        ok = allowed(situation, pool, limits)
        if pinned is None and len(ok) and ok.all():
            return pool.every, {}
        out = np.flatnonzero(~ok)
        if ok.any() and pinned is None:
            out = out[:EXPLAINED]
        rejected = {pool.names[i]: why_not(situation, pool, limits, int(i)) for i in out}
        if pinned is not None:
            other = Rejection(error=NoCandidate, why="another model was asked for")
            for i in np.flatnonzero(ok):
                if pool.names[i] != pinned:
                    ok[i], rejected[pool.names[i]] = False, other
        lines = np.flatnonzero(ok)
        if not len(lines):
            raise nobody(rejected, pinned)
        return lines, rejected

    def _beliefs(
        self, situation: Situation, context: Context, pool: Pool, trust: TrustBook, now: float
    ) -> Beliefs:
        priors, shifts = pool.priors(situation.kind)
        return trust.beliefs(
            pool.names, context, priors=priors, shifts=shifts, families=pool.families, now=now
        )

    def _rule(self, dial: float, state: MetabolicState, outcomes: float, explore_atp: float | None) -> Rule:
        return Rule(
            form=self._form,
            dial=dial,
            scale=price_scale_at(self._price_scale, dial),
            load_scale=load_scale_at(self._load_scale, dial),
            hot_bonus=hot_bonus_at(self._hot_bonus, dial),
            unit=self._unit,
            state=state,
            outcomes=outcomes,
            explore_atp=explore_atp,
        )

    def _remember(
        self, demand: Demand, pool: Pool, lines: npt.NDArray[np.intp], mean: Floats, rule: Rule, chosen: str
    ) -> Floats:
        """Tell demand of this request; returns the permission each candidate would have if loaded."""
        run = pool.runs[rule.unit]
        warm = permission(rule.form, mean, cheapness(run, scale=rule.scale), 1.0)
        nobody = min(0.0, float(warm.min()))
        demand.see(
            pool,
            np.maximum(_only(lines, warm), nobody),
            worth_of_permission(rule.form, warm, run, scale=rule.scale, load_scale=rule.load_scale),
            chosen=chosen,
        )
        return warm

    def _factors(self, pool: Pool, rule: Rule, loads: Loads | None) -> tuple[Floats, Floats, Floats]:
        run = pool.runs[rule.unit]
        load = pool.waits[rule.unit] if loads is None else loads.price
        return (
            run + load if LOADS_IN[rule.unit] == rule.unit else run,
            cheapness(run, scale=rule.scale, load=load, load_scale=rule.load_scale),
            persistence(pool.resident, hot_bonus=rule.hot_bonus),
        )

    def _override(
        self,
        pool: Pool,
        lines: npt.NDArray[np.intp],
        ranked: Sequence[int],
        score: Floats,
        price: Floats,
        expertise: Floats,
        rule: Rule,
    ) -> tuple[int, DecisionMode]:
        """The rule's winner, unless it is not trusted and a relative is, or a lighter one is close behind in
        WAKE. Where price does not matter, neither does weight; nobody is loaded for being lighter."""
        winner = ranked[0]
        family = pool.candidates[winner].family
        if expertise[winner] < TRUSTED and family:
            relatives = [int(line) for line in lines if pool.candidates[line].family == family]
            best = max(relatives, key=lambda line: float(expertise[line]))
            if expertise[best] >= TRUSTED:
                return best, "relative"
        if rule.state == "WAKE" and rule.scale < math.inf:
            for line in ranked[1:]:
                if score[winner] - score[line] > CLOSE * abs(score[winner]):
                    break
                lighter = pool.memory_bytes[line] < pool.memory_bytes[winner] and price[line] <= price[winner]
                if lighter and pool.resident[line] >= pool.resident[winner]:
                    return line, "light"
        return winner, "permission"


def _only(lines: npt.NDArray[np.intp], values: Floats) -> Floats:
    """The values of these candidates, -inf for the others."""
    if len(lines) == len(values):
        return values
    kept = np.full(len(values), -math.inf)
    kept[lines] = values[lines]
    return kept


def _draw(beliefs: Beliefs, random: np.random.Generator) -> Floats:
    """One draw from what is believed of each candidate (Thompson sampling).

    How wide is told by evidence: what overall quality leaves open, and what this context may add, which is
    little where candidates were alike so far, and less the more of anyone's work has been seen here.
    """
    alike, seen = (SPREAD / beliefs.variety) ** 2, float(beliefs.evidence.sum())
    special = SPECIAL * SPREAD**2 * FAMILIAR / (FAMILIAR + seen)
    variance = OVERALL * beliefs.overall_variance + special / (beliefs.evidence + alike)
    return np.asarray(beliefs.mean + np.sqrt(variance) * random.standard_normal(len(variance)))


def _best_first(lines: npt.NDArray[np.intp], score: Floats, price: Floats) -> list[int]:
    """The best of these candidates by score; the cheaper on a tie, then the one that comes first."""
    if len(lines) > FEW:  # equals of the last stay, for the price to decide among them
        lines = lines[score[lines] >= np.partition(score[lines], -RECORDED)[-RECORDED]]
    order = zip((-score[lines]).tolist(), price[lines].tolist(), lines.tolist(), strict=True)
    return [line for _, _, line in sorted(order)[:RECORDED]]


def _records(
    pool: Pool, ranked: Sequence[int], columns: tuple[Floats, ...], loads: Loads | None = None
) -> tuple[CandidateScore, ...]:
    rows = np.array(columns)[:, ranked].T.tolist()
    records = []
    for line, row in zip(ranked, rows, strict=True):
        mean, sd, evidence, price, cheap, persist, score, atp, warm, saved, load = row
        candidate = pool.candidates[line]
        records.append(
            CandidateScore(
                name=candidate.name,
                expertise=mean,
                cheapness=cheap,
                persistence=persist,
                permission=score,
                resident=candidate.resident,
                est_load_s=candidate.est_load_s,
                est_run_s=candidate.est_run_s,
                est_atp=atp,
                evidence=evidence,
                sd=sd,
                price=price,
                warm=warm,
                saved=saved,
                load=load,
                displaces=loads.pushed_out(line) if loads else (),
            )
        )
    return tuple(records)
