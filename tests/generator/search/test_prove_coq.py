"""The command with Coq."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from generator.search.prove import main
from tests.generator.search.own_prover import KilledCoq
from tests.generator.search.prove_fakes import results_of

pytestmark = pytest.mark.skipif(
    shutil.which("coqidetop.opt") is None, reason="Coq is not installed: apt-get install coq libcoq-stdlib"
)

SOURCE = """Theorem swap : forall P Q : Prop, P /\\ Q -> Q /\\ P.
Proof. tauto. Qed.

Theorem either : forall P Q : Prop, P \\/ Q -> Q \\/ P.
Proof. tauto. Qed.

Theorem wrong_for_these : forall n : nat, n + 0 = n.
Proof. induction n; simpl; congruence. Qed.
"""
NAMES = "Small.v swap\nSmall.v either\nSmall.v wrong_for_these\nSmall.v missing\n"


@pytest.fixture
def search(tmp_path: Path) -> Any:
    """Search four theorems of a project, one of which it has not."""
    (tmp_path / "Small.v").write_text(SOURCE)
    (tmp_path / "names.txt").write_text(NAMES)
    (tmp_path / "tactics.txt").write_text(
        "intros P Q H\ndestruct H\nsplit; assumption\nright; assumption\nleft; assumption\n"
    )

    def search(environment: str) -> dict[str, tuple[str, list[str] | None]]:
        out = tmp_path / environment.rpartition(".")[2]
        main(
            [
                f"--names_path={tmp_path / 'names.txt'}",
                f"--environment={environment}",
                f"--environment_options.root={tmp_path}",
                f"--tactics={tmp_path / 'tactics.txt'}",
                f"--output_dir={out}",
                "--workers=0",
                "--figures=false",
            ]
        )
        return {r["theorem"]["full_name"]: (r["status"], r["proof"]) for r in results_of(out)}

    return search


def test_proofs_are_found_checked_and_compile_as_a_whole(search: Any, tmp_path: Path) -> None:
    found = search("coq")
    assert {name: status for name, (status, _) in found.items()} == {
        "swap": "proved",
        "either": "proved",
        "wrong_for_these": "failed",
        "missing": "discarded",
    }
    assert found["swap"][1] == ["intros P Q H", "destruct H", "split; assumption"]
    proofs = tmp_path / "coq" / "proofs"
    assert "destruct H" in (proofs / "Small.v").read_text()
    assert subprocess.run(["coqc", "Small.v"], cwd=proofs, capture_output=True).returncode == 0


def test_a_coq_that_is_killed_again_and_again_proves_the_same(search: Any) -> None:
    assert search("tests.generator.search.own_prover.KilledCoq") == search("coq")
    assert KilledCoq.num_kills > 3
