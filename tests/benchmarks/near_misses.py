"""How often does the checker of symbolic answers disagree with a slower exact procedure, on answers that nearly hold?

    python tests/benchmarks/near_misses.py --data_path FOLDER --num_pairs 2000

FOLDER is one that `python -m generator.domains generate` made, of any task of symbolic mathematics. Each problem's own
answer is changed in one place - a sign, a constant factor, a digit, a missing term, an operator - and judged twice: as
an evaluation does, and by sympy's full simplify with long limits together with values of 120 digits at 16 points. The
slow side knows that an answer holds where simplify ends with 0 (or, of an equation, where it does in the form that the
residual has around a point), and that it does not where no point of at least two says 0. Where it knows neither, the
pair is not counted as agreement, and its number is printed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sympy as sp
from machine import facts

from generator.domains import make_domain
from generator.domains.problem_files import read_card, read_split
from generator.domains.symbolic.bounds import Undefined
from generator.domains.symbolic.branches import near
from generator.domains.symbolic.checker import Question, residual
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.prefix import SYMBOLS
from generator.domains.symbolic.words import check_words
from generator.domains.verdicts import MalformedError

_DIGITS = 120
_POINTS = 16
_CHANGED = {"add": "sub", "sin": "cos", "cos": "sin", "exp": "sinh", "ln": "exp", "sqrt": "exp", "mul": "add"}


def near_misses(program: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield answers that differ from one in a place, with the kind of difference, without end."""
    words = program.split()
    while True:
        place, kind = rng.randrange(len(words)), rng.choice(("sign", "factor", "digit", "term", "operator", "same"))
        changed = words[:]
        if kind == "sign" and words[place] in ("INT+", "INT-"):
            changed[place] = "INT-" if words[place] == "INT+" else "INT+"
        elif kind == "sign":
            changed[place:place] = ["mul", "INT-", "1"]
        elif kind == "factor":
            changed[place:place] = ["mul", "INT+", str(rng.randint(2, 9))]
        elif kind == "digit" and words[place].isdigit():
            changed[place] = str(rng.randrange(10))
        elif kind == "term" and words[place] in ("add", "mul"):
            end = _end(words, place + 1)
            changed = words[:place] + words[end:]
        elif kind == "operator" and words[place] in _CHANGED:
            changed[place] = _CHANGED[words[place]]
        elif kind == "same":
            changed = ["add", "INT+", str(rng.randint(1, 9)), *words]
        try:
            check_words(changed)
        except MalformedError:
            continue
        if changed != words:
            yield kind, " ".join(changed)


def _end(words: Sequence[str], place: int) -> int:
    """Where the expression that begins at a place ends."""
    for end in range(place + 1, len(words) + 1):
        try:
            check_words(words[place:end])
        except MalformedError:
            continue
        if end == len(words) or not words[end].isdigit():
            return end
    return len(words)


def slow_verdict(question: Question) -> str:
    """Return "holds", "fails", or "unknown"."""
    left = residual(question)
    if left.has(sp.zoo, sp.nan, sp.oo):
        return "fails"
    place, num_zero, num_other = None, 0, 0
    for point, value in _values(left):
        if value:
            num_other += 1
        else:
            num_zero += 1
            place = place or point
    if num_zero == 0 and num_other >= 2:
        return "fails"
    if sp.simplify(left) == 0:
        return "holds"
    if question.is_equation and place is not None:
        try:
            return "holds" if sp.simplify(near(left, place)) == 0 else "unknown"
        except Undefined:
            return "unknown"
    # an integral that is another one at some points, real ones, is none
    return "fails" if num_other >= 2 and num_zero else "unknown"


def _values(expression: sp.Expr) -> Iterator[tuple[dict[sp.Symbol, float], bool]]:
    """Points and whether a value there is not 0, by sympy's own evaluation, which raises its precision as it needs."""
    rng = random.Random(1)
    symbols = sorted(expression.free_symbols | {SYMBOLS["x"]}, key=str)
    for number in range(_POINTS):
        low, high = ((0.1, 1), (1, 3), (3, 8))[number // 2 % 3]
        point = {symbol: (-1) ** number * round(rng.uniform(low, high) * 2**20) / 2**20 for symbol in symbols}
        exact = {symbol: sp.Rational(value) for symbol, value in point.items()}
        try:
            value = expression.xreplace(exact).evalf(_DIGITS, maxn=4 * _DIGITS, chop=False)
        except (ArithmeticError, ValueError, TypeError, RecursionError):
            continue
        if value.is_number and value.is_finite is not False and not value.has(sp.nan, sp.zoo):
            yield point, bool(abs(sp.N(value, 30)) > sp.Float(10) ** (-_DIGITS // 2))


def main() -> None:
    """Print a Markdown row for each kind, and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--num_pairs", type=int, default=2000)
    parser.add_argument("--slow_seconds", type=float, default=60.0)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=600.0, help="of the slow side, after which the rest is left out"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    card = read_card(options.data_path)
    domain: Any = make_domain(card["domain"], {"num_check_workers": options.num_workers} if card else {})
    problems = read_split(options.data_path, "test", domain)
    rng = random.Random(options.seed)
    pairs: list[tuple[str, str, str]] = []
    while len(pairs) < options.num_pairs:
        problem = problems[len(pairs) % len(problems)]
        kind, program = next(near_misses(problem.program, rng))
        pairs.append((kind, problem.spec, program))
    start = time.perf_counter()
    verdicts = domain.check_all([(spec, program) for _, spec, program in pairs])
    wall = time.perf_counter() - start
    domain.pool.close()
    questions = [Question(spec, program, is_equation=domain.is_equation) for _, spec, program in pairs]
    from near_misses import slow_verdict as slowly  # of a module that child processes can import

    with Pool(slowly, options.num_workers, options.slow_seconds) as pool:
        slow, end = list[str](), time.monotonic() + 60 * options.minutes
        for result in pool.map(questions):
            slow.append(result.value or "unknown")
            if time.monotonic() > end:
                break
    _print(domain.name, pairs[: len(slow)], verdicts[: len(slow)], slow, wall)


def _print(task: str, pairs: Sequence[Any], verdicts: Sequence[Any], slow: Sequence[str], wall: float) -> None:
    wanted = {"verified": "holds", "rejected": "fails"}
    disagreements = [
        (pair, verdict.kind, found)
        for pair, verdict, found in zip(pairs, verdicts, slow, strict=True)
        if verdict.kind in wanted and found != "unknown" and wanted[verdict.kind] != found
    ]
    seconds = sorted(verdict.seconds for verdict in verdicts)
    kinds, found = Counter(verdict.kind for verdict in verdicts), Counter(slow)
    both = sum(v.kind in wanted and s != "unknown" for v, s in zip(verdicts, slow, strict=True))
    row = {
        "task": task,
        "pairs": len(pairs),
        "verdicts": dict(kinds),
        "slow": dict(found),
        "decided by both": both,
        "disagreements": len(disagreements),
        "mean_s": round(sum(seconds) / len(seconds), 4),
        "p95_s": round(seconds[int(0.95 * (len(seconds) - 1))], 4),
        "wall_s": round(wall, 1),
    }
    shares = ", ".join(f"{100 * count / len(pairs):.1f}% {kind}" for kind, count in kinds.most_common())
    print(
        f"| {task} | {len(pairs):,} | {shares} | {row['mean_s']} | {row['p95_s']} | {both:,} | {len(disagreements)} |"
    )
    for pair, kind, other in disagreements:
        print(f"  {kind}, and slowly {other}: {pair}")
    print(json.dumps({**row, **facts()}))


if __name__ == "__main__":
    main()
