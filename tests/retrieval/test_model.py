"""PremiseRetriever: embeddings, losses, learning, retrieval, checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from common import ByteTokenizer, ConfigError, DataError
from retrieval.corpus import Corpus
from retrieval.datamodule import RetrievalDataModule
from retrieval.embedding_index import EmbeddingIndex
from retrieval.encoder import build_encoder, mean_pool
from retrieval.model import PremiseRetriever
from retrieval.premise_search import PremiseSearch
from tests.fakes import quiet_trainer, save_checkpoint
from tests.retrieval.conftest import LIBRARY, write_corpus
from tests.retrieval.fakes import CITED, ENCODER, STATES, write_library

STATE = ("⊢ a ∧ b → b ∧ a", "Main.lean", "t", (100, 1))


def build(**options: Any) -> PremiseRetriever:
    torch.manual_seed(0)
    return PremiseRetriever(**{"model_name": ENCODER, "max_seq_len": 128, "num_retrieved": 5, **options})


def data(folder: Path, **options: Any) -> RetrievalDataModule:
    return RetrievalDataModule(str(folder), "google/byt5-small", **{"max_seq_len": 128, **options})


def train_batch(folder: Path) -> Any:
    module = data(folder)
    module.setup("fit")
    return next(iter(module.train_dataloader()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def retriever(folder: Path) -> PremiseRetriever:
    """Untrained, with the corpus."""
    model = build().eval()
    model.load_corpus(folder.parent / "corpus.jsonl")
    return model


# --------------------------------------------------------------------------------------- embeddings


def test_the_mean_is_over_tokens_and_has_length_one() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [3.0, 8.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert mean_pool(hidden, mask).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_embeddings_do_not_depend_on_the_batch(retriever: PremiseRetriever) -> None:
    together = retriever.encode(STATES)
    assert together.norm(dim=1).tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    alone = torch.cat([retriever.encode([state]) for state in STATES])
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_a_pretrained_encoder_decoder_gives_its_encoder(tmp_path: Path) -> None:
    whole = T5ForConditionalGeneration(T5Config(vocab_size=384, d_model=32, d_kv=8, d_ff=64, num_heads=4, num_layers=2))
    whole.save_pretrained(tmp_path)
    ids = torch.randint(3, 300, (2, 7))
    ours = build_encoder(tmp_path).eval()(input_ids=ids).last_hidden_state
    assert torch.allclose(ours, whole.eval().encoder(input_ids=ids).last_hidden_state, atol=1e-5)
    assert sum(p.numel() for p in build_encoder(tmp_path).parameters()) < sum(p.numel() for p in whole.parameters())


def test_any_encoder_of_transformers_will_do(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=384, **sizes)).save_pretrained(tmp_path)
    ByteTokenizer().save_pretrained(tmp_path)
    assert build(model_name=str(tmp_path)).encode(["⊢ p", "q"]).shape == (2, 16)


# ------------------------------------------------------------------------------- losses and gradients


def gradients(model: PremiseRetriever, batch: Any) -> tuple[float, list[torch.Tensor]]:
    model.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    loss = model.training_step(batch, 0)
    return loss.item(), list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("loss", ["mse", "info_nce"])
def test_the_loss_is_what_the_paper_says(folder: Path, loss: str) -> None:
    batch, model = train_batch(folder), build(loss=loss, temperature=0.1)
    ours, _ = gradients(model, batch)
    corpus = Corpus(folder.parent / "corpus.jsonl")
    numbers = batch["premise_numbers"].tolist()
    contexts = model.encode(batch["state"])
    premises = model.encode([corpus[number].serialize() for number in numbers])
    total = 0.0
    for row, index in enumerate(batch["index"]):
        cosines = [float(contexts[row] @ premise) for premise in premises]
        if loss == "mse":
            errors = [(c - (n == CITED[index])) ** 2 for c, n in zip(cosines, numbers, strict=True)]
            total += sum(errors) / len(numbers)
        else:
            target = 4 * row
            logits = [c / 0.1 for i, c in enumerate(cosines) if i == target or numbers[i] != CITED[index]]
            total += float(torch.tensor(logits).logsumexp(0)) - cosines[target] / 0.1
    assert ours == pytest.approx(total / 8, rel=1e-4)


@pytest.mark.parametrize("options", [{"chunk_size": 3}, {"chunk_size": 100}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("loss", ["mse", "info_nce"])
def test_saving_memory_changes_no_gradient(folder: Path, loss: str, options: dict[str, Any]) -> None:
    batch = train_batch(folder)
    plain, saving = build(loss=loss).train(), build(loss=loss, **options).train()
    (loss1, grads1), (loss2, grads2) = gradients(plain, batch), gradients(saving, batch)
    assert loss1 == pytest.approx(loss2, rel=1e-5)
    for one, two in zip(grads1, grads2, strict=True):
        assert torch.allclose(one, two, atol=1e-6) and one.abs().max() > 0


def test_chunks_draw_the_same_dropout_in_both_passes(folder: Path) -> None:
    """The gradient of a step with dropout is that of the function that was evaluated: finite differences agree."""
    batch = train_batch(folder)
    model = build(model_name={**ENCODER, "dropout_rate": 0.3}, chunk_size=3).train().double()
    model.log = lambda *args, **kwargs: None  # type: ignore[method-assign, assignment]
    weight = model.encoder.get_input_embeddings().weight
    direction = torch.randn_like(weight)

    def loss() -> torch.Tensor:
        torch.manual_seed(1)
        return model.training_step(batch, 0)

    (gradient,) = torch.autograd.grad(loss(), [weight])
    with torch.no_grad():
        values = []
        for step in (1e-2, -1e-2):
            weight += step * direction
            with torch.enable_grad():
                values.append(loss().item())
            weight -= step * direction
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(float((gradient * direction).sum()), rel=0.02)


# ----------------------------------------------------------------------------------------- learning


@pytest.fixture(scope="module")
def learnt(folder: Path) -> tuple[PremiseRetriever, pl.Trainer]:
    """A retriever that has learnt eight contexts by heart."""
    model = build(loss="info_nce", lr=5e-3, warmup_steps=5)
    trainer = quiet_trainer(folder, max_epochs=30, check_val_every_n_epoch=30, default_root_dir=str(folder))
    trainer.fit(model, data(folder))
    return model.eval(), trainer


def test_eight_contexts_are_learnt_by_heart(learnt: tuple[PremiseRetriever, pl.Trainer]) -> None:
    metrics = learnt[1].callback_metrics
    assert metrics["Recall@1_val"] == 1.0 and metrics["MRR_val"] == 1.0
    assert "Recall@10_val" not in metrics, "only five are retrieved"


def test_the_mean_squared_error_learns_too(folder: Path, tmp_path: Path) -> None:
    model = build(loss="mse", lr=5e-3, warmup_steps=5)
    trainer = quiet_trainer(tmp_path, max_epochs=40, check_val_every_n_epoch=40)
    trainer.fit(model, data(folder))
    assert trainer.callback_metrics["Recall@1_val"] == 1.0


def test_retrieve_gives_what_was_learnt(learnt: tuple[PremiseRetriever, pl.Trainer], folder: Path) -> None:
    model, _ = learnt
    for state, number in zip(STATES, CITED, strict=True):
        premises, scores = model.retrieve(state, Path("Main.lean"), "t", (100, 1), 3)
        assert premises[0].full_name == Corpus(folder.parent / "corpus.jsonl")[number].full_name
        assert scores == sorted(scores, reverse=True) and len(scores) == len(premises) == 3


# ---------------------------------------------------------------------------------------- retrieval


def test_only_accessible_premises_are_retrieved_and_all_of_them(retriever: PremiseRetriever) -> None:
    premises, scores = retriever.retrieve(*STATE, k=100)
    assert len(premises) == len(scores) == 8, "Main.late stands behind the theorem"
    assert len(retriever.retrieve("⊢ p", "Main.lean", "t", (901, 1), 100)[0]) == 9
    assert retriever.retrieve("⊢ p", "First.lean", "t", (1, 1), 100) == ([], [])


def test_several_states_give_what_each_gives(retriever: PremiseRetriever) -> None:
    files = ["Main.lean", Path("Second.lean")] * 4
    premises, scores = retriever.batch_retrieve(STATES, files, ["t"] * 8, [(5, 1), [40, 1]] * 4, 4)
    for i, state in enumerate(STATES):
        alone = retriever.retrieve(state, files[i], "t", [(5, 1), [40, 1]][i % 2], 4)
        assert premises[i] == alone[0] and scores[i] == pytest.approx(alone[1], abs=1e-5)
    assert retriever.batch_retrieve([], [], [], [], 4) == ([], [])


def test_a_count_in_front_of_goals_and_a_long_beginning_are_left_out(retriever: PremiseRetriever) -> None:
    assert retriever.retrieve(f"1 goal\n{STATE[0]}", *STATE[1:], 3) == retriever.retrieve(*STATE, 3)
    filler = "".join(f"h{i} : p\n" for i in range(50))
    assert retriever.retrieve(f"x\n{filler}{STATE[0]}", *STATE[1:], 3) == retriever.retrieve(
        f"y\n{filler}{STATE[0]}", *STATE[1:], 3
    )


def test_what_cannot_be_retrieved_is_refused(retriever: PremiseRetriever) -> None:
    with pytest.raises(ConfigError, match="k is 0"):
        retriever.retrieve(*STATE, k=0)
    with pytest.raises(DataError, match=r"'Gone\.lean' is not a file of the corpus"):
        retriever.retrieve("⊢ p", "Gone.lean", "t", (1, 1), 3)
    with pytest.raises(ConfigError, match="no corpus; call load_corpus"):
        build().retrieve(*STATE, k=3)
    with pytest.raises(ConfigError, match=r"one entry for each state, but have \[2, 1, 1, 1\]"):
        retriever.batch_retrieve(["a", "b"], ["Main.lean"], ["t"], [(1, 1)], 3)


def test_scores_are_cosines_of_state_and_premise(retriever: PremiseRetriever) -> None:
    premises, scores = retriever.retrieve(*STATE, 8)
    state, *vectors = retriever.encode([STATE[0], *(premise.serialize() for premise in premises)])
    assert scores == pytest.approx([float(state @ vector) for vector in vectors], abs=1e-5)


# -------------------------------------------------------------------------------------------- index


def test_premises_are_embedded_again_only_when_the_weights_have_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = PremiseSearch._reindex
    monkeypatch.setattr(
        PremiseSearch, "_reindex", lambda self, *args: calls.append(self.global_step) or original(self, *args)
    )
    model, module = build(), data(folder)
    quiet_trainer(tmp_path).validate(model, module, verbose=False)
    quiet_trainer(tmp_path).validate(model, module, verbose=False)
    assert len(calls) == 1
    quiet_trainer(tmp_path, max_epochs=2).fit(model, module)
    assert calls[1:] == [1, 2], "once for each validation after training steps"
    quiet_trainer(tmp_path).validate(model, module, verbose=False)
    model.retrieve(*STATE, k=3)
    assert len(calls) == 3
    assert model.training is False or model.index is not None


def test_a_saved_index_is_used_and_that_of_other_weights_or_another_corpus_refused(
    retriever: PremiseRetriever, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = retriever.retrieve(*STATE, 5)
    corpus_path = folder.parent / "corpus.jsonl"
    retriever.reindex_corpus(2).save(tmp_path / "index")
    again = build().eval()
    again.load_corpus(corpus_path, tmp_path / "index")
    monkeypatch.setattr(PremiseSearch, "_reindex", lambda *args: pytest.fail("it has an index"))
    premises, scores = again.retrieve(*STATE, 5)
    assert premises == expected[0] and scores == pytest.approx(expected[1], abs=1e-6)

    torch.manual_seed(1)
    other = PremiseRetriever(model_name=ENCODER, max_seq_len=128)
    with pytest.raises(DataError, match="index was made by another retriever"):
        other.load_corpus(corpus_path, tmp_path / "index")
    wider = PremiseRetriever(model_name={**ENCODER, "d_model": 64}, max_seq_len=128)
    with pytest.raises(DataError, match="index was made by another retriever"):
        wider.load_corpus(corpus_path, tmp_path / "index")
    library = Corpus(write_corpus(tmp_path / "library.jsonl", LIBRARY))
    with pytest.raises(DataError, match="made for the corpus with hash"):
        again.load_corpus(library, tmp_path / "index")


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_an_index_in_narrow_storage_is_recognized(retriever: PremiseRetriever, tmp_path: Path, dtype: Any) -> None:
    retriever.reindex_corpus().stored_as(dtype).save(tmp_path)
    assert retriever.corpus is not None
    retriever.load_corpus(retriever.corpus, tmp_path)
    assert isinstance(retriever.index, EmbeddingIndex) and retriever.index.dtype == dtype


# -------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_holds_plain_values_and_loads_alone(
    learnt: tuple[PremiseRetriever, pl.Trainer], folder: Path, tmp_path: Path
) -> None:
    model, trainer = learnt
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    assert "num_retrieved" not in saved["hyper_parameters"], "chosen at evaluation"
    loaded = PremiseRetriever.load(path)
    assert loaded.max_seq_len == 128 and loaded.name == str(path)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    loaded.load_corpus(folder.parent / "corpus.jsonl")
    assert loaded.retrieve(*STATE, 4)[0] == model.retrieve(*STATE, 4)[0]
    assert PremiseRetriever.load(path, freeze=False, max_seq_len=64).max_seq_len == 64
    assert isinstance(PremiseRetriever.load_from_checkpoint(path), PremiseRetriever)


def test_an_encoder_of_a_hub_folder_loads(retriever: PremiseRetriever, tmp_path: Path) -> None:
    retriever.encoder.save_pretrained(tmp_path / "hub")
    ByteTokenizer().save_pretrained(tmp_path / "hub")
    loaded = PremiseRetriever.load(tmp_path / "hub", max_seq_len=128)
    assert torch.allclose(loaded.encode(STATES), retriever.encode(STATES), atol=1e-6)
    path = save_checkpoint(loaded, tmp_path / "model.ckpt")
    (tmp_path / "hub").rename(tmp_path / "gone")
    again = PremiseRetriever.load(path)
    assert torch.allclose(again.encode(STATES), loaded.encode(STATES), atol=1e-6)


def test_checkpoints_that_cannot_be_used_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"missing\.ckpt: there is no such file"):
        PremiseRetriever.load(tmp_path / "missing.ckpt")
    torch.save({"state_dict": {}, "generator": {"class": "generator.model.X"}}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match=r"other\.ckpt: is a checkpoint of another kind of module, not of retrieval"):
        PremiseRetriever.load(tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match="no tokenizer for model_name"):
        PremiseRetriever.load(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_retrieved": 0}, "num_retrieved is 0"),
        ({"lr": 0}, "lr is 0"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"temperature": 0.0}, r"temperature is 0\.0"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"loss": "cosine"}, "loss is 'cosine'; choose one of mse, info_nce"),
        ({"model_name": {"d_modell": 3}}, "no key 'd_modell'; did you mean d_model"),
        ({"model_name": {"d_model": 0}}, "d_model is 0"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)
