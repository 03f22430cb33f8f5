"""What libraries say on the screen about themselves: left out where a user can do nothing about it, or it is done."""

from __future__ import annotations

import logging
import warnings

import torch

_WARNINGS = (  # of what our own code does on purpose
    "LeafSpec",
    "skip_none",
    "does not have many workers",
    "could not find the monitored key",  # a run without validation says why; a wrong name is an error behind one
    "Couldn't infer the batch indices",  # predictions say themselves which examples they are of
    "Checkpoint directory .* exists and is not empty",  # one of a run of the same name, which is not overwritten
)
_RECORDS = {
    "pytorch_lightning.utilities.rank_zero": (
        "Tip:",  # other products
        "TPU available",
        "You are using a CUDA device",  # see `prepare`
        "Trainer already configured with model summary",
    ),
    "pytorch_lightning.trainer.connectors.checkpoint_connector": ("`weights_only` was not set",),
    "transformers.modeling_utils": (  # weights decide what is tied, and exports say so
        "update the config with `tie_word_embeddings=False`",
    ),
}


def prepare() -> None:
    """Leave out such remarks, and do what the one about GPUs asks for.

    That is to multiply float32 matrices on tensor cores, with the 10 bits of TF32 instead of 23, unless it was chosen
    otherwise. Attention's kernels of cuDNN, which are planned anew for each shape, are left out too. To be called when
    a command starts.
    """
    warnings.filterwarnings("ignore", message=rf"(?s).*({'|'.join(_WARNINGS)}).*")
    for name, texts in _RECORDS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Without) for known in logger.filters):
            logger.addFilter(_Without(texts))
    if torch.cuda.is_available():
        if torch.get_float32_matmul_precision() == "highest":
            torch.set_float32_matmul_precision("high")
        torch.backends.cuda.enable_cudnn_sdp(False)  # see `attention_kernels`: batches are of all lengths


class _Without(logging.Filter):
    """Leaves out records that hold one of some texts."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        super().__init__()
        self._texts = texts

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown."""
        message = record.getMessage()
        return not any(text in message for text in self._texts)
