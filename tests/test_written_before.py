"""What users have on their disks goes on working: files of every kind, as they were written by November 2026.

See tests/fixtures/written_before/README.md.
"""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from generator import load_generator
from generator.decoding import beam_search, sample
from generator.main import GeneratorCLI
from generator.main import main as generator_main
from generator.training.prediction_writer import read_predictions
from retrieval.corpus import Corpus
from retrieval.index import EmbeddingIndex
from retrieval.main import RetrievalCLI
from retrieval.model import PremiseRetriever
from retrieval.predictions.reader_writer import Predictions
from retrieval.training.cli import start

FILES = Path(__file__).parent / "fixtures" / "written_before"
ANSWERS = json.loads((FILES / "answers.json").read_text(encoding="utf-8"))
WAYS = {
    "beams": {},
    "penalty": {"length_penalty": 0.7},
    "samples": {"sampling": {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "seed": 7}},
}
MODELS = ("encoder_decoder/last.ckpt", "decoder_only/last.ckpt", "exported_encoder_decoder", "exported_decoder_only")
TOLERANCE = 2e-4  # processors round differently


def ask(generator, states, num_samples):
    """The candidates for each state, in the last file of the library."""
    num = len(states)
    return generator.batch_generate(states, ["Main.lean"] * num, ["t"] * num, [(95, 1)] * num, num_samples)


def assert_equal_answers(found, expected):
    # the empty tactic was a candidate then
    expected = [[(text, p) for text, p in one if text.strip()] for one in expected]
    assert [[text for text, _ in one] for one in found] == [[text for text, _ in one] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [p for _, p in one] == pytest.approx([p for _, p in other], abs=TOLERANCE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ["native", "transformers"])
@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_gives_the_answers_it_gave(name, engine, way):
    generator = load_generator(FILES / name, engine=engine, **WAYS[way])
    assert_equal_answers(ask(generator, ANSWERS["states"], 6), ANSWERS[f"{name} {engine} {way}"])


def test_adapters_give_the_answers_they_gave(tmp_path):
    pytest.importorskip("peft")
    checkpoint = torch.load(FILES / "adapters" / "last.ckpt", weights_only=True)
    base = str(FILES / "adapters" / "base")
    checkpoint["generator"]["architecture"] = checkpoint["hyper_parameters"]["model_name"] = base  # where it lies here
    torch.save(checkpoint, tmp_path / "last.ckpt")
    generator = load_generator(tmp_path / "last.ckpt")
    assert_equal_answers(ask(generator, ANSWERS["states"], 6), ANSWERS["adapters/last.ckpt native beams"])


def test_a_retriever_and_its_index_give_what_they_gave():
    retriever = PremiseRetriever.load(FILES / "retriever" / "last.ckpt")
    retriever.load_corpus(FILES / "library" / "corpus.jsonl", FILES / "index")
    states = ANSWERS["retriever_states"]
    places = ["Main.lean"] * len(states), ["t"] * len(states), [(95, 1)] * len(states)
    premises, scores = retriever.batch_retrieve(states, *places, 4)
    found = [list(zip([p.full_name for p in one], s, strict=True)) for one, s in zip(premises, scores, strict=True)]
    assert_equal_answers(found, ANSWERS["retriever/last.ckpt"])


def test_a_generator_reads_premises_of_a_retriever():
    generator = load_generator(
        FILES / "encoder_decoder" / "last.ckpt",
        ret_ckpt_path=FILES / "retriever" / "last.ckpt",
        corpus_path=FILES / "library" / "corpus.jsonl",
        index_path=FILES / "index",
    )
    found = ask(generator, ANSWERS["retriever_states"], 4)
    assert_equal_answers(found, ANSWERS["encoder_decoder/last.ckpt with premises"])


@pytest.mark.parametrize("name", ["encoder_decoder", "decoder_only"])
def test_decoding_of_tensors_finds_what_it_found(name):
    generator = load_generator(FILES / name / "last.ckpt")
    rows = [generator.tokenizer.encode(state) for state in ANSWERS["states"]]
    if name == "decoder_only":
        rows = [row[:-1] for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    options = {"max_new_tokens": 24}
    searched = beam_search(generator.generator, ids, mask, num_beams=6, num_return_sequences=5, **options)
    seeded = torch.Generator().manual_seed(3)
    options |= {"temperature": 0.9, "top_k": 30, "top_p": 0.9, "generator": seeded}
    sampled = sample(generator.generator, ids, mask, num_samples=5, **options)
    for found, expected in ((searched, ANSWERS[f"beam_search {name}"]), (sampled, ANSWERS[f"sample {name}"])):
        assert found.sequences.tolist() == expected["sequences"]
        torch.testing.assert_close(found.log_probs, torch.tensor(expected["log_probs"]), atol=TOLERANCE, rtol=0)


def test_predictions_are_read():
    corpus = Corpus(FILES / "library" / "corpus.jsonl")
    predictions = Predictions.load(FILES / "retrieved", corpus)
    assert predictions.splits == ["test", "train", "val"] and predictions.k == 4
    assert len(EmbeddingIndex.load(FILES / "index", corpus)) == len(corpus)
    candidates = list(read_predictions(FILES / "candidates"))
    assert len(candidates) == 8 and all(len(record["candidates"]) == 4 for record in candidates)


@pytest.mark.parametrize("file", ["given.yaml", "config.yaml"])
@pytest.mark.parametrize("name", ["encoder_decoder", "decoder_only", "retriever"])
def test_configurations_make_the_same_model_and_data(name, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli = RetrievalCLI if name == "retriever" else GeneratorCLI
    data_path = FILES / "library" / "splits" if name == "retriever" else FILES / "eight"
    config = yaml.safe_load((FILES / name / file).read_text(encoding="utf-8"))
    for option in ("ckpt_path", "weights_only", "output_dir"):  # of subcommands, none of which runs here
        config.pop(option, None)
    Path("config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    made = start(cli, [], ["--config=config.yaml", f"--data.data_path={data_path}"], run=False)
    saved = torch.load(FILES / name / "last.ckpt", weights_only=True)
    if file == "given.yaml":  # which leaves it to the default, which has changed
        saved["hyper_parameters"].pop("compile", None)
    ours = {name: value for name, value in made.model.hparams.items() if name in saved["hyper_parameters"]}
    assert ours == {name: value for name, value in saved["hyper_parameters"].items() if name in ours}
    assert set(saved["hyper_parameters"]) - set(ours) <= {"_instantiator"}
    data = saved["datamodule_hyper_parameters"]
    if file == "given.yaml":  # which leaves it to the default, which has changed
        data.pop("normalize_tactics", None)
    assert {k: v for k, v in made.datamodule.hparams.items() if k in data and k != "data_path"} == {
        k: v for k, v in data.items() if k in made.datamodule.hparams and k != "data_path"
    }


@pytest.mark.parametrize("name", ["encoder_decoder", "decoder_only"])
def test_a_run_goes_on_from_its_checkpoint(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FILES / "eight", "eight")
    before = json.loads((FILES / name / "metrics.json").read_text(encoding="utf-8"))
    for path in map(Path, (before["best_checkpoint"], before["last_checkpoint"])):  # the run as it lay there
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FILES / name / "last.ckpt", path)
    num_steps = before["num_steps"] + 4
    options = [f"--ckpt_path={before['last_checkpoint']}", f"--trainer.max_steps={num_steps}"]
    options += ["--data.tactic_names=full", "--data.normalize_tactics=true"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the checkpoint learnt")
        generator_main(["fit", f"--config={FILES / name / 'given.yaml'}", *options])
    run = Path("runs", name, "version_1")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["num_steps"], metrics["status"]) == (num_steps, "finished")
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["trainer"]["max_steps"] == num_steps


@pytest.mark.parametrize("name", ["encoder_decoder", "decoder_only"])
def test_a_checkpoint_that_learnt_tactics_written_otherwise_says_so(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FILES / "eight", "eight")
    options = [f"--ckpt_path={FILES / name / 'last.ckpt'}", "--trainer.logger=false"]
    learnt = "learnt tactics written with tactic_names full and normalize_tactics True, but .* written and "
    with pytest.warns(UserWarning, match=f"{learnt}.*; --data.tactic_names full --data.normalize_tactics true gives"):
        generator_main(["validate", f"--config={FILES / name / 'given.yaml'}", *options])
