"""Both families answer: candidates with their log-probabilities, in order, as in validation."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

from common import Pos
from generator import CachingGenerator, without_placeholders
from generator.interface.tactic_generator import TacticGenerator
from tests.fakes import EIGHT, quiet_trainer
from tests.generator.decoding_fakes import assert_same_candidates
from tests.generator.families import PLACE, TACTIC_OF, ask, context, training_batches


def test_it_is_a_tactic_generator_and_a_lightning_module(family):
    model = family.build()
    assert isinstance(model, TacticGenerator) and isinstance(model, pl.LightningModule)


def test_generate_gives_what_was_learnt_with_its_log_probability(family, learnt):
    state_of = {tactic: state for state, tactic in EIGHT}
    batches = list(training_batches(family.data(learnt.data_path, batch_size=1)))
    assert len(batches) == len(EIGHT)
    for batch in batches:
        (tactic,) = batch["tactic"]
        candidates = learnt.model.generate(
            state=state_of[tactic], file_path="A.lean", theorem_full_name="t", theorem_pos=Pos(1, 1), num_samples=4
        )
        assert candidates[0][0] == tactic
        assert [p for _, p in candidates] == sorted((p for _, p in candidates), reverse=True)
        assert len({t for t, _ in candidates}) == len(candidates) <= 4
        loss, num_tokens = learnt.model.loss_of(batch)
        assert candidates[0][1] == pytest.approx(-loss.item() * num_tokens, abs=1e-3), "plain sum, EOS included"


@pytest.mark.filterwarnings("ignore:a state is over the limit")
def test_a_batch_keeps_its_order_and_equals_one_at_a_time(learnt):
    model, states = learnt.model, [state for state, _ in EIGHT] * 2 + ["", "p : Prop\n" * 60 + "⊢ p"]
    positions = [(1, 1), [1, 1], SimpleNamespace(line_nb=1, column_nb=1)] * 6
    together = model.batch_generate(states, ["A.lean"] * 18, ["t"] * 18, positions, 3)
    assert [candidates[0][0] for candidates in together[:16]] == [tactic for _, tactic in EIGHT] * 2
    assert len(together) == 18
    for state, candidates in zip(states, together, strict=True):
        alone = model.generate(state, *PLACE, 3)
        assert [t for t, _ in alone] == [t for t, _ in candidates]
        assert [p for _, p in alone] == pytest.approx([p for _, p in candidates], abs=1e-3)
    assert model.batch_generate([], [], [], [], 3) == []


def test_engines_agree(family, learnt):
    other = family.generator.load(learnt.checkpoint, engine="transformers")
    states = [state for state, _ in EIGHT]
    ours, theirs = ask(learnt.model, states, 2), ask(other, states, 2)
    assert [candidates[0][0] for candidates in ours] == [tactic for _, tactic in EIGHT]
    assert_same_candidates(ours, theirs)


def test_one_sample_works_and_a_count_in_front_of_goals_is_ignored(learnt):
    state, tactic = EIGHT[2]
    assert [t for t, _ in learnt.model.generate(f"1 goal\n{state}", *PLACE, 1)] == [tactic]


def test_validation_asks_what_inference_asks_and_ranks_alike(family, learnt):
    model, module = learnt.model, family.data(learnt.data_path)
    module.setup("validate")
    batch = next(iter(module.val_dataloader()))
    state_of = {tactic: state for state, tactic in EIGHT}
    states = [state_of[tactic] for tactic in batch["tactic"]]
    assert batch["state"] == model.write_inputs([context(state) for state in states])
    in_validation = model.decode(batch["state"], 4)
    in_inference = model.batch_generate(states, batch["file_path"], batch["full_name"], batch["start"], 4)
    for one, two in zip(in_validation, in_inference, strict=True):
        assert [t for t, _ in one] == [t for t, _ in two]


def test_marks_are_removed_from_candidates_and_equal_ones_merged(learnt, monkeypatch):
    model = learnt.model
    texts = iter(["exact <a>And.left</a> h", "exact And.left h", "simp", "rfl"])
    monkeypatch.setattr(model.tokenizer, "batch_decode", lambda rows, skip_special_tokens: [next(texts) for _ in rows])
    candidates = model.generate("⊢ p", *PLACE, 4)
    assert [t for t, _ in candidates] == ["exact And.left h", "simp", "rfl"]


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_the_empty_tactic_is_no_candidate(family, engine, learnt, tmp_path, monkeypatch):
    model = family.generator.load(learnt.checkpoint, engine=engine)
    written = [("", -0.1), ("simp", -0.5), (" \n\t", -0.6), ("<a></a>", -0.7), ("rfl", -0.9)]
    monkeypatch.setattr(model.engine, "propose", lambda inputs, n, decoding: [written for _ in inputs])
    for asked in (model, CachingGenerator(model), without_placeholders(model)):
        assert ask(asked, ["⊢ p"], 5) == [[("simp", -0.5), ("rfl", -0.9)]]
    assert model.propose([context("⊢ p")], 5) == [[("simp", -0.5), ("rfl", -0.9)]]
    records = sum(quiet_trainer(tmp_path).predict(model, family.data(learnt.data_path, predict_split="val")), [])
    assert [row["tactic"] for record in records for row in record["candidates"]] == ["simp", "rfl"] * len(EIGHT)


def test_states_over_the_limit_are_counted_and_said_once(learnt, monkeypatch):
    long = "".join(f"h{i} : p\n" for i in range(60)) + "⊢ p"
    monkeypatch.setattr(learnt.model, "num_shortened", 0)
    with pytest.warns(UserWarning, match="over the limit and was shortened") as said:
        ask(learnt.model, [long, "⊢ p", long], 1)
    assert learnt.model.num_shortened == 2
    assert sum("over the limit" in str(one.message) for one in said) == 1


# ----------------------------------------------------------------------------------------- sampling


def test_sampling_instead_of_search_is_the_same_for_a_seed(family, learnt):
    sampled = family.generator.load(learnt.checkpoint, sampling={"temperature": 0.5, "seed": 3})
    state, tactic = EIGHT[1]
    candidates = sampled.generate(state, *PLACE, num_samples=4)
    assert candidates[0][0] == tactic and candidates == sampled.generate(state, *PLACE, num_samples=4)
    assert sampled.kept_options()["sampling"]["temperature"] == 0.5


def test_sampling_is_an_option_of_validation_too(family, learnt, tmp_path):
    sampled = family.generator.load(learnt.checkpoint, sampling={"temperature": 0.1})
    metrics = quiet_trainer(tmp_path).validate(sampled, family.data(learnt.data_path), verbose=False)[0]
    assert metrics["top1_acc_val"] == 1.0 and sampled.kept_options()["sampling"] is not None


def test_what_was_learnt_is_predicted_with_its_state_and_place(family, learnt, tmp_path):
    module = family.data(learnt.data_path, predict_split="val")
    records = sum(quiet_trainer(tmp_path).predict(learnt.model, module), [])
    assert {record["tactic"]: record["candidates"][0]["tactic"] for record in records} == {
        tactic: tactic for tactic in TACTIC_OF.values()
    }
    assert sorted(record["full_name"] for record in records) == [f"Lib.thm{i}" for i in range(len(EIGHT))]
