"""Does Coq print the states that the training data holds? Theorems are replayed with their own tactics, byte for byte.

nice -n 10 python tests/benchmarks/coq_agreement.py path/to/coq_stdlib/random/val.json --num_theorems 200 --seed 0

`--skip_proofs` replaces earlier proofs by `Admitted`; `--check` also proves each theorem from nothing with coqtop.
Prints a Markdown row, the theorems that differ, and a JSON line.
"""

import argparse
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import machine

from generator.environments.base import CannotStartError, ProofFinished, ProofState, TacticError, Theorem
from generator.environments.coq import CoqEnvironment


@dataclass
class Replay:
    """What one theorem showed."""

    name: str
    first_state: bool = False
    all_states: bool = False
    finished: bool = False
    checked: bool = False
    why: str = ""
    start_s: float = 0.0
    check_s: float = 0.0
    step_s: list[float] = field(default_factory=list)


def main() -> None:
    """Replay theorems of a split in the order of their files, as a search over a split would go through them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--num_theorems", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", default=None)
    parser.add_argument("--timeout_s", type=float, default=60.0)
    parser.add_argument("--skip_proofs", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    with open(args.path, encoding="utf-8") as file:
        theorems = json.load(file)
    chosen = random.Random(args.seed).sample(theorems, min(args.num_theorems, len(theorems)))
    chosen.sort(key=lambda each: (each["file_path"], each["start"]))
    with CoqEnvironment(args.root, timeout_s=args.timeout_s, skip_proofs=args.skip_proofs) as environment:
        replays = [replay(environment, each, args.check) for each in chosen]
        version = environment.programs.version
    report(replays, args, version, len({each["file_path"] for each in chosen}))


def replay(environment: CoqEnvironment, theorem: dict[str, Any], check: bool) -> Replay:
    """Run a theorem's own tactics, and compare each state with the one in the data."""
    steps = theorem["traced_tactics"]
    done = Replay(theorem["full_name"])
    asked = Theorem(theorem["file_path"], theorem["full_name"], (theorem["start"][0], theorem["start"][1]))
    begin = time.perf_counter()
    try:
        state: Any = environment.start(asked)
    except CannotStartError as error:
        done.why = str(error)
        return done
    done.start_s = time.perf_counter() - begin
    done.first_state = state.pp == steps[0]["state_before"]
    done.all_states = True
    script = []
    for number, step in enumerate(steps, start=1):
        wanted = step["state_before"]
        if not isinstance(state, ProofState):
            done.all_states, done.why = False, f"finished before step {number}"
            break
        for swap in swaps(state.pp, wanted):
            state = environment.run_tactic(state, swap)
            script.append(swap)
            assert isinstance(state, ProofState)
        begin = time.perf_counter()
        result = environment.run_tactic(state, step["tactic"])
        done.step_s.append(time.perf_counter() - begin)
        script.append(step["tactic"])
        if isinstance(result, TacticError):
            done.all_states, done.why = False, f"step {number} `{step['tactic']}`: {result.message}"
            break
        if state.pp != wanted and done.all_states:
            done.all_states, done.why = False, f"before step {number}: {difference(state.pp, wanted)}"
        state = result
    done.finished = isinstance(state, ProofFinished)
    if check and done.finished:
        begin = time.perf_counter()
        verdict = environment.check(asked, script)
        done.check_s = time.perf_counter() - begin
        done.checked = verdict.accepted
        done.why += "" if verdict.accepted else f"check: {verdict.message}"
    return done


def swaps(shown: str, wanted: str) -> list[str]:
    """Return the tactics that bring the goals into the order of the data, which does not hold `2:` and braces."""
    have, want = shown.split("\n\n"), wanted.split("\n\n")
    if have == want or Counter(have) != Counter(want):
        return []
    tactics = []
    for place, goal in enumerate(want):
        other = have.index(goal, place)
        if other != place:
            have[place], have[other] = have[other], have[place]
            tactics.append(f"all: swap {place + 1} {other + 1}")
    return tactics


def difference(shown: str, wanted: str) -> str:
    """Return the first lines that differ."""
    for ours, theirs in zip(shown.split("\n"), wanted.split("\n"), strict=False):
        if ours != theirs:
            return f"`{ours[:120]}` instead of `{theirs[:120]}`"
    return "another number of lines"


def report(replays: list[Replay], args: argparse.Namespace, version: str, num_files: int) -> None:
    """Print a row, what differs, and a JSON line."""
    steps = [each for replay in replays for each in replay.step_s]
    starts = sorted(replay.start_s for replay in replays)
    checks = [replay.check_s for replay in replays if replay.check_s]
    count = {
        name: sum(getattr(replay, name) for replay in replays) for name in ("first_state", "all_states", "finished")
    }
    print("| theorems (files) | earlier proofs | first state | all states | Qed | steps | tactics a second |", end="")
    print(" step median, p90, max | start median, p90, max, sum |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|")
    print(
        f"| {len(replays)} ({num_files}) | {'Admitted' if args.skip_proofs else 'run'} | {count['first_state']} "
        f"| {count['all_states']} | {count['finished']} | {len(steps):,} | {len(steps) / sum(steps):.0f} "
        f"| {spread(steps, 'ms')} | {spread(starts, 's')}, {sum(starts):.0f} s |\n"
    )
    if args.check:
        accepted = sum(replay.checked for replay in replays)
        print(f"{accepted} accepted by coqtop from nothing, {spread(checks, 's')} each\n")
    for replay in replays:
        if replay.why:
            print(f"- {replay.name}: {replay.why}")
    print(json.dumps({**machine.facts(), "coq": version, "seed": args.seed, **count, "steps": len(steps)}))


def spread(seconds: list[float], unit: str) -> str:
    """Median, 90th percentile and maximum."""
    factor, digits = {"ms": (1e3, 1), "s": (1.0, 2)}[unit]
    ordered = sorted(seconds)
    values = statistics.median(ordered), ordered[int(0.9 * (len(ordered) - 1))], ordered[-1]
    return ", ".join(f"{each * factor:.{digits}f}" for each in values) + f" {unit}"


if __name__ == "__main__":
    main()
