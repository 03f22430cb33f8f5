"""Where every premise is ranked, torchmetrics.retrieval defines recall and MRR as ReProver does."""

import pytest
import torch
from torchmetrics.retrieval import RetrievalMRR, RetrievalRecall

from retrieval.metrics import RetrievalMetrics


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_recall_and_mrr_agree_with_torchmetrics(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    scores = torch.rand(50, 20, generator=generator)
    relevant = torch.rand(50, 20, generator=generator) < 0.1
    assert (relevant.sum(dim=1) == 0).any() and (relevant.sum(dim=1) > 1).any()
    numbers = torch.arange(20).expand(50, 20)

    ours = RetrievalMetrics(num_retrieved=20)
    ours.update(scores.argsort(dim=1, descending=True), numbers.masked_fill(~relevant, -1))

    contexts = torch.arange(50)[:, None].expand(50, 20)
    recall, mrr = RetrievalRecall(empty_target_action="skip", top_k=k), RetrievalMRR(empty_target_action="skip")
    for metric in (recall, mrr):
        metric.update(scores.flatten(), relevant.flatten(), indexes=contexts.flatten())
    torch.testing.assert_close(ours.compute()["recall"][k - 1], recall.compute())
    torch.testing.assert_close(ours.compute()["mrr"], mrr.compute())
