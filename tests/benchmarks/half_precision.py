"""How far are the scores of a search in bfloat16 from float32's?

    python tests/benchmarks/half_precision.py

Tiny models of both families that have learnt eight steps by heart answer these and as many states that they never saw,
with weights in bfloat16, under autocast, and in float32. Log-softmax is in float32 in all of them; what differs are the
logits. Of the candidates that both found, the differences of their log-probabilities are looked at; and in how many
states the best candidate is the same.
"""

import copy
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from generator.engines import Decoding, make_engine
from tests.fakes import EIGHT
from tests.generator.families import FAMILIES

CANDIDATES, MAX_NEW_TOKENS = 8, 32


def main() -> None:
    """Prints a Markdown row for each family and type, then one JSON line."""
    torch.set_num_threads(1)
    print("| family | in bfloat16 | same best candidate | difference of a score: median | 95% | largest |")
    print("|---|---|--:|--:|--:|--:|")
    rows = []
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            module = family.learn(Path(folder)).model
        states = [state for state, _ in EIGHT]
        texts = states + [state.replace("p", "r") + " ∨ s" for state in states]
        expected = found(module.generator, module, texts)
        halved = copy.deepcopy(module.generator).bfloat16()
        sides = {"weights": found(halved, module, texts)}
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            sides["products (autocast)"] = found(module.generator, module, texts)
        for side, answers in sides.items():
            row = compared(answers, expected)
            rows.append({"family": name, "side": side, **row})
            cells = [f"{row[key]:.3f}" for key in ("median", "p95", "largest")]
            print("|", " | ".join([name, side, f"{row['same_best']:.0%}", *cells]), "|", flush=True)
    print(json.dumps({"benchmark": "half_precision", "rows": rows, **machine.facts()}))


def found(network: Any, module: Any, texts: list[str]) -> list[dict[str, float]]:
    """Candidates with their log-probabilities, for each text."""
    engine = make_engine("native", network, module.tokenizer, max_inp_seq_len=128)
    with torch.no_grad():
        answers = engine.propose(texts, CANDIDATES, Decoding(MAX_NEW_TOKENS))
    # best first, and a text that several candidates write counts once
    return [dict(reversed(one)) for one in answers]


def compared(answers: list[dict[str, float]], expected: list[dict[str, float]]) -> dict[str, float]:
    """How far the scores are apart, and how often the best is the same."""
    gaps = sorted(
        abs(mine[text] - theirs[text])
        for mine, theirs in zip(answers, expected, strict=True)
        for text in mine.keys() & theirs.keys()
    )
    same = [
        max(mine, key=lambda text: mine[text]) == max(theirs, key=lambda text: theirs[text])
        for mine, theirs in zip(answers, expected, strict=True)
    ]
    return {
        "same_best": statistics.mean(same),
        "median": statistics.median(gaps),
        "p95": gaps[int(0.95 * (len(gaps) - 1))],
        "largest": gaps[-1],
    }


if __name__ == "__main__":
    main()
