"""Prompts that tell retrieved premises or the file before the theorem: in training, evaluation and inference alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common import ConfigError, DataError
from generator import load_generator
from generator.causal import CausalGenerator
from generator.instruct_convert import main as convert
from generator.instruct_datamodule import InstructDataModule
from generator.interface.wrappers import CachingGenerator
from generator.main import main
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import TINY, quiet_trainer, save_checkpoint
from tests.retrieval.retrieved_fakes import write_retrieved

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 900}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SIZES = {"max_seq_len": 448, "max_completion_len": 48}
SOURCE = "".join(f"-- line {number}\n" for number in range(1, 200))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_retrieved(tmp_path_factory.mktemp("background"))
    sources = data.parent / "sources"
    sources.mkdir()
    (sources / "Main.lean").write_text(SOURCE, encoding="utf-8")
    return data


def with_premises(data: Path) -> dict[str, str]:
    predictions = data.parents[1] / "predictions"
    return {"corpus_path": str(data.parent / "corpus.jsonl"), "preds_path": str(predictions)}


def module(data: Path, template: str | None = "vllm-reprover", **options: Any) -> InstructDataModule:
    return InstructDataModule(str(data), GPT2, **{"template": template, "batch_size": 4, **SIZES, **options})


def examples(data: Path, split: str = "val", **options: Any) -> Any:
    made = module(data, **options)
    made.setup({"train": "fit", "val": "validate"}[split])
    return made.datasets[split]


def build(template: str | None = "vllm-reprover", **options: Any) -> CausalGenerator:
    torch.manual_seed(0)
    return CausalGenerator(GPT2, template=template, num_beams=2, **{**SIZES, **options}).eval()


def retriever(data: Path) -> dict[str, Any]:
    folder = data.parents[1]
    return {
        "ret_ckpt_path": str(folder / "retriever.ckpt"),
        "corpus_path": str(data.parent / "corpus.jsonl"),
        "eval_num_retrieved": 4,
    }


def prompts_of_generate(model: CausalGenerator, steps: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    monkeypatch.setattr(
        model.engine, "propose", lambda inputs, n, decoding: read.extend(inputs) or [[] for _ in inputs]
    )
    for step in steps:
        origin = step.provenance
        model.generate(step.state, Path(origin.file_path), origin.full_name, origin.start, num_samples=1)
    return read


# ------------------------------------------------------------------------------------- one formatting


@pytest.mark.parametrize(
    ("template", "max_seq_len"), [("vllm-reprover", 448), ("vllm-reprover", 190), ("reprover", 448), ("ntp-ctx", 800)]
)
def test_generate_is_prompted_as_the_data_is_written(
    data: Path, template: str, max_seq_len: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_premises = "reprover" in template
    sources = {} if has_premises else {"sources_path": str(data.parent / "sources")}
    options = with_premises(data) if has_premises else sources
    dataset = examples(data, template=template, max_seq_len=max_seq_len, **options)
    model = build(template, max_seq_len=max_seq_len, **(retriever(data) if has_premises else sources))
    written = [example["state"] for example in dataset]
    assert all(("<a>" if has_premises else "-- line") in prompt for prompt in written[1:])
    assert prompts_of_generate(model, dataset.steps.traces, monkeypatch) == written
    assert max(len(prompt.encode()) for prompt in written) <= max_seq_len - 48


def test_the_best_premise_stands_nearest_to_the_state_and_the_worst_goes_first(data: Path) -> None:
    dataset = examples(data, **with_premises(data))
    wide, narrow = dataset[0], examples(data, max_seq_len=190, **with_premises(data))[0]
    best_first = [premise.serialize() for premise in dataset.steps.background.premises[0]]
    blocks = wide["state"].removeprefix("[GOAL]\n").removesuffix("\n[PROOFSTEP]\n").split("\n\n")
    assert blocks == [*reversed(best_first), wide["proof_state"]]
    kept = narrow["state"].count("\n\n")
    assert 0 < kept < len(best_first)
    assert narrow["state"] == "[GOAL]\n" + "\n\n".join(blocks[-kept - 1 :]) + "\n[PROOFSTEP]\n"


def test_file_context_is_the_end_of_what_stands_before_the_theorem(data: Path) -> None:
    dataset = examples(data, template="ntp-ctx", max_seq_len=800, sources_path=data.parent / "sources")
    example = dataset[7]
    assert example["start"].line_nb == 71
    context = example["state"].partition("[CTX]\n")[2].partition("\n[/CTX]")[0]
    assert context.endswith("-- line 70\n") and "line 71" not in context
    whole = "".join(f"-- line {number}\n" for number in range(1, 71))
    assert whole.endswith(context) and context.startswith("-- line ") and len(context) < len(whole)
    assert len(example["state"]) > 800 - 48 - len("-- line 70\n"), "as many lines as fit"


# --------------------------------------------------------------------------------------------- tokens


def test_tokens_are_those_of_the_prompt_and_lengths_bound_them(data: Path) -> None:
    for options in (with_premises(data), {"template": "ntp-ctx", "max_seq_len": 800}):
        if "template" in options:
            options = {**options, "sources_path": str(data.parent / "sources")}
        dataset = examples(data, split="train", p_drop=0.0, **options)
        for index, example in enumerate(dataset):
            text = bytes(token - 3 for token in example["input_ids"][:-1]).decode()
            assert text == example["state"] + dataset.steps.template.complete(example["tactic"])
            assert example["num_prompt_tokens"] == len(example["state"].encode())
            assert len(example["input_ids"]) <= dataset.source_lengths[index] <= dataset.max_seq_len
        bare = examples(data, split="train", **{k: v for k, v in options.items() if k in ("template", "max_seq_len")})
        assert (dataset.source_lengths >= bare.source_lengths).all()
        assert (dataset.source_lengths > bare.source_lengths)[1:].all(), "nothing stands before the first theorem"


def test_an_estimate_of_lengths_is_near_for_a_tokenizer_of_larger_tokens(data: Path) -> None:
    class Pairs:
        """Two bytes a token."""

        eos_token_id, pad_token_id, is_fast = 1, 0, False

        def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
            rows = [text.encode() + b" " * (len(text.encode()) % 2) for text in texts]
            return {"input_ids": [[3 + int.from_bytes(row[i : i + 2]) for i in range(0, len(row), 2)] for row in rows]}

        def batch_decode(self, rows: list[list[int]], **options: Any) -> list[str]:
            return [b"".join((token - 3).to_bytes(2) for token in row).decode().removesuffix(" ") for row in rows]

        def get_vocab(self) -> dict[str, int]:
            return {"largest": 3 + 0xFFFF}

        def build_inputs_with_special_tokens(self, ids: list[int]) -> list[int]:
            return ids

    made = module(data, **with_premises(data))
    made.tokenizer = Pairs()
    made.setup("validate")
    dataset = made.datasets["val"]
    lengths = np.array([len(example["input_ids"]) for example in dataset])
    assert (np.abs(dataset.source_lengths - lengths) <= 0.1 * lengths).all()


def test_goals_that_fit_no_prompt_are_misses_that_take_no_background(data: Path, tmp_path: Path) -> None:
    step = data.joinpath("val.json").read_text(encoding="utf-8")
    (tmp_path / "val.json").write_text(step.replace("\\u22a2", "\\u22a2 " + "p" * 400), encoding="utf-8")
    dataset = examples(tmp_path, **with_premises(data))
    assert [example["state"] for example in dataset] == [""] * 10
    assert dataset.source_lengths.tolist() == [1] * 10
    (tmp_path / "val.json").write_text(step.replace("\\u22a2", "\\u22a2 " + "p" * 400, 1), encoding="utf-8")
    mixed = examples(tmp_path, **with_premises(data))
    assert [example["state"] == "" for example in mixed] == [True] + [False] * 9
    assert mixed.source_lengths[0] == 1 and (mixed.source_lengths[1:] > 100).all()


def test_a_completion_that_does_not_fit_stays_without_labels(data: Path) -> None:
    dataset = examples(data, max_seq_len=403, max_completion_len=3, **with_premises(data))
    assert all(len(example["input_ids"]) == example["num_prompt_tokens"] for example in dataset)
    assert all("<a>" in example["state"] for example in dataset)


# ---------------------------------------------------------------------------------------------- dropout


def test_premises_are_dropped_in_training_as_seed_epoch_and_index_say(data: Path) -> None:
    dataset, again = (examples(data, split="train", p_drop=0.5, **with_premises(data)) for _ in range(2))
    first, second = ([dataset[epoch, i]["state"] for i in range(len(dataset))] for epoch in (0, 1))
    assert first != second, "another epoch, other premises"
    assert first == [again[0, i]["state"] for i in reversed(range(len(again)))][::-1], "in whatever order"
    assert [dataset[i]["state"] for i in range(len(dataset))] == first
    other = examples(data, split="train", p_drop=0.5, seed=1, **with_premises(data))
    assert [example["state"] for example in other] != first
    kept = np.mean([state.count("\n\n") for epoch in range(8) for state in (dataset[epoch, 0]["state"],)])
    assert 0 < kept < 4
    nothing = examples(data, split="train", p_drop=1.0, **with_premises(data))
    assert not any("<a>" in example["state"] for example in nothing)


def test_the_data_says_what_its_prompts_tell(data: Path) -> None:
    assert "prompts tell premises" in examples(data, **with_premises(data)).summary()
    summary = examples(data, template="ntp-ctx", max_seq_len=800, sources_path=data.parent / "sources").summary()
    assert "prompts tell context" in summary and "left empty" not in summary


def test_generate_says_once_what_stays_empty(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = build("ntp-ctx", max_seq_len=800)
    assert "stays empty" not in caplog.text, "data may bring what the model has no source for"
    for _ in range(2):
        model.generate("⊢ p", "Main.lean", "t", (1, 1), 1)
    assert caplog.text.count("tells file context, but there is no sources_path; it stays empty") == 1
    told = build("ntp-ctx", max_seq_len=800, sources_path=str(data.parent / "sources"))
    told.generate("⊢ p", "Main.lean", "t", (1, 1), 1)
    assert caplog.text.count("stays empty") == 1
    with pytest.raises(DataError, match="but file_path is empty; name one"):
        told.generate("⊢ p", "", "t", (1, 1), 1)


def test_evaluation_drops_none(data: Path) -> None:
    dropped, whole = (examples(data, p_drop=p, **with_premises(data)) for p in (1.0, 0.0))
    assert [example["state"] for example in dropped] == [example["state"] for example in whole]


# ----------------------------------------------------------------------------------- trained and asked


def test_it_trains_validates_and_is_asked_with_premises(data: Path, tmp_path: Path) -> None:
    model = CausalGenerator(GPT2, lr=1e-2, warmup_steps=5, num_beams=2, **SIZES)
    trainer = quiet_trainer(tmp_path, max_steps=80, check_val_every_n_epoch=80, log_every_n_steps=1)
    trainer.fit(model, module(data, batch_size=16, p_drop=0.0, **with_premises(data)))
    assert model.template == "vllm-reprover", "the data's"
    assert trainer.callback_metrics["top1_acc_val"] >= 0.8, "nine of ten are learnt"
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = load_generator(tmp_path / "model.ckpt", device="cpu", cache_size=8, **retriever(data))
    assert isinstance(loaded, CachingGenerator) and loaded.reads_theorem
    loaded.initialize()
    [(tactic, _), *_] = loaded.generate("a b : Prop\n⊢ a ∧ b → b ∧ a", "Main.lean", "Main.thm0", (1, 1), 2)
    assert tactic == "apply And.symm"


def test_the_command_line_takes_the_same_options(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classes = ("generator.causal.CausalGenerator", "generator.instruct_datamodule.InstructDataModule")
    model = {"model_name": "{" + ", ".join(f"{key}: {value}" for key, value in GPT2.items()) + "}", "num_beams": 2}
    data_options = {"data_path": data, "template": "vllm-reprover", "batch_size": 8, **with_premises(data), **SIZES}
    main(
        ["fit", "--model", classes[0], "--data", classes[1]]
        + [f"--model.{name}={value}" for name, value in {**model, **SIZES}.items()]
        + [f"--data.{name}={value}" for name, value in data_options.items()]
        + ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--trainer.limit_val_batches=1"]
        + ["--trainer.num_sanity_val_steps=0", "--trainer.enable_progress_bar=false"]
    )
    assert list(tmp_path.glob("**/metrics.json"))


def test_caches_look_at_the_theorem_where_prompts_tell_of_it(data: Path) -> None:
    assert not build("llmstep").reads_theorem
    assert build("internlm2-step").reads_theorem, "its prompts name the theorem"
    assert build(**retriever(data)).reads_theorem
    assert build("ntp-ctx", max_seq_len=800, sources_path=str(data.parent / "sources")).reads_theorem


def test_where_things_lie_is_no_part_of_a_checkpoint(data: Path) -> None:
    model = build(**retriever(data))
    paths = {"ret_ckpt_path", "corpus_path", "index_path", "eval_num_retrieved", "sources_path"}
    assert not paths & (set(model.hparams) | set(model.kept_options()))


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus_path": "c"}, "corpus_path and preds_path belong together"),
        ({"corpus_path": "c", "preds_path": "p", "template": None}, "need a template"),
        ({"corpus_path": "c", "preds_path": "p", "template": "ntp-st"}, "no place for premises; .* vllm-reprover have"),
        ({"sources_path": "s", "template": "llmstep"}, "sources_path: .*no place for context; those of ntp-ctx have"),
        ({"corpus_path": "c", "preds_path": "p", "packing": True}, "leave out packing"),
        ({"p_drop": 1.5}, "p_drop is 1.5"),
    ],
)
def test_options_that_do_not_go_together_are_named(data: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(data, **options)


def test_a_generator_needs_a_template_with_places_too(data: Path) -> None:
    with pytest.raises(ConfigError, match="ret_ckpt_path: prompts of template ntp-st have no place for premises"):
        build("ntp-st", **retriever(data))
    with pytest.raises(ConfigError, match="sources_path: .* no place for context"):
        build("llmstep", sources_path=str(data))
    with pytest.raises(ConfigError, match="need a template"):
        build(None, **retriever(data)).generate("⊢ p", "Main.lean", "t", (1, 1), 1)
    with pytest.raises(ConfigError, match="has no option sources_path"):
        load_generator(save_checkpoint(RetrievalAugmentedGenerator(TINY), data.parent / "t5.ckpt"), sources_path=data)


def test_instruct_data_has_its_prompts_whole(data: Path, tmp_path: Path) -> None:
    convert(["--data_path", str(data), "--template", "vllm-reprover", "--output_dir", str(tmp_path / "jsonl")])
    with pytest.raises(ConfigError, match=r"val\.jsonl: instruct data has its prompts whole"):
        examples(tmp_path / "jsonl", **with_premises(data))


def test_missing_predictions_and_sources_are_named_before_training(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "val.json").write_text((data / "val.json").read_text().replace("Main.thm0", "Main.new0"))
    with pytest.raises(DataError, match=r"1 of 10 steps have no predictions, first Main\.new0"):
        examples(other, **with_premises(data))
    with pytest.raises(DataError, match=r"cannot read .*Main\.lean"):
        examples(data, template="ntp-ctx", max_seq_len=800, sources_path=tmp_path)
