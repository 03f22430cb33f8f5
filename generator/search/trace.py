"""A search tree, drawn for the terminal: what was tried, what it gave, and the way that was the proof."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from generator.environments.base import ProofState
from generator.search.tree import Edge, Node, Tree
from retrieval.training.shown import shown

MARKS = {"proved": "✓", "failed": "✗", "open": "○"}
_WHITE_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Branch:
    """A tactic as it is drawn.

    Attributes:
        edge: the tactic
        child: the state below it; None if that is drawn elsewhere, or the proof was finished
        is_proof: whether it belongs to the proof
    """

    edge: Edge[ProofState]
    child: Node[ProofState] | None
    is_proof: bool


class Trace:
    """Which part of a tree is drawn: the proof, the likeliest states, and what leads to them.

    Attributes:
        root: the first state
        num_hidden: states that are left out
    """

    def __init__(
        self, tree: Tree[ProofState], proof: Sequence[str] | None = None, max_states: int | None = 200
    ) -> None:
        """Choose.

        Args:
            tree: of a search
            proof: tactics that are marked as the proof; by default the shortest that the tree knows
            max_states: that are drawn; None for all
        """
        self.root = tree.root
        self._proof = {id(edge) for edge in _way(tree, proof)}
        self._shown = _chosen(
            tree, [edge for node in tree for edge in node.edges if id(edge) in self._proof], max_states
        )
        self.num_hidden = len(tree) - len(self._shown)

    def branches(self, node: Node[ProofState]) -> list[Branch]:
        """Return the tactics that worked in a state, the proof's first, then the likeliest."""
        found = []
        for edge in node.edges:
            target, is_proof = edge.target, id(edge) in self._proof
            is_child = target is not None and target is not self.root and target.parents[0] is edge
            if is_child and target not in self._shown:
                continue
            found.append(Branch(edge, target if is_child else None, is_proof))
        return sorted(found, key=lambda branch: (not branch.is_proof, -branch.edge.log_prob))

    def num_hidden_below(self, node: Node[ProofState]) -> int:
        """States found here that are left out."""
        return sum(
            edge.target is not None and edge.target.parents[:1] == [edge] and edge.target not in self._shown
            for edge in node.edges
        )


def draw_text(
    tree: Tree[ProofState],
    proof: Sequence[str] | None = None,
    *,
    width: int = 120,
    max_states: int | None = 200,
) -> str:
    """Return a tree as lines of text: a line for each tactic that worked, and what it gave.

    A state is marked as proved, failed or open, and has a number, by which it is referred to where it is met again.
    Numbers behind tactics are log-probabilities.

    Args:
        tree: of a search
        proof: tactics that are marked as the proof; by default the shortest that the tree knows
        width: characters of a line; states are shortened to it
        max_states: that are drawn, those of the proof and the likeliest; None for all
    """
    trace = Trace(tree, proof, max_states)
    lines = [fitted(_state_line(tree.root), width)]
    # a stack of what is still to be written: how far in, whether it is the last there, and what
    stack = _below(trace, tree.root, "")
    while stack:
        indent, is_last, branch = stack.pop()
        lines.append(fitted(indent + ("└─ " if is_last else "├─ ") + _branch_line(branch), width))
        if isinstance(branch, Branch) and branch.child is not None:
            stack += _below(trace, branch.child, indent + ("   " if is_last else "│  "))
    return "\n".join(lines)


def _below(trace: Trace, node: Node[ProofState], indent: str) -> list[tuple[str, bool, Branch | int]]:
    """What hangs below a state, the last first."""
    branches: list[Branch | int] = [*trace.branches(node)]
    if hidden := trace.num_hidden_below(node):
        branches.append(hidden)
    return [(indent, i == len(branches) - 1, branch) for i, branch in reversed(list(enumerate(branches)))]


def _branch_line(branch: Branch | int) -> str:
    if isinstance(branch, int):
        return f"… {branch} more"
    edge = branch.edge
    start = f"{'★ ' if branch.is_proof else ''}{one_line(edge.tactic)}  {edge.log_prob:.2f}  "
    if edge.target is None:
        return start + "∎"
    return start + (_state_line(edge.target) if branch.child is not None else f"↩ {edge.target.number}")


def _state_line(node: Node[ProofState]) -> str:
    errors = error_counts(node)
    return f"{MARKS[node.status]} {node.number}: {goal_of(node.state.pp)}" + (f"  [{errors}]" if errors else "")


def error_counts(node: Node[ProofState]) -> str:
    """Say how many tactics failed in a state, by kind: "3 errors, 1 timeout"."""
    counts = (node.errors or {}).items()
    return ", ".join(f"{number} {kind}{'s' if kind == 'error' and number > 1 else ''}" for kind, number in counts)


def goal_of(state: str) -> str:
    """What is to be proved in the first goal of a state, in a line, with the number of further goals.

    >>> goal_of("case left\\np q : Prop\\nh : p ∧ q\\n⊢ q\\n\\ncase right\\n⊢ p")
    '⊢ q  (+1 goal)'
    """
    goals = [goal for goal in re.split(r"\n[ \t]*\n", state.strip()) if goal.strip()] or [""]
    first = goals[0]
    target = first[first.rindex("⊢") :] if "⊢" in first else first
    others = len(goals) - 1
    return one_line(target) + (f"  (+{others} goal{'s' if others > 1 else ''})" if others else "")


def one_line(text: str) -> str:
    """A text without line breaks and without characters that act."""
    return shown(_WHITE_SPACE.sub(" ", text.strip()))


def fitted(text: str, width: int) -> str:
    """A text of at most so many characters; the middle is left out.

    >>> fitted("0123456789", 7)
    '0123…89'
    """
    if len(text) <= width:
        return text
    end = max((width - 1) // 3, 0)
    return text[: max(width - 1 - end, 0)] + "…" + text[len(text) - end :]


def _way(tree: Tree[ProofState], proof: Sequence[str] | None) -> Iterator[Edge[ProofState]]:
    """The tactics of a proof in a tree, as far as it knows them."""
    if proof is None:
        yield from tree.proof() or ()
        return
    node: Node[ProofState] | None = tree.root
    for tactic in proof:
        edge = next((each for each in node.edges if each.tactic == tactic), None) if node is not None else None
        if edge is None:
            return
        yield edge
        node = edge.target


def _chosen(tree: Tree[ProofState], proof: Sequence[Edge[ProofState]], max_states: int | None) -> set[Node[ProofState]]:
    """The states to draw, each with those by which it was found."""
    on_proof = {edge.target: None for edge in proof if edge.target is not None}
    chosen: dict[Node[ProofState], None] = {tree.root: None}
    for wanted in [*on_proof, *sorted(tree, key=lambda node: (not node.is_taken, -node.log_prob))]:
        way, node = [], wanted
        while node not in chosen:
            way.append(node)
            node = node.parents[0].source
        if max_states is None or len(chosen) + len(way) <= max_states or wanted in on_proof:
            chosen |= dict.fromkeys(way)
    return set(chosen)
