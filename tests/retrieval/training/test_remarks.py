"""Libraries' remarks about themselves are left out, and nothing else is."""

import logging
import warnings

import pytest
import torch

from retrieval.training.remarks import prepare

TIED = "The tied weights ... You should update the config with `tie_word_embeddings=False` to silence this warning."


@pytest.mark.parametrize(
    ("logger", "remark"),
    [
        ("transformers.modeling_utils", TIED),
        (
            "pytorch_lightning.trainer.connectors.checkpoint_connector",
            "`weights_only` was not set, defaulting to `False`.",
        ),
        ("pytorch_lightning.utilities.rank_zero", "You are using a CUDA device ('NVIDIA H100') that has Tensor Cores."),
        ("pytorch_lightning.utilities.rank_zero", "💡 Tip: For seamless cloud logging"),
    ],
)
def test_remarks_are_left_out_and_other_records_are_not(logger: str, remark: str) -> None:
    prepare()
    prepare()
    log = logging.getLogger(logger)
    records = [log.makeRecord(logger, logging.WARNING, __file__, 1, text, (), None) for text in (remark, "else")]
    assert [record.getMessage() for record in records if log.filter(record)] == ["else"]
    assert len(log.filters) == 1, "however often"


def test_warnings_about_our_own_code_are_left_out_and_others_are_not() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        prepare()
        for text in ("\n  skip_none parameter was deprecated", "Couldn't infer the batch indices fetched", "other"):
            warnings.warn(text, stacklevel=1)
    assert [str(warning.message) for warning in found] == ["other"]


@pytest.mark.parametrize(
    ("has_gpu", "before", "after"),
    [(True, "highest", "high"), (True, "medium", "medium"), (False, "highest", "highest")],
)
def test_a_gpu_multiplies_float32_on_tensor_cores(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, before: str, after: str
) -> None:
    chosen, chosen_kernels = [before], list[bool]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: chosen[-1])
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", chosen_kernels.append)
    prepare()
    assert chosen[-1] == after
    assert chosen_kernels == [False] * has_gpu
