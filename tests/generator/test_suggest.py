"""Suggestions on the command line."""

import io
import json

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from common import ByteTokenizer, ConfigError, Context, DataError, Pos
from generator import suggest
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import FixedTacticGenerator
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import TINY, save_checkpoint
from tests.generator.decoding_fakes import assert_same_candidates, randomize


class Noting(TacticGenerator):
    """Proposes two tactics, and notes what it is asked."""

    def __init__(self):
        self.requests = []

    @property
    def states(self):
        """Those of the first request."""
        return [context.state for context in self.requests[0]]

    def propose(self, contexts, num_candidates):
        self.requests.append(contexts)
        return [
            [(f"exact {len(context.state)}", -0.5), ("rcases h with\n| inl h => exact h", -12.25)][:num_candidates]
            for context in contexts
        ]


@pytest.fixture
def noting(monkeypatch):
    generator = Noting()
    monkeypatch.setattr(suggest, "load_generator", lambda path, **options: generator)
    return generator


def give(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_state_as_argument_is_answered_with_log_probabilities(noting, capsys):
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt"])
    assert capsys.readouterr().out == "   -0.50  exact 3\n  -12.25  rcases h with\n          | inl h => exact h\n"


def test_a_state_is_read_from_standard_input_to_its_end(noting, capsys, monkeypatch):
    give(monkeypatch, "p : Prop\n⊢ p\n\ncase right\n⊢ q\n")
    suggest.main(["--ckpt_path", "m.ckpt", "--num_samples", "1"])
    assert noting.states == ["p : Prop\n⊢ p\n\ncase right\n⊢ q"]
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_an_empty_state_is_a_state(noting, capsys):
    suggest.main(["", "--ckpt_path", "m.ckpt"])
    assert noting.states == [""] and "exact 0" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["null", "p : Prop", "[1, 2]", "{a : b}", "3", "true"])
def test_a_state_is_never_read_as_yaml(noting, state):
    suggest.main([state, "--ckpt_path", "m.ckpt"])
    assert noting.states == [state]


def test_the_theorem_is_passed_on(noting):
    options = ["--file_path", "A.lean", "--theorem_full_name", "A.b", "--theorem_pos", "[12, 3]"]
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", *options])
    assert noting.requests == [[Context("A.lean", "A.b", Pos(12, 3), "⊢ p")]]


def test_a_template_is_passed_on_only_when_given(monkeypatch):
    asked = []
    monkeypatch.setattr(suggest, "load_generator", lambda path, **options: asked.append(options) or Noting())
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt"])
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", "--template", "ntp-st"])
    assert "template" not in asked[0] and asked[1] == {**asked[0], "template": "ntp-st"}


def test_json_lines_are_answered_by_json_lines_with_all_that_they_held(noting, capsys, monkeypatch):
    lines = [{"state": "⊢ p", "id": 7}, {"state": "⊢ p q", "file_path": "B.lean", "theorem_pos": [2, 2]}]
    give(monkeypatch, "\n\n".join(map(json.dumps, lines)))
    suggest.main(["--ckpt_path", "m.ckpt", "--format", "jsonl", "--num_samples", "1", "--file_path", "A.lean"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers == [
        {**lines[0], "candidates": [{"tactic": "exact 3", "log_prob": -0.5}]},
        {**lines[1], "candidates": [{"tactic": "exact 5", "log_prob": -0.5}]},
    ]
    assert [(c.path, c.theorem_full_name, c.theorem_pos) for [c] in noting.requests] == [
        ("A.lean", "", Pos(1, 1)),
        ("B.lean", "", Pos(2, 2)),
    ]


def test_lines_are_answered_together_on_request(noting, capsys, monkeypatch):
    give(monkeypatch, "\n".join(json.dumps({"state": "x" * i}) for i in range(5)))
    suggest.main(["--ckpt_path", "m.ckpt", "--format", "jsonl", "--batch_size", "2"])
    assert [len(request) for request in noting.requests] == [2, 2, 1]
    found = [json.loads(line)["candidates"][0]["tactic"] for line in capsys.readouterr().out.splitlines()]
    assert found == [f"exact {i}" for i in range(5)]


ACTIVE = "simp \x1b]0;gone\x07\x9b2J\r\u202e --\ud800"
SHOWN = r"simp \x1b]0;gone\x07\x9b2J\r\u202e --\ud800"


def test_nothing_in_a_candidate_drives_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(suggest, "load_generator", lambda path, **options: FixedTacticGenerator([(ACTIVE, -1.0)]))
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt"])
    assert capsys.readouterr().out == f"   -1.00  {SHOWN}\n"
    exact = ACTIVE.replace("\ud800", "")
    monkeypatch.setattr(suggest, "load_generator", lambda path, **options: FixedTacticGenerator([(exact, -1.0)]))
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", "--format", "jsonl"])
    assert json.loads(capsys.readouterr().out)["candidates"][0]["tactic"] == exact, "programs get the text itself"


def test_input_that_is_no_text_is_refused(noting, monkeypatch):
    for extra in ([], ["--format", "jsonl"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
        with pytest.raises(DataError, match="standard input is no UTF-8"):
            suggest.main(["--ckpt_path", "m.ckpt", *extra])
    with pytest.raises(DataError, match="state holds half a character at 2"):
        suggest.main(["⊢ \udcff", "--ckpt_path", "m.ckpt"])


@pytest.mark.parametrize("position", [None, [0, 0]])
def test_a_position_may_say_nothing(noting, monkeypatch, position):
    give(monkeypatch, json.dumps({"state": "⊢ p", "theorem_pos": position}))
    suggest.main(["--ckpt_path", "m.ckpt", "--format", "jsonl"])
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", "--theorem_pos", json.dumps(position)])
    assert [context.theorem_pos for [context] in noting.requests] == [None, None]


def test_a_state_as_argument_can_be_answered_in_json(noting, capsys):
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", "--format", "jsonl"])
    printed = capsys.readouterr().out
    assert '"⊢ p"' in printed, "a state stays legible"
    answered = json.loads(printed)
    assert answered["state"] == "⊢ p" and len(answered["candidates"]) == 2


def test_that_there_is_no_suggestion_is_said(monkeypatch, capsys):
    monkeypatch.setattr(suggest, "load_generator", lambda path, **options: FixedTacticGenerator([]))
    suggest.main(["⊢ p", "--ckpt_path", "m.ckpt"])
    assert capsys.readouterr().out == "no suggestions\n"


def test_a_real_checkpoint_suggests_what_it_generates(tmp_path, capsys):
    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(dict(TINY), num_beams=2, max_inp_seq_len=64, max_oup_seq_len=8).eval()
    path = save_checkpoint(model, tmp_path / "m.ckpt")
    command = ["⊢ p", "--ckpt_path", str(path), "--num_samples", "3", "--device", "cpu"]
    suggest.main([*command, "--format", "jsonl"])
    found = [(c["tactic"], c["log_prob"]) for c in json.loads(capsys.readouterr().out)["candidates"]]
    assert_same_candidates([found], [model.generate("⊢ p", "", "", (1, 1), 3)], tolerance=1e-4)


def test_a_bare_model_with_few_positions_suggests(tmp_path, capsys):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=1, n_head=2, n_positions=96))
    randomize(model, biases=True).save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(str(tmp_path))
    command = ["⊢ p", "--ckpt_path", str(tmp_path), "--num_samples", "2", "--device", "cpu", "--template", "llmstep"]
    suggest.main([*command, "--format", "jsonl"])
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 2


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"state": "a"', r"standard input:3: is no JSON \(.*one object a line"),
        ('"a"', "standard input:3: give an object with the state as text"),
        ('{"states": "a"}', "standard input:3: give an object"),
        ('{"state": ["a"]}', "standard input:3: give an object"),
        ('{"state": "a", "theorem_pos": [0, 1]}', "standard input:3: theorem_pos: line_nb of a position is 0"),
    ],
)
def test_a_broken_line_is_named_after_those_before_it_are_answered(noting, capsys, monkeypatch, line, message):
    give(monkeypatch, f'{{"state": "fine"}}\n\n{line}\n')
    with pytest.raises(DataError, match=message):
        suggest.main(["--ckpt_path", "m.ckpt", "--format", "jsonl"])
    assert "exact 4" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["num_samples", "batch_size"])
def test_counts_must_be_positive(noting, option):
    with pytest.raises(ConfigError, match=f"{option} is 0"):
        suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", f"--{option}", "0"])


def test_an_unknown_option_gets_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as caught:
        suggest.main(["⊢ p", "--ckpt_path", "m.ckpt", "--num_sampels", "1"])
    assert caught.value.code == 2
    assert "did you mean 'num_samples'" in capsys.readouterr().err


def test_an_error_is_one_line_and_exit_status_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["suggest", "⊢ p", "--ckpt_path", str(tmp_path / "gone.ckpt")])
    with pytest.raises(SystemExit) as caught:
        suggest.cli()
    printed = capsys.readouterr()
    assert caught.value.code == 2 and printed.out == ""
    assert (
        printed.err.startswith("error: ") and printed.err.count("\n") == 1 and "gone.ckpt: there is no" in printed.err
    )
