"""With attention flex, a retriever reads contexts and premises in one row, and finds the same vectors and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from common import ConfigError
from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from retrieval.training.flops import count_tokens, token_masks
from tests.fakes import quiet_trainer
from tests.retrieval.fakes import ENCODER, STATES, write_library

WIDE = {**ENCODER, "d_kv": 16}


def build(**options: Any) -> PremiseRetriever:
    torch.manual_seed(0)
    return PremiseRetriever(**{"model_name": WIDE, "max_seq_len": 40, "num_retrieved": 5, **options})


def data(folder: Path) -> RetrievalDataModule:
    return RetrievalDataModule(str(folder), "google/byt5-small", max_seq_len=40, batch_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def batch(folder: Path) -> Any:
    module = data(folder)
    module.setup("fit")
    return next(iter(module.train_dataloader()))


def graded(model: PremiseRetriever, batch: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    contexts, premises = model._encoded(batch)
    loss = ((contexts @ premises.T) ** 2).sum()
    loss.backward()
    return loss, {name: p.grad for name, p in model.encoder.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"chunk_size": 3}, {"gradient_checkpointing": True}])
def test_vectors_and_gradients_are_those_of_padded_texts(options: dict[str, Any], batch: Any) -> None:
    plain, rows = build(attention="sdpa").double(), build(attention="flex", **options).double()
    prepared = rows.prepare_batch(batch)
    assert "rows" in prepared and "state_ids" not in prepared
    num_texts = len(batch["state"]) + len(batch["premise_numbers"])
    assert len(prepared["rows"]) == (-(-num_texts // 3) if "chunk_size" in options else 1)
    (expected, theirs), (found, ours) = graded(plain, plain.prepare_batch(batch)), graded(rows, prepared)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_tokens_are_counted_as_in_padded_texts(batch: Any) -> None:
    counts = [
        count_tokens(token_masks(build(attention=attention, **options).prepare_batch(batch))).tolist()
        for attention, options in (("sdpa", {}), ("flex", {}), ("flex", {"chunk_size": 3}))
    ]
    assert counts[0] == counts[1] == counts[2]


def test_texts_are_embedded_as_before() -> None:
    plain, rows = build(attention="sdpa").eval(), build(attention="flex").eval()
    torch.testing.assert_close(rows.encode(list(STATES)), plain.encode(list(STATES)), rtol=1e-4, atol=1e-5)


def test_a_run_trains_and_retrieves(folder: Path, tmp_path: Path) -> None:
    found = []
    for attention in ("sdpa", "flex"):
        trainer = quiet_trainer(tmp_path / attention, max_epochs=1)
        trainer.fit(build(attention=attention, lr=1e-3, warmup_steps=0), data(folder))
        found.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert found[1]["loss_train"] == pytest.approx(found[0]["loss_train"], rel=1e-3)
    assert found[1]["MRR_val"] == pytest.approx(found[0]["MRR_val"], abs=0.1)


def test_encoders_that_cannot_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention is flex, but T5EncoderModel has other attention than T5's"):
        build(model_name={**ENCODER, "d_kv": 8}, attention="flex")
