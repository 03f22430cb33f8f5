import json
import logging
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from common import DataError, Pos, Premise
from retrieval.corpus import Corpus


def _file(path: str, imports: list[str], *premises: dict[str, Any]) -> dict[str, Any]:
    return {"path": path, "imports": imports, "premises": list(premises)}


def _premise(name: Any = "p", start: Any = (1, 1), end: Any = (1, 5), code: Any = "code") -> dict[str, Any]:
    return {"full_name": name, "code": code, "start": start, "end": end, "kind": "theorem"}


def _corpus(folder: Path, *files: dict[str, Any]) -> Corpus:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(file) + "\n" for file in files), encoding="utf-8")
    return Corpus(path)


def _accessible(corpus: Corpus, path: str, pos: Any) -> list[int]:
    mask = corpus.accessible_mask(path, pos)
    assert mask.shape == (len(corpus),)
    return mask.nonzero().flatten().tolist()


# --- reading ---------------------------------------------------------------------------------------


def test_premises_are_numbered_in_file_order(library: Corpus) -> None:
    assert (len(library), library.num_files) == (12, 6)
    assert library[0] == Premise(
        "Basic.lean",
        "And.symm",
        Pos(1, 1),
        Pos(2, 9),
        "theorem And.symm : a ∧ b → b ∧ a",
        "commanddeclaration",
    )
    assert (library[11].path, library[11].full_name) == ("Top.lean", "«top-most»")
    assert list(library) == [library[i] for i in range(12)]
    assert list(library.paths)[:2] == ["Basic.lean", "Or.lean"]
    assert library.numbers_in_file("List.lean") == range(8, 11)
    assert library.numbers_in_file("Empty.lean") == range(11, 11)
    with pytest.raises(IndexError):
        library[12]


def test_filters_of_reprover_count_what_they_drop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = [_premise("kept"), _premise("[a, b"), _premise("xs[0]"), _premise("")]
    dropped = [_premise(None), _premise("a.user__.n12"), _premise(code=""), _premise("[a, b]"), _premise("[]")]
    with caplog.at_level(logging.WARNING):
        corpus = _corpus(tmp_path, _file("A", [], *kept, *dropped), _file("B", [], _premise("last")))
    assert [premise.full_name for premise in corpus] == ["kept", "[a, b", "xs[0]", "", "last"]
    assert sorted(corpus.num_dropped.values()) == [1, 2, 2]
    assert len(caplog.records) == 1 and "left out 5 of 10 premises" in caplog.text


@pytest.mark.parametrize("dropped", [{"name": None}, {"name": "a.user__.n1"}, {"code": ""}, {"name": "[a, b]"}])
def test_each_filter_works_alone(tmp_path: Path, dropped: dict[str, Any]) -> None:
    corpus = _corpus(tmp_path, _file("A", [], _premise("first"), _premise(**dropped), _premise("last")))
    assert [premise.full_name for premise in corpus] == ["first", "last"]
    assert corpus.num_dropped.total() == 1


def test_rare_forms_are_read(tmp_path: Path) -> None:
    without_kind = {key: value for key, value in _premise("a", "Pos(2, 1)", "Pos(3, 4)").items() if key != "kind"}
    corpus = _corpus(tmp_path, _file("A", [], without_kind, _premise("𝔸.«b c»", [4, 1], [4, 1], "⟨λ⟩")))
    assert corpus[0] == Premise("A", "a", Pos(2, 1), Pos(3, 4), "code")
    assert (corpus[1].full_name, corpus[1].code) == ("𝔸.«b c»", "⟨λ⟩")


def test_content_hash_follows_the_content_and_not_its_spelling(tmp_path: Path) -> None:
    files = [_file("A", [], _premise("é")), _file("B", ["A"], _premise("b"))]
    first = _corpus(tmp_path, *files).content_hash
    respelled = tmp_path / "other.jsonl"
    respelled.write_text("\n\n".join(json.dumps(file, ensure_ascii=False) for file in files), encoding="utf-8")
    assert Corpus(respelled).content_hash == first
    changes = [
        [_file("A", [], _premise("é")), _file("B", [], _premise("b"))],
        [_file("A", [], _premise("é")), _file("C", ["A"], _premise("b"))],
        [_file("A", [], _premise("é")), _file("B", ["A"], _premise("b", code="codE"))],
        [_file("A", [], _premise("é")), _file("B", ["A"], _premise("b", end=[1, 6]))],
        [_file("A", []), _file("B", ["A"], _premise("é"), _premise("b"))],
    ]
    assert len({_corpus(tmp_path, *changed).content_hash for changed in changes} | {first}) == 6


def test_workers_get_a_corpus_by_pickle(library: Corpus) -> None:
    copied = pickle.loads(pickle.dumps(library))
    assert list(copied) == list(library) and copied.content_hash == library.content_hash


# --- positions and access --------------------------------------------------------------------------


def test_locate_takes_the_first_premise_that_holds_the_position(library: Corpus) -> None:
    assert library.locate("Nat.lean", [2, 5]) == 4  # inside the structure, before its field is asked
    assert library.locate("Nat.lean", Pos(9, 1)) == 7
    assert library.locate("Nat.lean", Pos(9, 30)) == 7, "the end belongs to the premise"
    assert library.locate(Path("Nat.lean"), "Pos(8, 2)") == 6
    assert library.locate("Nat.lean", [7, 1]) is None
    assert library.locate("Empty.lean", [1, 1]) is None
    assert library.locate("Nowhere.lean", [1, 1]) is None
    assert library.locate("Or.lean", [3, 4]) == 3
    assert library.locate("Or.lean", [2, 4]) is None
    assert library.locate_premise("Or.lean", [3, 4]) == library[3]
    assert library.locate_premise("Or.lean", [2, 4]) is None


def test_imports_are_accessible_through_other_files(library: Corpus) -> None:
    assert _accessible(library, "Top.lean", [1, 1]) == list(range(11))
    assert _accessible(library, "Empty.lean", [1, 1]) == list(range(11))
    assert _accessible(library, "Nat.lean", [1, 1]) == [0, 1], "Or.lean is no import of Nat.lean"
    assert _accessible(library, "Basic.lean", [1, 1]) == []


def test_in_the_same_file_the_position_decides(library: Corpus) -> None:
    assert _accessible(library, "Basic.lean", [2, 8]) == []
    assert _accessible(library, "Basic.lean", [2, 9]) == [0], "what ends at the position is accessible"
    # the second List.map is not let in by the name of the first, nor a field before its structure ends
    assert _accessible(library, "List.lean", [5, 1]) == [*range(8), 8]
    assert _accessible(library, "Nat.lean", [2, 20]) == [0, 1, 5]


def test_mask_belongs_to_the_caller(library: Corpus) -> None:
    library.accessible_mask("Top.lean", [9, 1]).fill_(False)
    assert library.accessible_mask(Path("Top.lean"), Pos(9, 1)).sum() == 12


def test_unknown_file_has_no_accessible_premises(library: Corpus) -> None:
    with pytest.raises(DataError, match="'New.lean' is not a file of the corpus .*add a line for the file"):
        library.accessible_mask("New.lean", [1, 1])


def test_masks_equal_a_search_of_the_import_graph(tmp_path: Path) -> None:
    rng = random.Random(0)
    imports = {i: rng.sample(range(i), min(i, rng.randrange(3))) for i in range(70)}
    files = [
        _file(str(i), [str(j) for j in imports[i]], *[_premise(f"{i}", [n, 1], [n, 9]) for n in range(1, i % 4 + 1)])
        for i in range(70)
    ]
    corpus = _corpus(tmp_path, *files)
    for i in range(70):
        reached, queue = set(), list(imports[i])
        while queue:
            if (j := queue.pop()) not in reached:
                reached.add(j)
                queue += imports[j]
        expected = [
            number
            for number, premise in enumerate(corpus)
            if int(premise.path) in reached or (premise.path == str(i) and premise.end <= Pos(2, 9))
        ]
        assert _accessible(corpus, str(i), (2, 9)) == expected


def test_a_chain_of_three_thousand_imports(tmp_path: Path) -> None:
    files = [_file(str(i), [str(i - 1)] if i else [], _premise(str(i))) for i in range(3000)]
    corpus = _corpus(tmp_path, *files)
    assert corpus.accessible_mask("2999", [1, 1]).sum() == 2999
    files[0]["imports"] = ["2999"]
    with pytest.raises(DataError, match="corpus.jsonl:1: the imports form a cycle: 0 imports 2999 imports 2998 "):
        _corpus(tmp_path, *files)


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([_file("A", ["B"])], "jsonl:1: A imports B, which is no file of the corpus"),
        ([_file("A", ["B"]), _file("B", [])], "jsonl:1: A imports B, which stands below, at .*jsonl:2; order"),
        ([_file("A", ["B"]), {"path": "B"}, []], "jsonl:1: A imports B, which is no file of the corpus"),
        ([_file("A", ["A"])], "jsonl:1: the imports form a cycle: A imports A$"),
        (
            [_file("Z", []), _file("A", ["C"]), _file("B", ["Z", "A"]), _file("C", ["B"])],
            "jsonl:2: the imports form a cycle: A imports C imports B imports A$",
        ),
        ([_file("A", []), _file("A", [])], "jsonl:2: A appears for the second time"),
        ([{"path": "A", "imports": []}], "jsonl:1: not a source file .*premises"),
        ([{"path": "A", "imports": None, "premises": []}], "jsonl:1: not a source file"),
        ([_file("A", [["B"]])], "jsonl:1: not a source file"),
        ([["A", []]], "jsonl:1: not a source file"),
        ([_file("A", []), _file("B", [], _premise("p", [2, 1], [1, 9]))], "jsonl:2: premise p stands from"),
        ([_file("A", [], _premise("p", [0, 1], [1, 9]))], "jsonl:1: premise p stands from"),
        ([_file("A", [], _premise("q"), _premise("p", [1, 0], [1, 9]))], "jsonl:1: premise p stands from"),
        ([_file("A", [], _premise("p", [1], [1, 9]))], r"jsonl:1: premise 0 .*\[1\] is not a position"),
        ([_file("A", [], _premise("p", [1, 1.5], [2, 9]))], "jsonl:1: premise 0 .*1.5"),
        ([_file("A", [], _premise("p", [1, 1], [1 << 31, 1]))], "jsonl:1: premise 0 .*int"),
        ([_file("A", [], _premise("p", [1, 1, 1], [1, 1, 1]))], "jsonl:1: premise 0 .*not a position"),
        ([_file("A", [], _premise(5))], "jsonl:1: premise 0"),
        ([_file("A", [], _premise(code=None))], "jsonl:1: premise 0"),
        ([_file("A", [], _premise("p"), {"full_name": "p"})], "jsonl:1: premise 1 .*there is no 'code'"),
        ([_file("A", [], _premise("\ud800"))], "jsonl:1: premise 0 .*surrogates"),
        ([], "is empty"),
    ],
)
def test_a_broken_corpus_is_refused(tmp_path: Path, files: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _corpus(tmp_path, *files)


def test_a_file_that_is_no_corpus_is_refused(tmp_path: Path, library_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the corpus .*none.jsonl: No such file"):
        Corpus(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="directory"):
        Corpus(tmp_path)
    library_path.write_bytes(library_path.read_bytes()[:-40])
    with pytest.raises(DataError, match="corpus.jsonl:6: this line is not JSON"):
        Corpus(library_path)
    library_path.write_bytes(b"<html>\n")
    with pytest.raises(DataError, match="corpus.jsonl:1: this line is not JSON"):
        Corpus(library_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"path": "A\xed\xa0\x80", "imports": [], "premises": []}', "jsonl:1: this line is not JSON"),
        (b'{"path": "A\\ud800", "imports": [], "premises": []}', "jsonl:1: not a source file"),
        (b'{"path": 5, "imports": [], "premises": []}', "jsonl:1: not a source file"),
        (b'{"path": "A", "imports": "", "premises": []}', "jsonl:1: not a source file"),
        (b'{"path": "A", "imports": [], "premises": {}}', "jsonl:1: not a source file"),
        (b'{"path": "A", "imports": [], "premises": null}', "jsonl:1: not a source file"),
        (b"[" * 100_000, "jsonl:1: this line is not JSON"),
        (b'{"path": ' + b"9" * 5000 + b"}", "jsonl:1: this line is not JSON"),
    ],
    ids=range(8),
)
def test_lines_of_other_programs_are_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(DataError, match=message):
        Corpus(path)


@pytest.mark.parametrize("position", [[3, True], [True, 3], ["3", 1], [3.0, 1], [3, 2**31], [3], None])
def test_a_position_is_two_numbers(tmp_path: Path, position: Any) -> None:
    for start, end in ((position, [9, 9]), ([1, 1], position)):
        with pytest.raises(DataError, match="premise 0 of this file"):
            _corpus(tmp_path, _file("A", [], _premise("a", start, end)))
