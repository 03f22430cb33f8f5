"""What validation and test say of a program writer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common import ConfigError
from generator.domains import make_domain
from generator.domains.base import Verdict
from generator.domains.solved_in_training import SolvedInTraining
from generator.domains.writer_metrics import WriterMetrics
from retrieval.training.board import Board
from retrieval.training.tensorboard import TensorBoard
from tests.fakes import EIGHT, quiet_trainer, write_splits
from tests.generator.domains.writer_families import WRITERS, WriterFamily
from tests.generator.families import ENCODER_DECODER


@pytest.fixture(params=WRITERS, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> WriterFamily:
    return request.param  # type: ignore[no-any-return]


class FakeEngine:
    """Answers every input with what a function says."""

    name, is_live = "fake", True

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def propose(self, inputs: Any, num_candidates: int, decoding: Any) -> list[list[tuple[str, float]]]:
        self.decoding = decoding
        return [[(self.answer(text), -1.0)] * num_candidates for text in inputs]

    def release(self) -> None:
        """There is nothing to let go of."""


def right(text: str) -> str:
    """The likeliest program for a specification, however it is written into the input."""
    spec = text.removeprefix("[SPEC]").removesuffix("[PROGRAM]")
    posterior = make_domain("rectangle").posterior(spec)
    assert posterior is not None
    return max(posterior, key=lambda program: posterior[program])


def validate(family: WriterFamily, folder: Path, answer: Any, **options: Any) -> tuple[dict[str, float], Any]:
    model = family.build()
    model.engine = FakeEngine(answer)
    trainer = quiet_trainer(folder)
    trainer.validate(model, family.data(num_val=9, num_proposals=20, **options), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}, model.engine


def test_a_perfect_writer_solves_everything_with_one_proposal(family: WriterFamily, tmp_path: Path) -> None:
    metrics, engine = validate(family, tmp_path, right)
    assert metrics["solved@1_val"] == metrics["solved@20_val"] == metrics["valid_syntax_val"] == 1.0
    assert metrics["distinct_val"] == pytest.approx(1 / 20)
    sampling = engine.decoding.sampling
    assert sampling is None or (sampling.temperature, sampling.top_k, sampling.top_p) == (1.0, 0, 1.0)


class Ranked(FakeEngine):
    """Answers with the best candidates of a search: nothing that holds, then a program that does."""

    def propose(self, inputs: Any, num_candidates: int, decoding: Any) -> list[list[tuple[str, float]]]:
        self.decoding = decoding
        return [[("[1,2", -0.5), ("[9", -1.0), (right(text), -2.0)][:num_candidates] for text in inputs]


def test_a_beam_is_judged_by_rank(family: WriterFamily, tmp_path: Path) -> None:
    """Of samples, a third of them would hold with any one."""
    model = family.build()
    model.engine = Ranked(right)
    trainer = quiet_trainer(tmp_path)
    trainer.validate(model, family.data(num_val=9, num_proposals=20, proposals="beam"), verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["solved@1_val"] == 0 and metrics["solved@10_val"] == metrics["solved@20_val"] == 1.0
    assert metrics["first_verified_val"] == 3.0 and metrics["exact_match_val"] == 0.0
    assert metrics["malformed_val"] == pytest.approx(2 / 3) and metrics["timeout_val"] == 0.0


class Watched(pl.Callback):
    """What the domain was asked."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, str]]] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        domain = trainer.datamodule.domain  # type: ignore[attr-defined]
        check_all = domain.check_all
        domain.is_slow = True

        def watched(pairs: Any) -> Any:
            self.calls.append(list(pairs))
            return [Verdict("timeout") if place % 2 else each for place, each in enumerate(check_all(pairs))]

        domain.check_all = watched


@pytest.mark.parametrize(("options", "num_judged"), [({"num_judged": 4}, 4), ({}, 9)])
def test_a_slow_checker_judges_some_problems_alone_and_each_pair_once(
    options: dict[str, Any], num_judged: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All pairs of a validation come at once, so that the checker's processes are kept busy."""
    model, watched = WRITERS[0].build(), Watched()
    model.engine = FakeEngine(right)
    trainer = quiet_trainer(tmp_path, callbacks=[watched])
    with caplog.at_level("INFO"):
        trainer.validate(model, WRITERS[0].data(num_val=9, batch_size=2, **options), verbose=False)
    problems = make_domain("rectangle").problems(3407, "val", 9)
    assert [len(call) for call in watched.calls] == [num_judged]
    assert {spec for spec, _ in watched.calls[0]} == {problem.spec for problem in problems[:num_judged]}
    said = f"for the first {num_judged} of 9 problems of val; data.num_judged changes that"
    assert (said in caplog.text) == (num_judged < 9)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    late = num_judged // 2 / num_judged
    assert metrics["timeout_val"] == pytest.approx(late) and metrics["solved@1_val"] == pytest.approx(1 - late)
    assert metrics["solved_at_most@4_val"] == 1.0, "a time-out is no wrong answer"
    assert metrics["checking_s_val"] > 0


def test_validation_draws_what_was_solved_into_tensorboard_and_the_run_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    logger = TensorBoard(tmp_path, "run")
    trainer = quiet_trainer(tmp_path, logger=logger, callbacks=[Board()], max_steps=2, val_check_interval=2)
    trainer.fit(WRITERS[0].build(), WRITERS[0].data())
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    drawn = {"solved", "first_verified", "solved_by_examples", "solved_by_inside"}
    assert {f"val_figures/{name}" for name in drawn} <= set(events.Tags()["images"])
    assert {f"{name}_val" for name in drawn} <= {path.stem for path in (Path(logger.log_dir) / "figures").iterdir()}
    assert {"timeout_val", "malformed_val", "exact_match_val"} <= set(events.Tags()["scalars"])


def test_a_writer_of_no_programs_solves_nothing(family: WriterFamily, tmp_path: Path) -> None:
    metrics, _ = validate(family, tmp_path, lambda text: "[1,2,3")
    assert metrics["solved@20_val"] == metrics["valid_syntax_val"] == 0.0


def test_the_loss_stands_beside_the_least_possible(family: WriterFamily, tmp_path: Path) -> None:
    metrics, _ = validate(family, tmp_path, right)
    assert metrics["sequence_nll_val"] == pytest.approx(10 * metrics["loss_val"], rel=1e-4), "nine characters and EOS"
    assert metrics["perplexity_val"] == pytest.approx(math.exp(metrics["loss_val"]), rel=1e-4)
    assert metrics["above_floor_val"] == pytest.approx(metrics["loss_val"] - metrics["floor_val"], abs=1e-5)
    assert 0.1 < metrics["floor_val"] < 0.45


def test_the_floor_of_rectangles_is_what_is_known_of_it() -> None:
    domain, callback = make_domain("rectangle"), SolvedInTraining()
    problems = domain.problems(0, "test", 400)
    floors = [callback._floor(domain, problem.spec) for problem in problems]
    mean = sum(each for each in floors if each is not None) / len(floors)
    assert 2.6 < mean < 2.95, "nats a program: 0.27 to 0.29 for each of ten tokens"
    assert callback._floor(
        domain, "[" + "".join(f"{i}{j}+" for i in range(6) for j in range(6)) + "]"
    ) == pytest.approx(
        math.log(4)  # rows and columns 0 to 5 or 6; all four are as likely
    )


def test_a_domain_without_a_posterior_has_no_floor(tmp_path: Path) -> None:
    model = WRITERS[0].build(**{"max_inp_seq_len": 128})
    data = WRITERS[0].data("regex", num_val=5, max_inp_seq_len=128)
    trainer = quiet_trainer(tmp_path)
    trainer.validate(model, data, verbose=False)
    assert "perplexity_val" in trainer.callback_metrics and "floor_val" not in trainer.callback_metrics


def test_fewer_proposals_than_asked_for_count_as_wrong() -> None:
    domain, metrics = make_domain("rectangle"), WriterMetrics(num_proposals=4)
    metrics.observe([[domain.check("[00+]", "[0,0,0,0]")], []], [["[0,0,0,0]"], []], ["[0,0,0,0]", "x"])
    values = metrics.values()
    assert values["solved@1"] == pytest.approx(1 / 8) and values["solved@4"] == 0.5


def test_metrics_add_up_over_batches() -> None:
    domain = make_domain("rectangle")
    row = [domain.check("[00+]", "[0,0,0,0]"), domain.check("[00+]", "nothing")]
    whole, parts = WriterMetrics(2), WriterMetrics(2)
    whole.observe([row, row[::-1], row[1:]], [["a", "b"], ["c", "c"], ["d"]], ["a", "b", "d"])
    whole.observe_loss(0.5, 30, [1.0, 2.0, 3.0])
    parts.observe([row], [["a", "b"]], ["a"])
    parts.observe([row[::-1], row[1:]], [["c", "c"], ["d"]], ["b", "d"])
    parts.observe_loss(0.25, 10, [1.0])
    parts.observe_loss(0.625, 20, [2.0, 3.0])
    assert whole.values() == pytest.approx(parts.values())


def test_other_data_is_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, callbacks=[SolvedInTraining(2)])
    with pytest.raises(ConfigError, match="needs a DomainDataModule as data"):
        trainer.validate(
            ENCODER_DECODER.build(), ENCODER_DECODER.data(write_splits(tmp_path / "d", EIGHT)), verbose=False
        )


@pytest.mark.parametrize("has_own", [False, True])
def test_a_callback_of_the_users_is_not_doubled(has_own: bool, tmp_path: Path) -> None:
    own: list[pl.Callback] = [SolvedInTraining(3)] if has_own else []
    trainer = quiet_trainer(tmp_path, callbacks=own)
    trainer.validate(WRITERS[0].build(), WRITERS[0].data(num_proposals=5), verbose=False)
    found = [each for each in trainer.callbacks if isinstance(each, SolvedInTraining)]  # type: ignore[attr-defined]
    assert [each.num_proposals for each in found] == [3 if has_own else 5]
    assert ("solved@3_val" in trainer.callback_metrics) == has_own


def test_eight_problems_are_learnt_by_heart(family: WriterFamily, tmp_path: Path) -> None:
    """Training and validation on the same eight: the loss falls to nothing, and every proposal holds."""
    made = tmp_path / "eight"
    made.mkdir()
    problems = make_domain("rectangle").problems(0, "train", 8)
    lines = "".join(json.dumps({"spec": each.spec, "program": each.program}) + "\n" for each in problems)
    for split in ("train", "val", "test"):
        (made / f"{split}.jsonl").write_text(lines)
    card: dict[str, Any] = {"format_version": 1, "domain": "rectangle", "complete": True}
    card["sizes"] = {"train": 8, "val": 8, "test": 8}
    (made / "domain.json").write_text(json.dumps(card))
    data = family.data(data_path=str(made), num_train=None, num_val=None, num_test=None, num_proposals=10)
    model = family.build(lr=1e-2, warmup_steps=10, optimizer="muon", architecture=family.small)
    trainer = quiet_trainer(tmp_path, max_epochs=160, check_val_every_n_epoch=160)
    torch.manual_seed(0)
    trainer.fit(model, data)
    metrics = trainer.callback_metrics
    assert metrics["loss_val"] < 0.1 and metrics["solved@1_val"] > 0.4 and metrics["top1_acc_val"] == 1.0
