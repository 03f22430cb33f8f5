"""Splits of a benchmark's theorems, as LeanDojo makes them (arXiv:2306.15626, section 4)."""

import math
import random
from collections import defaultdict
from collections.abc import Sequence, Set
from typing import Any, TypeAlias

TheoremRecord: TypeAlias = dict[str, Any]
Splits: TypeAlias = dict[str, list[TheoremRecord]]

HELD_OUT_SHARE = 0.05
"""Share of the theorems that goes to val, and the same to test."""


def split_randomly(theorems: Sequence[TheoremRecord], names: Set[str], rng: random.Random) -> Splits:
    """Hold out random theorems.

    Args:
        theorems: all theorems
        names: full names of those that may be held out; the others are lemmas and go to train
        rng: draws the theorems
    """
    order = [theorem["full_name"] for theorem in theorems if theorem["full_name"] in names]
    rng.shuffle(order)
    return _hold_out(theorems, order[: 2 * _num_held_out(names)])


def split_by_novel_premises(theorems: Sequence[TheoremRecord], names: Set[str], rng: random.Random) -> Splits:
    """Hold out every theorem that uses one of the rarest premises, so that train uses none of these.

    Args:
        theorems: all theorems
        names: full names of those that count for how many are held out
        rng: says which of them go to val and which to test
    """
    users: dict[str, set[str]] = defaultdict(set)
    for theorem in theorems:
        for tactic in theorem["traced_tactics"]:
            for premise in tactic["annotated_tactic"][1]:
                users[premise["full_name"]].add(theorem["full_name"])
    held_out: set[str] = set()
    for premise in sorted(users, key=lambda name: (len(users[name]), name)):
        if len(held_out & names) >= 2 * _num_held_out(names):
            break
        held_out |= users[premise]
    order = sorted(held_out)
    rng.shuffle(order)
    return _hold_out(theorems, order)


def _num_held_out(names: Set[str]) -> int:
    return max(1, math.ceil(HELD_OUT_SHARE * len(names)))


def _hold_out(theorems: Sequence[TheoremRecord], order: Sequence[str]) -> Splits:
    half = len(order) // 2
    split_of = dict.fromkeys(order[:half], "val") | dict.fromkeys(order[half:], "test")
    splits: Splits = {"train": [], "val": [], "test": []}
    for theorem in theorems:
        splits[split_of.get(theorem["full_name"], "train")].append(theorem)
    return splits
