"""The real Coq accepts no proof that is none, and a hostile tactic does nothing beside its proof."""

from pathlib import Path

import pytest

from generator.environments.base import ProofFinished, Statement, Theorem
from generator.environments.coq import CoqEnvironment
from generator.environments.coq.guard import RefusedError, guarded
from generator.environments.coq.session import FailedError
from tests.generator.environments.coq import hostile
from tests.generator.environments.coq.real_coq import ADD, ADD_PROOF, BASICS, error, run

pytestmark = pytest.mark.coq


@pytest.mark.parametrize(
    "tactic", ["exact_no_check I", "fix H 1; exact H", "vm_cast_no_check I", "intros; exact_no_check I"]
)
def test_what_the_kernel_refuses_is_no_proof(coq: CoqEnvironment, tactic: str) -> None:
    false = Statement("forall n : nat, n = S n")
    assert error(run(coq, false, tactic)).message.startswith("Qed: ")
    assert not coq.check(false, [tactic]).accepted
    assert run(coq, ADD, ADD_PROOF) == ProofFinished()  # the process goes on


def test_admitted_goals_are_no_proof_even_if_hidden(project: CoqEnvironment) -> None:
    later = Theorem(BASICS, "later")
    assert error(run(project, later, "hidden")).message.startswith("it leaves a goal unproved")
    assert error(run(project, later, "exists 3; split; [reflexivity | hidden]")).kind == "error"
    assert not project.check(later, ["hidden"]).accepted


def test_incomplete_and_refused_scripts_are_not_accepted(coq: CoqEnvironment) -> None:
    for script in ([], ["intros n m"], ["auto", "Admitted."], ["apply foo"], ["auto", "auto", "admit"]):
        verdict = coq.check(ADD, script)
        assert not verdict.accepted and verdict.message
    assert not coq.check(Theorem("theories/Lists/None.v", "x"), ["auto"]).accepted


def test_axioms_that_were_there_are_allowed_unless_named(project: CoqEnvironment) -> None:
    by_magic, script = Theorem(BASICS, "by_magic"), ["destruct magic"]
    assert project.check(by_magic, script).accepted
    root = str(project.sources.root)
    with CoqEnvironment(root, allowed_axioms=[]) as strict:
        assert error(run(strict, by_magic, *script)).message == "Qed: axiom magic is not allowed"
        assert strict.check(by_magic, script).message == "axiom magic is not allowed"
        assert run(strict, Theorem(BASICS, "also"), "intros a b; apply one") == ProofFinished()
        assert strict.check(Theorem(BASICS, "also"), ["intros a b; apply one"]).accepted
    with CoqEnvironment(root, allowed_axioms=["Small.Basics.magic"]) as lenient:
        assert run(lenient, by_magic, *script) == ProofFinished()
        assert lenient.check(by_magic, script).accepted


def test_what_a_tactic_prints_is_no_verdict(coq: CoqEnvironment) -> None:
    assert not coq.check(Statement("False"), ['idtac "Closed under the global context"']).accepted


def test_the_name_of_an_axiom_that_is_a_keyword_now(tmp_path: Path) -> None:
    text = "Axiom rem : nat -> nat -> nat. Axiom same : forall a b, rem a b = 0.\n"
    text += 'Infix "rem" := rem (at level 40).\nLemma zero : 1 rem 2 = 0. Proof. apply same. Qed.\n'
    (tmp_path / "a.v").write_text(text)
    with CoqEnvironment(str(tmp_path)) as environment:
        assert environment.check(Theorem("a.v", "zero"), ["apply same"]).accepted


def test_a_prefix_that_takes_too_long_in_a_check_leaves_no_process_that_stands_who_knows_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Axiom ax : 1 = 2.\nLemma slow : True. Proof. do 500000 idtac. exact I. Qed.\nLemma x : 1 = 2.\n"
    (tmp_path / "a.v").write_text(text)
    with CoqEnvironment(str(tmp_path), start_timeout_s=0.1, timeout_s=60) as environment:
        monkeypatch.setattr(environment, "_with_shelved", lambda *_: None)  # it would find out by itself
        verdict = environment.check(Theorem("a.v", "x"), ["exact ax"])  # coqtop is given more time
        assert not verdict.accepted and "not done in 0.1 s" in verdict.message
        assert environment.pids == []


def test_hostile_tactics_are_refused_and_write_nothing(
    coq: CoqEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = coq.start(ADD)
    scratch = coq._confinement.folder
    before = sorted(scratch.rglob("*"))
    assert len(hostile.REFUSED) >= 50
    for tactic in hostile.REFUSED:
        assert error(coq.run_tactic(state, tactic)).kind == "refused"
    # what the list of commands did not know of would be refused by Coq's grammar
    session, _ = next(reversed(coq._sessions.values()))
    for tactic in hostile.COMMANDS:
        with pytest.raises(FailedError):
            session.go_to(state.context.offset, ())
            session.step((), f"( {tactic.removesuffix('.')} ).")
    assert not list(tmp_path.iterdir()) and sorted(scratch.rglob("*")) == before
    assert run(coq, ADD, ADD_PROOF) == ProofFinished()


def test_no_commands_word_begins_a_tactic_that_coq_knows(coq: CoqEnvironment) -> None:
    for tactic in ("intros", "set (x := 1)", "pose proof I", "change (0 + 0) with 0", "Nat.order", "BinInt.Z.order"):
        try:
            guarded(tactic)
        except RefusedError:
            pytest.fail(f"{tactic} is refused")
