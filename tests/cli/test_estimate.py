"""``sage models estimate``: which figures, which context, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_of_what_is_not_here_the_card_alone_is_known(run_sage: Any) -> None:
    found = json.loads(run_sage("models", "estimate", "qwen2.5-14b-instruct", "--json").stdout)
    assert (found["figures"], found["kv"], found["measured"]) == ("published", 0, None)
    assert found["weights"] in (14_700_000_000 * 2, 14_700_000_000 * 4)
    assert found["need"] == found["total"] == found["weights"] + found["overhead"]
    done = run_sage(
        "models", "load", "qwen3-4b-q4_k_m", "--estimate-only", env={"SAGE_MODELS__MEMORY_LIMIT_GB": "1"}
    )
    assert done.returncode == 4
    assert "weights         2.5 GB\n" in done.stdout
    assert "qwen3-4b-q4_k_m does not fit: 1.5 GB too much. It is not here" in done.stdout
    words = run_sage("models", "estimate", "introspective-qwen-0.5b-v2.1").stdout
    assert "at least" in words, "an adapter comes with its base"
    assert run_sage("models", "estimate", "qwen2.5-0.5b-sleep4").returncode == 0


def test_an_estimate_says_whether_it_fits_and_for_how_much(
    run_sage: Any, tmp_path: Path, tiny_gguf: Any
) -> None:
    own = tiny_gguf(tmp_path / "own.gguf")
    assert run_sage("models", "pull", f"file:{own}").returncode == 0
    done = run_sage("models", "estimate", "own", "--context", "40000")
    assert (done.returncode, "own with 512 tokens" in done.stdout) == (0, True)
    assert "own holds no more than 512 tokens of context; 40000 were asked for." in done.stderr
    assert "--context N" in run_sage("models", "load", "own", "--estimate-only").stderr
    for name in ("own", "qwen3-4b-q4_k_m"):
        tight = run_sage("models", "estimate", name, env={"SAGE_MODELS__MEMORY_LIMIT_GB": "0.001"})
        assert (tight.returncode, "does not fit" in tight.stdout) == (4, True)
