"""`python -m generator.domains`: the same commands for every domain, and what they refuse."""

import json
import re
from pathlib import Path

import pytest

from common import NextstepError
from generator.domains import DOMAINS, domain_class
from generator.domains.__main__ import COMMANDS, main
from tests.fakes import save_checkpoint
from tests.generator.families import FAMILIES

QUICK = [name for name in DOMAINS if not domain_class(name).is_slow]  # the others have tests of their own
ROOT = Path(__file__).parents[3]


def run(*words, status=0):
    """Run a command, which ends with a status."""
    try:
        main([str(word) for word in words])
    except SystemExit as stopped:
        assert (stopped.code or 0) == status
    else:
        assert status == 0


@pytest.fixture(params=FAMILIES)
def checkpoint(request, tmp_path):
    family = FAMILIES[request.param]
    lengths = {name: 8 if name in ("max_oup_seq_len", "max_completion_len") else 96 for name in family.lengths}
    return save_checkpoint(family.build(**lengths), tmp_path / "model.ckpt")


@pytest.mark.parametrize("domain", QUICK)
def test_one_domain_is_like_the_other(domain, tmp_path, capsys):
    sizes = ["--num_train", 40, "--num_val", 12, "--num_test", 12]
    run("generate", "--domain", domain, "--output_dir", tmp_path / "data", *sizes)
    assert "test specifications that are in train too: 0.0%" in capsys.readouterr().out
    data = ["--domain", domain, "--data_path", tmp_path / "data"]
    run("inspect", *data, "--num_problems", 10)
    assert "bytes of the specification" in capsys.readouterr().out
    run("baseline", *data, "--output_dir", tmp_path / "results", "--budget", 6, "--num_train", 40)
    assert "| writer | solved@1 |" in capsys.readouterr().out
    run("check", "--domain", domain, "--path", tmp_path / "data" / "test.jsonl")
    assert capsys.readouterr().out == "12 verified\n"
    pytest.importorskip("matplotlib")
    run("plot", "--domain", domain, "--results", tmp_path / "results", "--output_dir", tmp_path / "figures")
    assert (tmp_path / "figures" / "solved.png").stat().st_size > 5000
    assert list((tmp_path / "figures").glob("events.out.tfevents.*"))


def test_results_hold_every_proposal_and_its_verdict(tmp_path):
    choice = ["--num_problems", 5, "--budget", 7, "--writers", "tight"]
    run("baseline", "--output_dir", tmp_path, *choice)
    rows = [json.loads(line) for line in (tmp_path / "tight.jsonl").read_text().splitlines()]
    metrics = json.loads((tmp_path / "tight.json").read_text())
    assert len(rows) == 5 and all(len(row["tries"]) == 7 for row in rows)
    kinds = [kind for row in rows for _, _, kind, _ in row["tries"]]
    assert metrics["verdicts"]["verified"] == kinds.count("verified") and metrics["num_proposals"] == 35
    solved = [next((k + 1 for k, each in enumerate(row["tries"]) if each[2] == "verified"), None) for row in rows]
    assert [row["solved_at"] for row in rows] == solved
    assert metrics["curve"]["share"][6] == sum(each is not None for each in solved) / 5
    assert metrics["estimator"].startswith("pass@k") and metrics["options"]["seed"] == 0
    assert len(metrics["exact_curve"]["share"]) == 7
    run("baseline", "--output_dir", tmp_path / "first", *choice, "--stop_at_first")
    first = [json.loads(line) for line in (tmp_path / "first" / "tight.jsonl").read_text().splitlines()]
    assert [row["solved_at"] for row in first] == solved
    assert [row["tries"][-1][2] for row in first if row["solved_at"]] == ["verified"] * sum(map(bool, solved))


def test_the_posterior_s_own_samples_are_calibrated(tmp_path):
    run("baseline", "--output_dir", tmp_path, "--writers", "posterior", "tight", "--num_problems", 30, "--budget", 50)
    posterior, tight = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("posterior", "tight"))
    assert posterior["total_variation"] < 1e-6 and posterior["solved@1"] == 1.0
    assert posterior["nll"] == pytest.approx(posterior["nll_floor"], abs=0.5)
    assert 0.5 < tight["total_variation"] < 1 and 0 < posterior["total_variation_of_frequencies"] < 0.7
    assert all(each["posterior"] == pytest.approx(each["proposed"]) for each in posterior["calibration"])


def test_a_model_is_evaluated_with_samples_and_with_a_beam_at_equal_budget(checkpoint, tmp_path, capsys):
    choice = ["--ckpt_path", checkpoint, "--num_problems", 3, "--budget", 5, "--device", "cpu"]
    run("evaluate", *choice, "--output_dir", tmp_path / "r", "--name", "samples")
    run("evaluate", *choice, "--output_dir", tmp_path / "r", "--name", "beam", "--proposals", "beam")
    run("evaluate", *choice, "--output_dir", tmp_path / "r", "--name", "top_p", "--top_p", 0.9)
    for name, estimator in (("samples", "pass@k"), ("beam", "first that holds"), ("top_p", "pass@k")):
        metrics = json.loads((tmp_path / "r" / f"{name}.json").read_text())
        assert metrics["writer"] == name and metrics["num_proposals"] <= 15 and metrics["valid_syntax"] <= 1
        assert metrics["estimator"].startswith(estimator) and ("calibration" in metrics) == (name == "samples")
        assert metrics["options"]["ckpt_path"] == str(checkpoint)
    run("solve", "[11+]", "--ckpt_path", checkpoint, "--budget", 4, "--device", "cpu", status=1)
    assert "not solved: the budget of 4 proposals is spent" in capsys.readouterr().out


def test_beams_of_several_widths_have_results_of_their_own(checkpoint, tmp_path, capsys):
    choice = ["--ckpt_path", checkpoint, "--num_problems", 3, "--device", "cpu", "--output_dir", tmp_path / "r"]
    run("evaluate", *choice, "--beams", 4, 1, 2, "--name", "b", "--trained_on", "elsewhere", "--train_size", 70)
    printed = capsys.readouterr().out
    assert printed.startswith("gold: of 3 problems' own programs the checker verifies 100.0%\n")
    for width in (1, 2, 4):
        metrics = json.loads((tmp_path / "r" / f"b_beam{width}.json").read_text())
        options = metrics["options"]
        assert metrics["budget"] == options["beam"] == width and metrics["writer"] == f"b_beam{width}"
        assert (options["trained_on"], options["train_size"]) == ("elsewhere", 70) and len(options["ckpt_hash"]) == 16
        assert metrics["num_proposals"] <= 3 * width and metrics["gold"]["pass_rate"] == 1.0
        assert f"| b_beam{width} |" in printed
    assert "is not what a beam of k finds" not in printed
    run("evaluate", *choice, "--proposals", "beam", "--budget", 4, "--num_gold", 0)
    printed = capsys.readouterr().out
    assert "first k candidates of one beam of 4, which is not what a beam of k finds" in printed
    assert "gold" not in printed and "gold" not in json.loads((tmp_path / "r" / "model.json").read_text())
    assert json.loads((tmp_path / "r" / "model.json").read_text())["options"]["trained_on"] is None


def test_an_interrupted_evaluation_says_how_to_go_on_and_does(tmp_path, monkeypatch, capsys):
    import signal

    from generator.domains import evaluate
    from retrieval.training.signals import Interrupted

    def interrupting(*args):
        yield from (outcome for outcome, _ in zip(solve(*args), range(4), strict=False))
        signal.raise_signal(signal.SIGTERM)

    solve = evaluate.Progress.__call__
    words = ["--output_dir", tmp_path, "--writers", "dsl", "--num_problems", 9, "--budget", 3, "--group_size", 2]
    monkeypatch.setattr(evaluate.Progress, "__call__", interrupting)
    with pytest.raises(Interrupted) as stopped:
        main(["baseline", *map(str, words)])
    assert stopped.value.code == 143
    assert "interrupted by SIGTERM: 4 of 9 problems are kept; the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    run("baseline", *words)
    assert len((tmp_path / "dsl.jsonl").read_text().splitlines()) == 9


def test_solve_draws_grid_proposals_and_the_first_that_holds(capsys):
    run("solve", "[11+50-34+]", "--writer", "tight", "--seed", 1)
    printed = capsys.readouterr().out
    assert printed.startswith("[11+50-34+]\n\n    0  1  2  3  4  5\n 0  .")
    assert "rejected  cell" in printed and "solved by proposal" in printed
    assert re.search(r"^  \+  +-\d+\.\d\d  \[.*verified$", printed, re.MULTILINE)  # with its log-probability
    assert printed.rstrip().splitlines()[-5].count("[+]") == 1  # row 1


def test_texts_may_begin_with_a_minus(capsys):
    choice = ["--domain", "regex", "--seed", "-1"]
    run("solve", "-ab,+a", *choice, "--writer", "prior", "--budget", 200)
    assert capsys.readouterr().out.startswith("-ab,+a\n")
    run("check", "--domain", "regex", "--spec", "-ab,+a", "--program", "-", status=1)
    assert capsys.readouterr().out.startswith("  ? - ")


def test_solve_without_a_specification_takes_the_first_problem(capsys):
    run("solve", "--writer", "posterior")
    assert "solved by the first proposal" in capsys.readouterr().out


def test_a_failure_ends_with_status_one(capsys):
    run("solve", "[11+50-34+]", "--writer", "all_strings", "--budget", 3, status=1)
    run("check", "--spec", "[11+]", "--program", "[0,0,0,0]", status=1)
    run("check", "--spec", "[11+]", "--program", "import os", status=1)
    assert "? import os    malformed" in capsys.readouterr().out
    run("check", "--spec", "[11+]", "--program", "[0,1,0,1]")


def test_texts_of_models_drive_no_terminal(capsys):
    run("check", "--spec", "[11+]", "--program", "\x1b[2J\x00", status=1)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\x00" not in printed


def test_a_file_of_pairs_is_judged_line_by_line(tmp_path, capsys):
    path = tmp_path / "answers.jsonl"
    pairs = [("[11+]", "[0,1,0,1]"), ("[11+]", "[0,0,0,0]"), ("[11+]", "x")]
    path.write_text("\n".join(json.dumps({"spec": spec, "program": program}) for spec, program in pairs))
    run("check", "--path", path, status=1)
    printed = capsys.readouterr().out
    assert f"{path}:2:" in printed and "1 verified, 1 rejected, 1 malformed" in printed


def test_yaml_and_flags_join(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(
        "domain: regex\ndomain_options: {max_examples: 3}\nnum_problems: 4\nbudget: 5\nwriters: [prior]\n"
    )
    run(
        "baseline", "--config", config, "--output_dir", tmp_path / "r", "--budget", 2, "--domain_options.num_letters", 3
    )
    options = json.loads((tmp_path / "r" / "prior.json").read_text())["options"]
    assert options["budget"] == 2 and options["domain_options"] == {"max_examples": 3, "num_letters": 3}


CONFIGS = [path for path in sorted((ROOT / "configs" / "domains").glob("*.yaml")) if path.stem != "bootstrap"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_a_domain_is_taken(path, capsys):
    run("inspect", "--config", path, "--num_problems", 3)
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["slove"], "command is 'slove'; choose one of generate"),
        (["solve", "[11+]"], "give a model .ckpt_path., or a writer; domain rectangle has all_strings"),
        (["solve", "[11+]", "--writer", "x"], "writers of domain rectangle is 'x'; choose one of all_strings"),
        (["solve", "[11+11-]", "--writer", "dsl"], "no program exists"),
        (["solve", "[77+]", "--writer", "dsl"], "cell 77"),
        (["solve", "[]", "--writer", "dsl"], "0 examples"),
        (["solve", "[11+]", "--writer", "dsl", "--budget", "0"], "budget is 0"),
        (["solve", "[11+]", "--writer", "dsl", "--ckpt_path", "x"], "both writer and ckpt_path"),
        (["baseline", "--output_dir", "r", "--num_problems", "0"], "num_problems is 0"),
        (["baseline", "--output_dir", "r", "--data_path", "none"], "no domain.json"),
        (["baseline", "--output_dir", "r", "--writers", "llm"], "writers of domain rectangle is 'llm'"),
        (["evaluate", "--output_dir", "r"], "ckpt_path is missing"),
        (["evaluate", "--output_dir", "r", "--ckpt_path", "x", "--top_p", "2"], "top_p is 2.0"),
        (["evaluate", "--output_dir", "r", "--ckpt_path", "x", "--proposals", "beams"], "proposals is 'beams'"),
        (["evaluate", "--output_dir", "r", "--ckpt_path", "x", "--beams", "0"], "beams is 0"),
        (["evaluate", "--output_dir", "r", "--ckpt_path", "x", "--train_size", "0"], "train_size is 0"),
        (["baseline", "--output_dir", "r", "--num_gold", "-1"], "num_gold is -1"),
        (["baseline", "--output_dir", "r", "--group_size", "0"], "group_size is 0"),
        (["check", "--spec", "[11+]"], "give either spec and program, or path"),
        (["check", "--path", "none.jsonl"], "none.jsonl: No such file"),
        (["plot", "--output_dir", "f"], "results is missing"),
        (["plot", "--output_dir", "f", "--results", "none.json"], "none.json: No such file"),
        (["plot", "--output_dir", "f", "--run", "."], "holds no events of TensorBoard"),
        (["generate", "--output_dir", "d", "--domain", "triangle"], "domain is 'triangle'; choose one of rectangle"),
    ],
)
def test_mistakes_are_said_in_a_line(words, reason, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NextstepError, match=reason) as refused:
        main(words)
    assert "\n" not in str(refused.value)


def test_results_of_another_domain_are_refused(tmp_path):
    pytest.importorskip("matplotlib")
    run("baseline", "--output_dir", tmp_path / "r", "--writers", "dsl", "--num_problems", 2, "--budget", 2)
    with pytest.raises(NextstepError, match=r"dsl.json is a result of domain rectangle, not regex"):
        main(["plot", "--domain", "regex", "--results", str(tmp_path / "r"), "--output_dir", str(tmp_path / "f")])
    path = tmp_path / "r" / "dsl.json"
    for broken in ("{}", "[]", "", json.dumps({**json.loads(path.read_text()), "curve": {}})):
        path.write_text(broken)
        with pytest.raises(NextstepError, match="dsl.json is no result"):
            main(["plot", "--results", str(path), "--output_dir", str(tmp_path / "f")])


def test_every_command_explains_itself(capsys):
    run("--help")
    listed = capsys.readouterr().out
    for command in COMMANDS:
        assert command in listed
        run(command, "--help")
        assert f"python -m generator.domains {command}" in capsys.readouterr().out


def test_losses_of_a_run_are_drawn_against_the_floor(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "run")) as board:
        for step in range(20):
            board.add_scalar("loss_train_step", 2.0 / (step + 1), step)
            board.add_scalar("loss_val", 1.0 / (step + 1), step)
    run("plot", "--run", tmp_path / "run", "--output_dir", tmp_path / "f")
    assert "training.png" in capsys.readouterr().out and (tmp_path / "f" / "training.png").stat().st_size > 5000


def test_no_source_of_domains_evaluates_text():
    import ast

    for path in (ROOT / "generator" / "domains").rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"eval", "exec", "compile", "__import__"}, path
