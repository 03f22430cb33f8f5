"""Does Coq print the states that the training data holds? Theorems are replayed with their own tactics, byte for byte.

nice -n 10 python tests/benchmarks/coq_agreement.py path/to/coq_stdlib/random/val.json --num_theorems 200 --seed 0

`--skip_proofs` replaces earlier proofs by `Admitted`; `--check` also proves each theorem from nothing with coqtop.
Prints a Markdown row, the theorems that differ, and a JSON line.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
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
    start_cpu_s: float = 0.0
    check_s: float = 0.0
    step_s: list[float] = field(default_factory=list)
    steps_cpu_s: float = 0.0


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
    before, begin = cpu_s(environment), time.perf_counter()
    try:
        state: Any = environment.start(asked)
    except CannotStartError as error:
        done.why = str(error)
        return done
    done.start_s = time.perf_counter() - begin
    done.start_cpu_s = sum(seconds - before.get(pid, 0.0) for pid, seconds in cpu_s(environment).items())
    before = cpu_s(environment)
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
    done.steps_cpu_s = sum(seconds - before.get(pid, 0.0) for pid, seconds in cpu_s(environment).items())
    if check and done.finished:
        begin = time.perf_counter()
        verdict = environment.check(asked, script)
        done.check_s = time.perf_counter() - begin
        done.checked = verdict.accepted
        done.why += "" if verdict.accepted else f"check: {verdict.message}"
    return done


def cpu_s(environment: CoqEnvironment) -> dict[int, float]:
    """Return the seconds of processor time of each process; Linux only."""
    ticks = os.sysconf("SC_CLK_TCK")
    stats = {pid: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in environment.pids}
    return {pid: (int(each[11]) + int(each[12])) / ticks for pid, each in stats.items()}


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
    steps_cpu = sum(replay.steps_cpu_s for replay in replays)
    starts = [replay.start_s for replay in replays]
    starts_cpu = [replay.start_cpu_s for replay in replays]
    checks = [replay.check_s for replay in replays if replay.check_s]
    keys = ("first_state", "all_states", "finished")
    count = {key: sum(getattr(replay, key) for replay in replays) for key in keys}
    row = {
        "theorems (files)": f"{len(replays)} ({num_files})",
        "earlier proofs": "Admitted" if args.skip_proofs else "run",
        "first state": count["first_state"],
        "all states": count["all_states"],
        "Qed": count["finished"],
        "steps": f"{len(steps):,}",
        "tactics a second": f"{len(steps) / sum(steps):.0f}",
        "of Coq's processor time": f"{len(steps) / steps_cpu:.0f}",
        "step median, p90, max": spread(steps, "ms"),
        "start median, p90, max, sum": f"{spread(starts, 's')}, {sum(starts):.0f} s",
        "its processor time": f"{spread(starts_cpu, 's')}, {sum(starts_cpu):.0f} s",
    }
    for cells in (row, ["--:"] * len(row), row.values()):
        print(f"| {' | '.join(map(str, cells))} |")
    print()
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
