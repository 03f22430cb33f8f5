"""A search tree, drawn as an SVG picture that any browser shows; nothing but text is needed to make it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from generator.environments.base import ProofState
from generator.search.trace import MARKS, Branch, Trace, error_counts, fitted, goal_of, one_line
from generator.search.tree import Node, Tree
from retrieval.training.files import writing_file
from retrieval.training.shown import shown

_BOX, _GAP = (250, 44), (64, 10)  # pixels: of a state, and between states
_MARGIN, _HEAD = 24, 72
_CHARACTERS = 34  # of a monospaced line of 11 pixels in a box
_COLOURS = {"proved": ("#e7f6ec", "#1f8f4d"), "failed": ("#f4f4f5", "#b4b4bb"), "open": ("#eef4fd", "#5b8fd6")}
_NO_XML = re.compile("[\ufffe\uffff]")
_STYLE = """
text { font: 11px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #52525b }
.tactic { font-weight: 600; fill: #18181b }
.title { font: 600 16px system-ui, "DejaVu Sans", sans-serif; fill: #18181b }
.note { font: 12px system-ui, "DejaVu Sans", sans-serif }
.errors { fill: #c2410c; text-anchor: end }
path { fill: none; stroke: #d4d4d8; stroke-width: 1.3 }
path.proof { stroke: #1f8f4d; stroke-width: 3 }
path.again { stroke-dasharray: 3 4 }
"""

_Place = tuple[float, float]


def draw_svg(
    tree: Tree[ProofState],
    proof: Sequence[str] | None = None,
    *,
    title: str = "",
    max_states: int | None = 200,
) -> str:
    """Return a tree as the text of an SVG file.

    A box is a state: above, the tactic that gave it and its log-probability, below, what is to be proved; pointing at
    it shows both whole. The proof is the thick way. Dashed lines lead to states that were found before.

    Args:
        tree: of a search
        proof: tactics that are marked as the proof; by default the shortest that the tree knows
        title: above the drawing
        max_states: that are drawn, those of the proof and the likeliest; None for all
    """
    trace = Trace(tree, proof, max_states)
    placed = _layout(trace)
    where = {node: place for place, node, _ in placed if node is not None}
    width = max(x for (x, _), _, _ in placed) + _BOX[0] + _MARGIN
    height = max(y for (_, y), _, _ in placed) + _BOX[1] + _MARGIN
    lines = [_line(where[branch.edge.source], place, branch) for place, _, branch in placed if branch is not None]
    lines += [_again(where[node], where[to], is_proof) for (node, to), is_proof in _known_again(trace, where).items()]
    boxes = [_box(place, node, branch) for place, node, branch in placed]
    width = max(width, 2 * _MARGIN + 620)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}">',
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *_head(tree, trace, title),
            *sorted(lines, key=_layer),
            *boxes,
            "</svg>\n",
        ]
    )


def write_svg(path: str | Path, picture: str) -> None:
    """Write a picture whole or not at all."""
    with writing_file(path, "the drawing of the search tree") as part:
        part.write_text(picture, encoding="utf-8")


def _layout(trace: Trace) -> list[tuple[_Place, Node[ProofState] | None, Branch | None]]:
    """Places of states and of ends of proofs: a column for each depth, a row for each state that leads no further."""
    placed: list[tuple[_Place, Node[ProofState] | None, Branch | None]] = []
    row = 0
    # depth first, a state after all below it, so that it stands beside the first of them: the proof is the first row
    stack: list[tuple[Node[ProofState] | None, Branch | None, int, int | None]] = [(trace.root, None, 0, None)]
    row_of: dict[int, int] = {}  # of the first that hangs directly below, by the number of the state
    while stack:
        node, branch, depth, begun = stack.pop()
        below = [] if node is None or begun is not None else _drawn_below(trace, node)
        if below:
            assert node is not None
            stack.append((node, branch, depth, 1))
            stack += [(each.child, each, depth + 1, None) for each in reversed(below)]
            continue
        own = row_of.get(node.number, row) if node is not None else row
        row = max(row, own + 1)
        if branch is not None:
            row_of.setdefault(branch.edge.source.number, own)
        place = (_MARGIN + depth * (_BOX[0] + _GAP[0]), _HEAD + own * (_BOX[1] + _GAP[1]))
        placed.append((place, node, branch))
    return placed


def _drawn_below(trace: Trace, node: Node[ProofState]) -> list[Branch]:
    return [branch for branch in trace.branches(node) if branch.child is not None or branch.edge.target is None]


def _known_again(
    trace: Trace, where: dict[Node[ProofState], _Place]
) -> dict[tuple[Node[ProofState], Node[ProofState]], bool]:
    """States that lead to one drawn elsewhere, and that one, each pair once; whether the proof goes this way."""
    pairs: dict[tuple[Node[ProofState], Node[ProofState]], bool] = {}
    for node in where:
        for branch in trace.branches(node):
            target = branch.edge.target
            if branch.child is None and target is not None and target in where and target is not node:
                pairs[node, target] = pairs.get((node, target), False) or branch.is_proof
    return pairs


def _head(tree: Tree[ProofState], trace: Trace, title: str) -> list[str]:
    counts = {status: sum(node.status == status for node in tree) for status in MARKS}
    note = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    hidden = f"; {trace.num_hidden} of them not drawn" if trace.num_hidden else ""
    words = fitted(one_line(title), 90) or "Search tree"
    legend, x = [], _MARGIN
    for status, (fill, stroke) in _COLOURS.items():
        legend.append(f'<rect x="{x}" y="50" width="12" height="12" rx="3" fill="{fill}" stroke="{stroke}"/>')
        legend.append(f'<text class="note" x="{x + 18}" y="60">{status}</text>')
        x += 84
    legend.append(f'<text class="note" x="{x}" y="60">states: {note}{hidden}</text>')
    return [f'<text class="title" x="{_MARGIN}" y="34">{_xml(words)}</text>', *legend]


def _box(place: _Place, node: Node[ProofState] | None, branch: Branch | None) -> str:
    x, y = place
    fill, stroke = _COLOURS["proved" if node is None else node.status]
    tactic = "" if branch is None else one_line(branch.edge.tactic)
    score = "" if branch is None else f"{branch.edge.log_prob:.2f}"
    errors = "" if node is None else error_counts(node)
    state = "∎ no goals" if node is None else f"{MARKS[node.status]} {goal_of(node.state.pp)}"
    whole = tactic + "\n" + ("no goals" if node is None else f"{node.number}: {node.state.pp}")
    is_proof = branch.is_proof if branch is not None else node is not None and node.status == "proved"
    stroke_width = 2.5 if is_proof else 1.2
    upper = fitted(tactic, _CHARACTERS - len(score) - 1) if tactic else "start"
    lower = fitted(state, _CHARACTERS - (len(errors) + 1 if errors else 0))
    return (
        f'<g><title>{_xml(shown(whole.strip()))}</title><rect x="{x:g}" y="{y:g}" width="{_BOX[0]}" height="{_BOX[1]}" '
        f'rx="7" fill="{fill}" stroke="{stroke}" stroke-width="{stroke_width}"/>'
        f'<text class="tactic" x="{x + 9:g}" y="{y + 18:g}">{_xml(upper)}</text>'
        f'<text x="{x + _BOX[0] - 9:g}" y="{y + 18:g}" text-anchor="end">{score}</text>'
        f'<text x="{x + 9:g}" y="{y + 35:g}">{_xml(lower)}</text>'
        f'<text class="errors" x="{x + _BOX[0] - 9:g}" y="{y + 35:g}">{_xml(errors)}</text></g>'
    )


def _line(source: _Place, target: _Place, branch: Branch) -> str:
    x0, y0 = source[0] + _BOX[0], source[1] + _BOX[1] / 2
    x1, y1 = target[0], target[1] + _BOX[1] / 2
    middle = (x0 + x1) / 2
    kind = ' class="proof"' if branch.is_proof else ""
    return f'<path{kind} d="M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"/>'


def _again(source: _Place, target: _Place, is_proof: bool) -> str:
    """A dashed line from the right of a state to the left of one that was found before, through the gaps."""
    x0, y0 = source[0] + _BOX[0], source[1] + _BOX[1] / 2 + 8
    x1, y1 = target[0], target[1] + _BOX[1] / 2 + 8
    kind = "again proof" if is_proof else "again"
    return f'<path class="{kind}" d="M{x0:g} {y0:g}C{x0 + 60:g} {y0:g} {x1 - 60:g} {y1:g} {x1:g} {y1:g}"/>'


def _layer(line: str) -> int:
    """Which lines lie above which: the proof on top, those to states that were found before below all."""
    return ('class="again"' not in line) + ('proof"' in line)


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text))
