"""What tests of the real Coq share."""

import multiprocessing
import subprocess
from pathlib import Path

from generator.environments.base import ProofState, Statement, TacticError, TacticResult, Theorem
from generator.environments.coq import CoqEnvironment

PROJECT = Path(__file__).parents[3] / "fixtures" / "coq_project"
BASICS = "theories/Basics.v"
DOUBLE = "simpl; f_equal; apply plus_n_O"
FORK = multiprocessing.get_context("fork")  # another way to start imports torch again
ADD = Statement("forall n m : nat, n + m = m + n")
ADD_PROOF = "induction n; intros m; simpl; [apply plus_n_O | rewrite IHn; apply plus_n_Sm]"
BOTH = Statement("forall A B : Prop, A -> B -> A /\\ B")


def compile_with_coqc(file: Path, *options: str) -> None:
    done = subprocess.run(["coqc", "-q", "-w", "none", *options, file], capture_output=True, text=True, cwd=file.parent)
    assert done.returncode == 0, done.stderr


def run(environment: CoqEnvironment, theorem: Theorem | Statement, *script: str) -> TacticResult:
    result: TacticResult = environment.start(theorem)
    for tactic in script:
        assert isinstance(result, ProofState), result
        result = environment.run_tactic(result, tactic)
    return result


def error(result: TacticResult) -> TacticError:
    assert isinstance(result, TacticError), result
    return result
