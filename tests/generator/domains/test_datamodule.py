"""Problems of a domain as batches: the same from (seed, epoch, index), for both families, drawn or read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import ConfigError, DataError
from generator.domains import make_domain
from generator.domains.__main__ import main as domains
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.last_checkpoint import LastCheckpoint
from retrieval.training.resume import ResumePoint
from tests.fakes import quiet_trainer
from tests.generator.domains.writer_families import WRITERS, WriterFamily
from tests.generator.test_resume import Learner, StopAt


@pytest.fixture(params=WRITERS, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> WriterFamily:
    return request.param  # type: ignore[no-any-return]


def batches_of(data: Any, epoch: int = 0) -> list[Any]:
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def pairs(batches: list[Any]) -> list[tuple[str, str]]:
    return [pair for batch in batches for pair in zip(batch["state"], batch["tactic"], strict=True)]


def test_batches_follow_from_seed_and_epoch_whatever_the_workers(family: WriterFamily) -> None:
    first = pairs(batches_of(family.data(), epoch=2))
    assert pairs(batches_of(family.data(num_workers=1), epoch=2)) == first
    assert set(pairs(batches_of(family.data(), epoch=3))) != set(first), "an epoch has problems of its own"
    assert set(pairs(batches_of(family.data(seed=1), epoch=2))) != set(first)


def test_problems_that_are_not_fresh_come_back_in_every_epoch(family: WriterFamily) -> None:
    data = family.data(fresh=False)
    assert sorted(pairs(batches_of(data, 0))) == sorted(pairs(batches_of(data, 1)))


def test_every_target_holds_and_no_split_has_a_specification_of_another(family: WriterFamily) -> None:
    data, domain = family.data(), make_domain("rectangle")
    data.setup()
    specs = {}
    for role, dataset in data.datasets.items():
        found = [dataset.problem(0, index) for index in range(len(dataset))]
        assert all(domain.check(each.spec, each.program).holds for each in found)
        specs[role] = {domain.key(domain.read_spec(each.spec)) for each in found}
    assert not specs["train"] & specs["val"] and not specs["val"] & specs["test"]


def test_padding_is_masked_and_has_no_label(family: WriterFamily) -> None:
    model, data = family.build().eval(), family.data(batch_size=8)
    data.setup("fit")
    dataset = data.datasets["train"]
    examples = [dataset[index] for index in range(8)]
    together = dataset.collate(examples)
    loss, num_tokens = model.loss_of(together)
    alone = [model.loss_of(dataset.collate([example])) for example in examples]
    assert num_tokens == sum(count for _, count in alone) == 80, "nine characters and EOS each"
    torch.testing.assert_close(loss * num_tokens, sum(each * count for each, count in alone), rtol=1e-4, atol=1e-4)


def test_an_encoder_decoder_reads_the_bare_specification() -> None:
    batch = batches_of(WRITERS[0].data())[0]
    assert (batch["state_mask"] == (batch["state_ids"] != 0)).all()
    assert (batch["tactic_ids"] != -100).sum() == batch["tactic_mask"].sum()
    decoded = bytes(int(i) - 3 for i in batch["state_ids"][0] if i > 1).decode()
    assert decoded == batch["state"][0] and decoded.startswith("[")


def test_a_decoder_only_model_reads_a_prompt_and_learns_the_program_alone() -> None:
    batch = batches_of(WRITERS[1].data())[0]
    for row, labels, spec, program in zip(
        batch["input_ids"], batch["labels"], batch["proof_state"], batch["tactic"], strict=True
    ):
        learnt = bytes(int(i) - 3 for i in labels if i > 2).decode()
        assert learnt == program and (labels != -100).sum() == len(program) + 1
        assert bytes(int(i) - 3 for i in row if i > 2).decode() == f"[SPEC]{spec}[PROGRAM]{program}"


def test_fresh_problems_of_similar_length_go_together_in_every_epoch() -> None:
    data = WRITERS[0].data(num_train=640, batches_per_pool=4)
    for epoch in (0, 3):
        batches = batches_of(data, epoch)
        share = sum(int((batch["state_mask"] == 0).sum()) for batch in batches) / sum(
            batch["state_mask"].numel() for batch in batches
        )
        assert share < 0.2, "in random batches it is above 0.35"


def test_a_run_that_stopped_in_a_later_epoch_goes_on_with_what_it_had_not_seen(
    family: WriterFamily, tmp_path: Path
) -> None:
    def fit(name: str, **options: Any) -> Learner:
        ckpt_path = options.pop("ckpt_path", None)
        data, learner = family.data(num_proposals=0), Learner()
        callbacks = [ResumePoint(), *options.pop("stop", []), LastCheckpoint()]
        trainer = quiet_trainer(
            tmp_path / name, enable_checkpointing=True, callbacks=callbacks, max_epochs=3, limit_val_batches=0
        )
        data._check_model = lambda model: None  # type: ignore[method-assign]
        trainer.fit(learner, data, ckpt_path=ckpt_path, weights_only=True)
        return learner

    whole = fit("whole")
    begun = fit("begun", stop=[StopAt(8)])  # of five an epoch
    rest = fit("rest", ckpt_path=tmp_path / "begun" / "checkpoints" / "last.ckpt")
    assert begun.seen + rest.seen == whole.seen


def test_files_of_generate_are_read(family: WriterFamily, tmp_path: Path) -> None:
    sizes = ["--num_train", "12", "--num_val", "3", "--num_test", "2"]
    domains(["generate", "--domain", "rectangle", "--output_dir", str(tmp_path / "made"), *sizes])
    data = family.data(data_path=str(tmp_path / "made"), num_train=None, num_val=None, num_test=None)
    written = [json.loads(line) for line in (tmp_path / "made" / "train.jsonl").read_text().splitlines()]
    data.setup()
    assert [vars_of(data.datasets["train"].problem(1, i)) for i in range(12)] == written
    assert [len(data.datasets[role]) for role in ("train", "val", "test")] == [12, 3, 2]
    with pytest.raises(ConfigError, match=r"num_val is 9, but .* has 3 problems of val"):
        family.data(data_path=str(tmp_path / "made"), num_train=None, num_val=9).setup("validate")


def vars_of(problem: Any) -> dict[str, str]:
    return {"spec": problem.spec, "program": problem.program}


def test_files_of_another_domain_are_refused(tmp_path: Path) -> None:
    sizes = ["--num_train", "2", "--num_val", "1", "--num_test", "1"]
    domains(["generate", "--domain", "regex", "--output_dir", str(tmp_path / "made"), *sizes])
    with pytest.raises(DataError, match="is of domain regex, not rectangle"):
        WRITERS[0].data(data_path=str(tmp_path / "made")).setup("fit")


def test_a_specification_is_never_cut() -> None:
    with pytest.raises(DataError, match=r"max_inp_seq_len is 20, but '\[.*takes \d+ tokens; raise it"):
        WRITERS[0].data(max_inp_seq_len=20).setup("fit")
    with pytest.raises(DataError, match=r"max_oup_seq_len is 9, but '\[.*takes 10 tokens"):
        WRITERS[0].data(max_oup_seq_len=9).setup("fit")
    with pytest.raises(DataError, match=r"max_seq_len - max_completion_len is 30, but"):
        WRITERS[1].data(max_seq_len=46).setup("fit")
    with pytest.raises(DataError, match=r"max_completion_len is 9, but '\[.*takes 10 tokens"):
        WRITERS[1].data(max_completion_len=9).setup("fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "triangle"}, "domain is 'triangle'; choose one of"),
        ({"domain_options": {"max_exampels": 3}}, "did you mean max_examples"),
        ({"num_train": 0}, "num_train is 0"),
        ({"num_proposals": -1}, "num_proposals is -1; it must be from 0 to 1024"),
        ({"num_proposals": 2000}, "num_proposals is 2000"),
        ({"predict_split": "dev"}, "predict_split is 'dev'"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WRITERS[0].data(**options)


def test_a_model_of_the_other_family_is_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    with pytest.raises(ConfigError, match=r"decoder-only, .* set data.template to spec-program"):
        trainer.fit(WRITERS[1].build(), WRITERS[0].data())
    with pytest.raises(ConfigError, match=r"template is 'spec-program', but the model reads specifications as they"):
        trainer.fit(WRITERS[0].build(), WRITERS[1].data())


def test_lengths_of_an_epoch_are_those_of_its_examples() -> None:
    def lengths_of(epoch: int) -> Any:
        rng = np.random.default_rng(epoch)
        return rng.integers(1, 50, 30), np.ones(30, dtype=np.int64)

    sampler = LengthGroupedBatchSampler(*lengths_of(0), batch_size=5, batches_per_pool=100, lengths_of=lengths_of)
    settings = sampler.settings
    for epoch in (0, 1, 2):
        lengths, _ = lengths_of(epoch)
        batches = sampler.batches(epoch)
        assert sorted(i for rows in batches for i in rows.tolist()) == list(range(30)) and len(batches) == 6
        assert sum(int(lengths[rows].max()) * len(rows) for rows in batches) < 1.5 * lengths.sum()
    assert sampler.settings == settings, "a run that goes on in another epoch is the same run"
