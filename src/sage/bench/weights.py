"""``python -m sage.bench.weights --data DIR ...``: fit the weights of opinions that SAGE ships.

Owns: which questions they are fitted on. Must not know: how a fit is made.

Each folder is a data set of `sage bench route` with answers and lengths. Beliefs are those of serving
(:class:`sage.bench.cascade_served.Served`); the mean over the folders is printed, as it stands in
``sage.economy.opinions.DEFAULT_WEIGHTS``, and how far the folders differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sage.bench.arena import build_arena
from sage.bench.cascade import fit_on, record
from sage.bench.cascade_served import Served
from sage.bench.route_data import Floats, load_outcomes
from sage.bench.route_views import embed_texts, open_named_embedder
from sage.config import sage_home
from sage.errors import UsageError

__all__ = ["weights_of"]

SEED = 0


def weights_of(data: Path, home: Path, *, embedder: str) -> Floats:
    """The weights (15,) that all questions of a data set give.

    Raises:
        UsageError: answers, lengths or a second model are missing. NotFound: so is the data.
        BackendMissing: the embedder that was asked for is not here.
    """
    outcomes = load_outcomes(data, models="*")
    views = embed_texts(outcomes.texts, open_named_embedder(home, embedder), home, progress=_say)
    rows = np.arange(len(outcomes.ids))
    arena = build_arena(outcomes, views, rows, rows, first=None, seed=SEED)
    seen = record(outcomes, arena.train.contexts, rows)
    if seen is None:
        raise UsageError(
            f"{data} has no answers, lengths or second model.", mend="Name a folder with answers.npy"
        )
    return np.array(fit_on(Served(seen, arena.train, arena.codebook, seed=SEED).train).values)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of recorded outcomes")
    parser.add_argument("--embedder", choices=["auto", "hash", "minilm"], default="auto")
    options = parser.parse_args(arguments)
    found = []
    for folder in options.data:
        found.append(weights_of(folder, sage_home(), embedder=options.embedder))
        _say(f"{folder.name}: {_tuple(found[-1])}")
    print(_tuple(np.mean(found, 0)))
    _say(f"furthest apart: {np.ptp(found, axis=0).max():.2f}")
    return 0


def _tuple(values: Floats) -> str:
    return f"({', '.join(f'{value:.2f}' for value in values)})"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
