"""Splits are tokenised by several processes, and what they find is what one finds, one example after another."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import load_tokenizer
from generator.data import token_counts, tokenized_steps
from generator.data.completion_encoding import CompletionEncoder
from generator.data.prompted_steps import TracedSteps
from generator.data.token_counts import count_tokens
from generator.data.tokenized_steps import TokenizedSteps, TokenLimits, tokenize_steps
from generator.prompts.templates import get_template
from retrieval.leandojo.traces import TracedTactics
from tests.fakes import write_splits
from tests.generator.causal_fakes import save_bpe

# Some are whole, some too long as prompts, goals or completions, some of no use, some not to be written.
STEPS = [(f"h : p{i}\n" * (4 * (i % 7)) + "⊢ " + "p ∧ " * (i % 5) + "q", "exact h " * (1 + i % 9)) for i in range(60)]
STEPS += [("no goals", "rfl"), ("⊢ " + "p → " * 90 + "q", "intro h"), ("⊢ p", "exact ☃")]


@pytest.fixture
def traces(tmp_path: Path) -> TracedTactics:
    return TracedTactics.load(write_splits(tmp_path / "data", STEPS) / "train.json", progress=False)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    save_bpe(tmp_path / "bpe")
    return load_tokenizer(tmp_path / "bpe")


def shared_out(monkeypatch: pytest.MonkeyPatch, processes: int, at_once: int) -> None:
    for module, name in ((tokenized_steps, "_ENCODED_AT_ONCE"), (token_counts, "_TOKENIZED_AT_ONCE")):
        monkeypatch.setattr(module, "num_processes", lambda num_parts: min(processes, num_parts))
        monkeypatch.setattr(module, name, at_once)


@pytest.mark.parametrize("is_train", [True, False])
def test_several_processes_find_what_one_finds(
    is_train: bool, traces: TracedTactics, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, encoder = TracedSteps(traces, get_template("llmstep")), CompletionEncoder(tokenizer)

    def tokens() -> TokenizedSteps:
        return tokenize_steps(steps, encoder, TokenLimits(90, 24, is_train), progress=False)

    shared_out(monkeypatch, processes=1, at_once=1)
    expected, expected_values = tokens().kept()
    assert expected_values["shortened"] and len(expected_values["left_out"]) > 1
    for processes, at_once in ((1, 7), (3, 7), (2, 100)):
        shared_out(monkeypatch, processes, at_once)
        arrays, values = tokens().kept()
        assert values == expected_values
        for name, array in expected.items():
            assert np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype, name


def test_it_is_done_in_other_processes(
    traces: TracedTactics, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared_out(monkeypatch, processes=2, at_once=8)
    run = tokenized_steps._Tokenizing.run

    def noted(self: Any, numbers: range) -> TokenizedSteps:
        (tmp_path / f"{os.getpid()}").touch()
        return run(self, numbers)

    monkeypatch.setattr(tokenized_steps._Tokenizing, "run", noted)
    steps, encoder = TracedSteps(traces, get_template("llmstep")), CompletionEncoder(tokenizer)
    tokenize_steps(steps, encoder, TokenLimits(90, 24, True), progress=False)
    assert len([path for path in tmp_path.iterdir() if path.name.isdigit() and path.name != str(os.getpid())]) >= 1


def test_several_processes_count_what_one_counts(
    traces: TracedTactics, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for processes, at_once in ((1, 1), (1, 1000), (3, 7)):
        shared_out(monkeypatch, processes, at_once)
        counts.append(count_tokens(traces, tokenizer, max_bytes=100, keep_marks=False, progress=False))
    for found in counts[1:]:
        assert np.array_equal(found.states, counts[0].states) and np.array_equal(found.tactics, counts[0].tactics)
        assert found[2:] == counts[0][2:]
    assert counts[0].states.tolist() == [
        len(tokenizer(token_counts.fit_state(step.state, 100))["input_ids"]) for step in traces
    ]
