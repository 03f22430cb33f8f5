"""Theorems are found by name or position; where that is not clear, the error says why."""

import shutil
from pathlib import Path

import pytest

from common import ConfigError
from generator.environments.base import CannotStartError, Statement, Theorem
from generator.environments.coq.declarations import declarations, proof_end, without_proofs
from generator.environments.coq.sentences import offset_of, position_of, split_sentences
from generator.environments.coq.sources import SourceTree

PROJECT = Path(__file__).parents[3] / "fixtures" / "coq_project"
BASICS = "theories/Basics.v"
TEXT = (PROJECT / BASICS).read_text(encoding="utf-8")


@pytest.fixture
def tree() -> SourceTree:
    return SourceTree(str(PROJECT), Path("/nowhere"))


def test_modules_are_part_of_a_name_and_sections_are_not() -> None:
    names = [each.name for each in declarations(split_sentences(TEXT))]
    assert names == [
        *("four", "Inner.double", "Outer.double", "same", "also", "three", "three_is", "größer_π", "magic", "by_magic"),
        *("later", "open_end", "let_in", "done"),
    ]


@pytest.mark.parametrize("name", ["Small.Basics.Inner.double", "Inner.double", "Basics.Inner.double"])
def test_a_name_in_full_or_its_end(tree: SourceTree, name: str) -> None:
    offset = tree.context_of(Theorem(BASICS, name)).offset
    assert TEXT[offset:].startswith("Lemma double (n : nat)")


def test_a_name_in_unicode(tree: SourceTree) -> None:
    offset = tree.context_of(Theorem(BASICS, "Small.Basics.größer_π")).offset
    assert TEXT[offset:].startswith("Lemma größer_π")


def test_a_position_needs_no_unique_name(tree: SourceTree) -> None:
    start = position_of(TEXT, TEXT.index("Lemma double : forall"))
    context = tree.context_of(Theorem(BASICS, "double", start))
    assert context.offset == offset_of(TEXT, start)


def test_the_same_name_in_two_files_is_two_theorems(tree: SourceTree) -> None:
    first = tree.context_of(Theorem("theories/Uses.v", "Small.Uses.double"))
    second = tree.context_of(Theorem(BASICS, "Small.Basics.Outer.double"))
    assert first.place != second.place


@pytest.mark.parametrize(
    ("theorem", "message"),
    [
        (Theorem(BASICS, "double"), "stands there on lines 7, 17; give the position"),
        (Theorem(BASICS, "nothing"), "is not declared there"),
        (Theorem(BASICS, "Small.Basics.no"), "is not declared there"),  # it stands in a comment
        (Theorem(BASICS, "double", (1, 1)), "1:1: no sentence begins there"),
        (Theorem(BASICS, "double", (900, 1)), "no sentence begins there"),
        (Theorem(BASICS, "triple", (7, 3)), "double stands there, and not triple"),
        (Theorem("theories/None.v", "x"), "theories/None.v is not under"),
        (Theorem("../coq_project/theories/Basics.v", "same"), "is not under"),
        (Theorem("", "same"), "is not under"),
        (Statement("True. Axiom x : False"), "more than one sentence"),
        (Statement("True", name="a b"), "'a b' is no name"),
        (Statement("True", name="a. Axiom b : False. Lemma c"), "is no name"),
        (Statement("True", header="Require Import (*"), "the comment does not end"),
        (Statement("True", header="Require Import Lia"), "does not end with a full stop"),
    ],
    ids=range(14),
)
def test_what_cannot_begin_says_why(tree: SourceTree, theorem: Theorem | Statement, message: str) -> None:
    with pytest.raises(CannotStartError, match=message):
        tree.context_of(theorem)


def test_a_file_that_is_no_text_or_does_not_end(tmp_path: Path) -> None:
    (tmp_path / "a.v").write_bytes(b"\xff\xfe")
    (tmp_path / "b.v").write_text("Lemma x : True. (* ")
    for name, message in (("a.v", "can't decode"), ("b.v", "the comment does not end")):
        with pytest.raises(CannotStartError, match=message):
            SourceTree(str(tmp_path), Path("/nowhere")).context_of(Theorem(name, "x"))


def test_options_of_a_project_and_of_the_library(tmp_path: Path, tree: SourceTree) -> None:
    source = tree.source(BASICS)
    assert source.options == ("-R", str(PROJECT / "theories"), "Small", "-w", "none")
    assert source.dotted_name == "Small.Basics"
    for name in ("theories/Init/Peano.v", "theories/Lists/List.v", "user-contrib/stdpp/a/b.v"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("")
    library = SourceTree(None, tmp_path, ["-w", "none"])
    assert library.source("theories/Init/Peano.v").options == ("-noinit", "-w", "none")
    assert library.source("theories/Lists/List.v").dotted_name == "Coq.Lists.List"
    stdpp = library.source("stdpp/a/b.v")  # the data's way to write it
    assert stdpp.options[:3] == ("-R", str(tmp_path / "user-contrib" / "stdpp"), "stdpp")
    assert stdpp.dotted_name == "stdpp.a.b"


def test_a_project_without_its_file_and_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.v").write_text("Lemma x : True.")
    assert SourceTree(str(tmp_path), Path("/nowhere")).source("a.v").options == ("-Q", str(tmp_path), "")
    (tmp_path / "_CoqProject").write_text("-R theories")
    with pytest.raises(ConfigError, match="-R is not followed by what it takes"):
        SourceTree(str(tmp_path), Path("/nowhere"))
    shutil.rmtree(tmp_path)
    with pytest.raises(ConfigError, match="which is no folder"):
        SourceTree(str(tmp_path), Path("/nowhere"))


def test_proofs_are_skipped_only_where_nothing_else_depends_on_them() -> None:
    kept = [each.text for each in without_proofs(split_sentences(TEXT))]
    after = {text.split(":")[0].strip(): kept[number + 1] for number, text in enumerate(kept[:-1])}
    assert after["Lemma three_is"] == after["Lemma größer_π (ε"] == "Admitted."
    assert after["Lemma same"] == "Proof."  # in a section
    assert after["Definition three"] == "Proof."  # its term is used
    assert after["Theorem done (x y"] == "Proof (fun e => eq_sym e)."


def test_where_a_proof_ends() -> None:
    sentences = split_sentences(
        "Lemma a : T := t. Definition b : T. Proof. x. Defined. Lemma c : T. Proof t. Lemma d : T. x."
    )
    ends = [proof_end(sentences, number) for number in (0, 1, 5, 7)]
    assert ends == [None, 4, 6, None]
