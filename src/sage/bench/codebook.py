"""``python -m sage.bench.codebook OUT_DIR --texts FILE.jsonl ...``: fit the centroids that SAGE ships.

Owns: the mix of texts. Must not know: models that answer, outcomes.

Each file is one source, a JSON object with ``text`` on each line, and gives at most ``--cap`` texts, so that
no source dominates. The prompts of our own (``sage.bench.prompts``) always belong to it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from sage.bench.prompts import own_prompts
from sage.config import sage_home
from sage.errors import WeightsMissing
from sage.memory.codebook import fit_codebook, save_codebook
from sage.memory.embed import open_embedder, why_no_minilm

__all__ = ["read_texts"]

SEED = 20


def read_texts(files: Sequence[Path], *, cap: int, seed: int) -> dict[str, list[str]]:
    """At most ``cap`` texts of each file, drawn by ``seed``; by the file's name, without repetitions.

    Raises:
        OSError, ValueError, KeyError: a file that cannot be read or is not JSON lines with ``text``.
    """
    found = {}
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines if line.strip()))
        found[path.stem] = random.Random(seed).sample(texts, min(cap, len(texts)))  # noqa: S311  a draw, not a secret
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder that shipped.npz is written to")
    parser.add_argument(
        "--texts", type=Path, nargs="*", default=[], help="one JSON-lines file for each source"
    )
    parser.add_argument("--cap", type=int, default=300, help="texts of one source (default 300)")
    parser.add_argument("--centroids", type=int, default=32, help="of each view (default 32)")
    options = parser.parse_args(arguments)
    home = sage_home()
    embedder = open_embedder(home)
    if "minilm" not in embedder.views:
        raise WeightsMissing("the codebook is fitted with all views", mend=why_no_minilm(home))
    sources = read_texts(options.texts, cap=options.cap, seed=SEED) | {"own": own_prompts()}
    for name, texts in sources.items():
        print(f"{name}: {len(texts)} texts", file=sys.stderr)
    vectors = embedder.embed([text for texts in sources.values() for text in texts])
    codebook = fit_codebook(vectors, k=options.centroids, seed=SEED)
    options.out.mkdir(parents=True, exist_ok=True)
    save_codebook(options.out / "shipped.npz", codebook)
    print(f"{options.out / 'shipped.npz'}: codebook {codebook.id}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
