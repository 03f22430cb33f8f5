"""Traced tactics: every release of the benchmark reads alike, and a broken file says where it is broken."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import ConfigError, DataError, Pos, format_state, remove_marks
from retrieval.leandojo.json_list import JsonListReader
from retrieval.leandojo.provenance import Provenance
from retrieval.leandojo.tactic_text import format_tactic
from retrieval.leandojo.traces import TracedTactic, TracedTactics


def step(state: str = "⊢ True", tactic: str = "trivial", **fields: Any) -> dict[str, Any]:
    return {"tactic": tactic, "state_before": state, "state_after": "no goals", **fields}


def theorem(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    record = {"url": "https://example.org/a", "commit": "c0ffee", "file_path": "A/B.lean", "full_name": "A.b"}
    return record | {"start": [3, 1], "end": [4, 9], "traced_tactics": list(steps)} | fields


def load(tmp_path: Path, *theorems: Any, **options: Any) -> TracedTactics:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(theorems), encoding="utf-8")
    return TracedTactics.load(path, **options, progress=False)


AND_SYMM = {"full_name": "And.symm", "def_path": "Init/Core.lean", "def_pos": [7, 9], "def_end_pos": [7, 17]}
RENAMED = {"full_name": "«term_+_».h'", "def_path": ".lake/x/Y.lean", "def_pos": "Pos(2, 5)"}


def test_a_step_knows_its_theorem_its_texts_and_its_premises(tmp_path: Path) -> None:
    written = step(
        "2 goals\np : Prop\n⊢ p\n\n⊢ q",
        "exact  symm\n (h' x)",
        annotated_tactic=["exact  <a>symm</a>\n (<a>h'</a> x)", [AND_SYMM, RENAMED]],
    )
    traces = load(
        tmp_path,
        theorem(step(), full_name="first", start="Pos(1, 2)"),
        theorem(full_name="by term"),
        theorem(written, file_path="T.v", full_name="«a b».é"),
    )
    assert len(traces) == 2
    assert traces[1] == TracedTactic(
        provenance=Provenance("https://example.org/a", "c0ffee", "T.v", "«a b».é", Pos(3, 1), 0),
        state="p : Prop\n⊢ p\n\n⊢ q",
        tactic="exact  <a>symm</a>\n (<a>h'</a> x)",
        premises=(("Init/Core.lean", Pos(7, 9)), (".lake/x/Y.lean", Pos(2, 5))),
    )
    first = traces[0]
    assert (first.provenance.full_name, first.provenance.start, first.premises) == ("first", Pos(1, 2), ())
    assert traces[-1] == traces[1] and traces[0:2] == list(traces)
    with pytest.raises(IndexError):
        traces[2]


ANNOTATED = ["exact  <a>symm</a> h ", [AND_SYMM]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "exact  <a>symm</a> h "),
        ({"normalize_tactics": True}, "exact <a>symm</a> h"),
        ({"tactic_names": "full"}, "exact  <a>And.symm</a> h "),
        ({"tactic_names": "full", "normalize_tactics": True}, "exact <a>And.symm</a> h"),
    ],
)
def test_a_tactic_is_as_written_unless_it_is_asked_for_otherwise(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    traces = load(tmp_path, theorem(step(tactic="exact  symm h ", annotated_tactic=ANNOTATED)), **options)
    assert traces[0].tactic == expected and traces[0].premises == (("Init/Core.lean", Pos(7, 9)),)
    assert traces.marked_tactic_lengths.tolist() == [len(expected)]
    assert traces.tactic_lengths.tolist() == [len(remove_marks(expected))]


def test_the_field_tactic_decides_where_the_annotated_one_has_another_text(tmp_path: Path) -> None:
    strange = step(tactic="exact symm _", annotated_tactic=ANNOTATED)
    traces = load(tmp_path, theorem(strange, step(tactic="simp", annotated_tactic=["<a>simp", [AND_SYMM, AND_SYMM]])))
    assert [traced.tactic for traced in traces] == ["exact symm _", "<a>simp"]
    assert traces.num_unmarked == 1 and len(traces[0].premises) == 1
    assert load(tmp_path, theorem({"annotated_tactic": ANNOTATED, "state_before": "⊢ p"}))[0].tactic == ANNOTATED[0]
    with pytest.raises(DataError, match=r"train\.json: theorem 0 \(A\.b\), tactic 0: tactic .* marks 0 premises but 2"):
        load(tmp_path, theorem(step(annotated_tactic=["simp", [AND_SYMM] * 2])), tactic_names="full")
    with pytest.raises(ConfigError, match="tactic_names is 'long'; choose one of written, full"):
        load(tmp_path, tactic_names="long")


def test_lines_of_a_tactic_are_never_joined(tmp_path: Path) -> None:
    tactic = "simp [foo] -- close it\n  exact hp"
    for normalize in (False, True):
        assert load(tmp_path, theorem(step(tactic=tactic)), normalize_tactics=normalize)[0].tactic == tactic


@pytest.mark.parametrize("fields", [{}, {"annotated_tactic": None}, {"annotated_tactic": ["trivial", []]}])
def test_an_annotation_may_be_missing_or_empty(tmp_path: Path, fields: dict[str, Any]) -> None:
    traces = load(tmp_path, theorem(step(**fields)))
    assert (traces[0].tactic, traces[0].premises) == ("trivial", ())


def test_what_is_left_out_is_counted_and_numbers_of_steps_stay(tmp_path: Path) -> None:
    steps = [
        step("no goals"),
        step(tactic=" \n"),
        step(),
        step("1 goal\nno goals"),
        step(""),
        step("1 goal\n"),
        step(" "),
    ]
    traces = load(tmp_path, theorem(*steps), theorem(), theorem())
    assert [traced.provenance.tactic_idx for traced in traces] == [2]
    assert sorted(traces.left_out.values()) == [1, 2, 2, 3]
    assert "3 steps with an empty state" in traces.summary()
    assert traces.num_theorems == 3
    assert "3 theorems, 1 steps; left out: 2 theorems without" in traces.summary()


def test_an_empty_list_is_no_error(tmp_path: Path) -> None:
    traces = load(tmp_path)
    assert len(traces) == 0 and "left out" not in traces.summary()


def test_a_state_that_comes_back_is_kept_once(tmp_path: Path) -> None:
    state = "⊢ " + "x" * 1000
    traces = load(tmp_path, *[theorem(step(state), step(state + "y"), step(state)) for _ in range(50)])
    assert len(traces) == 150
    assert len(pickle.dumps(traces)) < 15_000, "a tenth of the texts"
    assert [traced.state[-1] for traced in traces] == ["x", "y", "x"] * 50


def test_texts_of_one_hash_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.leandojo.text_column.hash", lambda text: 7, raising=False)
    traces = load(tmp_path, theorem(step("⊢ a"), step("⊢ b"), step("⊢ a"), step("⊢ b", tactic="⊢ a")))
    assert [traced.state for traced in traces] == ["⊢ a", "⊢ b", "⊢ a", "⊢ b"]
    assert [traced.tactic for traced in traces] == ["trivial", "trivial", "trivial", "⊢ a"]


def test_a_copy_for_another_process_is_the_same(tmp_path: Path) -> None:
    traces = load(tmp_path, theorem(step(), step("⊢ é", annotated_tactic=["<a>x</a>", [AND_SYMM]])))
    assert list(pickle.loads(pickle.dumps(traces))) == list(traces)


# ------------------------------------------------------------------------------------------------
# Properties

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
positions = st.tuples(st.integers(1, 9999), st.integers(1, 200))
steps = st.builds(
    lambda state, words, premises: step(
        state,
        annotated_tactic=[
            " ".join(words + [f"<a>{name[-1:] or 'n'}</a>" for name, _ in premises]),
            [{"full_name": name, "def_path": name + ".v", "def_pos": list(pos)} for name, pos in premises],
        ],
    ),
    texts,
    st.lists(texts, min_size=1, max_size=3),
    st.lists(st.tuples(texts, positions), max_size=2),
)
theorems = st.lists(st.builds(lambda name, s: theorem(*s, full_name=name), texts, st.lists(steps, max_size=4)))


@settings(max_examples=60, deadline=None)
@given(records=theorems, ascii=st.booleans(), indent=st.sampled_from([None, 1]), block=st.integers(1, 40))
def test_reading_in_blocks_equals_reading_at_once(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], ascii: bool, indent: int | None, block: int
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "train.json"
    path.write_text(json.dumps(records, ensure_ascii=ascii, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonListReader, "BLOCK", block)
        try:
            traces = TracedTactics.load(path, tactic_names="full", progress=False)
        except DataError as error:
            assert "marks" in str(error)  # a generated tactic may hold a mark by itself
            return
    expected = []
    for record in json.loads(path.read_text(encoding="utf-8")):
        for tactic_idx, traced in enumerate(record["traced_tactics"]):
            text, premises = traced["annotated_tactic"]
            tactic = format_tactic(text, [premise["full_name"] for premise in premises])
            state = format_state(traced["state_before"])
            if remove_marks(tactic).strip() and state.strip() and state != "no goals":
                expected.append((record["full_name"], tactic_idx, state, tactic, len(premises)))
    assert expected == [
        (t.provenance.full_name, t.provenance.tactic_idx, t.state, t.tactic, len(t.premises)) for t in traces
    ]
    assert traces.state_lengths.tolist() == [len(t.state.encode()) for t in traces]
    assert traces.marked_tactic_lengths.tolist() == [len(t.tactic.encode()) for t in traces]
    assert traces.tactic_lengths.tolist() == [len(remove_marks(t.tactic).encode()) for t in traces]


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = json.dumps([theorem(step("⊢ é")), theorem(step())], ensure_ascii=False).encode()
    path = tmp_path / "train.json"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"train\.json"):
            TracedTactics.load(path, progress=False)


# ------------------------------------------------------------------------------------------------
# Refusals


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"  <!DOCTYPE html><html>Sign in</html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b'{"theorems": []}', "must be a JSON list, but begins with '{\"theorems"),
        (b'[{"url": "a" "b"}]', "broken JSON: Expecting ',' delimiter, at byte 13"),
        (b'[{"url": "\xc3\xa9" "b"}]', "at byte 14;"),
        (b"[{}{}]", "theorem 0 .no name.: field 'url'"),
        (b"[[]] []", "theorem 0 .no name.: it is \\[\\], not an object"),
        (b"[] []", "follows the end of the list, at byte 3"),
        (b"[" + b" " * 40, "in the middle of an element, at byte 41"),
        (b'["\xff"]', "not UTF-8 at about byte 2"),
        (b"\x1f\x8b\x08\x00", "not UTF-8"),
        (b"[" * 100_000, "it is nested too deep, at byte 1;"),
        (b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", "it is nested too deep"),
        (b'[{"start": [' + b"1" * 5000 + b", 1]}]", "a number in it has too many digits"),
        (b'[{"url": ' + b"[" * 900 + b"]" * 900 + b"}]", "field 'url' must be a text"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "val.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"val\.json: .*{message}"):
        TracedTactics.load(path, progress=False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/val\.json: there is no such file"):
        TracedTactics.load(tmp_path / "nowhere" / "val.json", progress=False)


def test_a_missing_separator_between_theorems_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps([theorem(step())])[:-1] + "{}]", encoding="utf-8")
    with pytest.raises(DataError, match="',' or ']' expected"):
        TracedTactics.load(path, progress=False)


@pytest.mark.parametrize("field", ["url", "commit", "file_path", "full_name", "start", "traced_tactics"])
@pytest.mark.parametrize("change", ["missing", "null"])
def test_a_theorem_without_a_field_is_named(tmp_path: Path, field: str, change: str) -> None:
    broken = theorem(step(), full_name="Broken.one")
    broken.pop(field)
    if change == "null":
        broken[field] = None
    name = "no name" if field == "full_name" else "Broken.one"
    with pytest.raises(DataError, match=rf"train\.json: theorem 1 \({name}\): field '{field}' must be"):
        load(tmp_path, theorem(step()), broken)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("simp", 'it is "simp", not an object'),
        ({"tactic": "simp"}, "field 'state_before' must be a text, but there are only tactic"),
        ({"state_before": "⊢ p"}, "field 'tactic' must be a text"),
        (step(annotated_tactic="simp"), "field 'annotated_tactic' must be"),
        (step(annotated_tactic=[None, []]), "the text of field 'annotated_tactic' is null"),
        (step(annotated_tactic=["simp", ["p"]]), "a premise of field 'annotated_tactic' is \"p\""),
        (step(annotated_tactic=["<a>p</a>", [{**AND_SYMM, "full_name": None}]]), "field 'full_name' must be a text"),
        (step(annotated_tactic=["<a>p</a>", [{**AND_SYMM, "def_pos": [0, 1]}]]), "field 'def_pos': line_nb"),
        (step(annotated_tactic=["<a>p</a>", [{**AND_SYMM, "def_pos": "7:9"}]]), "'7:9' is not a position"),
        (step(annotated_tactic=["<a>p</a>", [{**AND_SYMM, "def_pos": [2**40, 1]}]]), "beyond any file"),
        (step("\ud835"), "surrogate"),
    ],
)
def test_a_broken_step_is_named(tmp_path: Path, broken: Any, message: str) -> None:
    with pytest.raises(DataError, match=r"train\.json: theorem 0 \(A\.b\), tactic 1: .*") as caught:
        load(tmp_path, theorem(step(), broken))
    assert message in str(caught.value)
