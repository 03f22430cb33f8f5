"""Search trees drawn as lines and as pictures."""

from xml.etree import ElementTree

import pytest

from generator.environments.base import ProofState
from generator.search.trace import Trace, draw_text
from generator.search.trace_svg import draw_svg, write_svg
from generator.search.tree import Tree
from tests.generator.search.search_fakes import random_graph
from tests.generator.search.test_best_first import run

SVG = "{http://www.w3.org/2000/svg}"


def example() -> Tree[ProofState]:
    """A proof of two tactics, a dead end, an open state, a tactic that changes nothing, and errors."""
    tree = Tree(ProofState("p q : Prop\n⊢ q ∧ p"))
    root = tree.root
    tree.record(root, "dead", -0.25, ProofState("⊢ False"))
    tree.record(root, "split", -0.5, ProofState("⊢ q\n\ncase right\n⊢ p"))
    tree.record(root, "other", -3.0, ProofState("⊢ p ∧ q"))
    dead, split, _ = [edge.target for edge in root.edges]
    for kind in ("error", "error", "timeout"):
        tree.record_error(dead, kind)
    tree.record(dead, "skip", -1.0, dead.state)
    tree.close(root)
    tree.record_finished(split, "all_goals assumption", -0.125)
    tree.close(split)
    return tree


def test_lines_say_what_was_tried_what_it_gave_and_which_way_was_the_proof():
    assert draw_text(example()).splitlines() == [
        "✓ 0: ⊢ q ∧ p",
        "├─ ★ split  -0.50  ✓ 2: ⊢ q  (+1 goal)",
        "│  └─ ★ all_goals assumption  -0.12  ∎",
        "├─ dead  -0.25  ○ 1: ⊢ False  [2 errors, 1 timeout]",
        "│  └─ skip  -1.00  ↩ 1",
        "└─ other  -3.00  ○ 3: ⊢ p ∧ q",
    ]


def test_a_dead_end_is_marked():
    tree = Tree(ProofState("⊢ p"))
    tree.record_error(tree.root, "error")
    tree.close(tree.root)
    assert draw_text(tree) == "✗ 0: ⊢ p  [1 error]"


def test_lines_are_no_longer_than_the_width_and_the_ends_stay():
    tree = Tree(ProofState("⊢ " + "p ∧ " * 100 + "q"))
    tree.record(tree.root, "x" * 300, -1.0, ProofState("⊢ p"))
    lines = draw_text(tree, width=60).splitlines()
    assert [len(line) for line in lines] == [60, 60]
    assert lines[0].startswith("○ 0: ⊢ p") and lines[0].endswith("p ∧ q") and "…" in lines[0]


def test_the_proof_that_was_checked_is_marked_also_where_the_tree_knows_a_shorter_one():
    tree = Tree(ProofState("⊢ a"))
    tree.record(tree.root, "on", -1.0, ProofState("⊢ b"))
    tree.record_finished(tree.nodes[ProofState("⊢ b")], "done", -1.0)
    tree.record_finished(tree.root, "short", -1.0)
    assert "★ short" in draw_text(tree) and "★ on" not in draw_text(tree)
    marked = draw_text(tree, ["on", "done"])
    assert "★ on" in marked and "★ done" in marked and "★ short" not in marked
    assert "★" not in draw_text(tree, ["unknown"])


def test_of_many_states_the_proof_and_the_likeliest_are_drawn_and_the_rest_counted():
    tree = Tree(ProofState("⊢ start"))
    for i in range(50):
        tree.record(tree.root, f"t{i}", -float(i), ProofState(f"⊢ s{i}"))
    last = tree.nodes[ProofState("⊢ s49")]
    tree.record_finished(last, "done", -1.0)
    lines = draw_text(tree, max_states=10).splitlines()
    assert len(lines) == 1 + 9 + 1 + 1 and lines[-1] == "└─ … 41 more"
    assert "★ t49" in lines[1] and "t0 " in lines[3]
    assert len(draw_text(tree, max_states=None).splitlines()) == 52
    trace = Trace(tree, max_states=10)
    assert trace.num_hidden == 41 == trace.num_hidden_below(tree.root)
    assert "41 of them not drawn" in draw_svg(tree, max_states=10)


HOSTILE = 'simp \x1b[2J <script>alert("x")</script> & \u202e\x00\ufffe\ud800 ]]>'


def test_what_would_act_on_a_terminal_or_a_browser_is_shown_and_does_not():
    tree = Tree(ProofState("⊢ " + HOSTILE))
    tree.record(tree.root, HOSTILE, -1.0, ProofState(HOSTILE + "\nh : p\n⊢ 𝔸"))
    text, picture = draw_text(tree, width=500), draw_svg(tree, title=HOSTILE)
    assert not {"\x1b", "\u202e", "\x00", "\ud800"} & set(text + picture)
    assert "\\x1b[2J" in text and "𝔸" in picture
    root = ElementTree.fromstring(picture)
    assert not list(root.iter(f"{SVG}script")) and "&lt;script&gt;" in picture
    picture.encode()


@pytest.mark.parametrize("seed", range(12))
def test_a_picture_has_a_box_for_each_state_and_end_none_above_another(seed):
    search, _ = run(random_graph(seed, num_states=30, num_tactics=4))
    root = ElementTree.fromstring(draw_svg(search.tree, max_states=None))
    boxes = [group.find(f"{SVG}rect").attrib for group in root.iter(f"{SVG}g")]
    assert len(boxes) == len(search.tree) + search.tree.num_finished
    places = [(float(box["x"]), float(box["y"])) for box in boxes]
    for column in {x for x, _ in places}:
        rows = sorted(y for x, y in places if x == column)
        assert all(below - above >= 44 for above, below in zip(rows, rows[1:], strict=False))
    assert max(x for x, _ in places) + 250 <= float(root.attrib["width"])
    assert max(y for _, y in places) + 44 <= float(root.attrib["height"])
    proof = search.tree.proof() or []
    assert sum("proof" in path.attrib.get("class", "") for path in root.iter(f"{SVG}path")) == len(proof)


def rows_of(picture):
    """By the whole text of a box, where it stands from above."""
    groups = ElementTree.fromstring(picture).iter(f"{SVG}g")
    return {group.find(f"{SVG}title").text: float(group.find(f"{SVG}rect").attrib["y"]) for group in groups}


def test_a_picture_begins_above_with_the_proof_in_one_row():
    tree = Tree(ProofState("⊢ a"))
    for i in range(5):
        tree.record(tree.root, f"t{i}", -1.0 - i, ProofState(f"⊢ s{i}"))
    tree.record_finished(tree.nodes[ProofState("⊢ s3")], "done", -1.0)
    rows = rows_of(draw_svg(tree))
    assert rows["0: ⊢ a"] == rows["t3\n4: ⊢ s3"] == rows["done\nno goals"] == min(rows.values())
    assert sorted(set(rows.values())) == [min(rows.values()) + 54 * i for i in range(5)]


def test_a_proof_by_a_state_that_was_found_before_on_another_way_is_thick_all_along():
    tree = Tree(ProofState("a"))
    for source, tactic, target in (("a", "1", "b"), ("b", "2", "c"), ("c", "3", "d"), ("a", "4", "e"), ("e", "5", "d")):
        tree.record(tree.nodes[ProofState(source)], tactic, -1.0, ProofState(target))
    tree.record_finished(tree.nodes[ProofState("d")], "6", -1.0)
    assert [edge.tactic for edge in tree.proof()] == ["4", "5", "6"]
    paths = ElementTree.fromstring(draw_svg(tree)).iter(f"{SVG}path")
    kinds = [path.attrib.get("class") for path in paths]
    assert sorted(kind for kind in kinds if kind) == ["again proof", "proof", "proof"]


def test_a_picture_shows_the_whole_state_where_it_is_pointed_at(tmp_path):
    picture = draw_svg(example(), title="q ∧ p")
    titles = [title.text for title in ElementTree.fromstring(picture).iter(f"{SVG}title")]
    assert "0: p q : Prop\n⊢ q ∧ p" in titles and "split\n2: ⊢ q\n\ncase right\n⊢ p" in titles
    write_svg(tmp_path / "new" / "tree.svg", picture)
    assert (tmp_path / "new" / "tree.svg").read_text(encoding="utf-8") == picture


def test_a_tree_of_one_long_way_is_drawn_without_deep_recursion():
    tree = Tree(ProofState("0"))
    node = tree.root
    for i in range(1, 2000):
        tree.record(node, "on", -1.0, ProofState(str(i)))
        node = tree.nodes[ProofState(str(i))]
    assert len(draw_text(tree, max_states=None).splitlines()) == 2000
    ElementTree.fromstring(draw_svg(tree, max_states=None))
