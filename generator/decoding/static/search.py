"""From states to candidates over static buffers: what `beams.search` and `sampling.draw` do, in steps that can be
captured as CUDA graphs. On a CPU the same steps run as they are, which is how tests hold them against the others.

Shapes are few, so that graphs are: states, input tokens, and tokens written are rounded up to buckets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from generator.architectures.traits import is_encoder_decoder
from generator.decoding.autocast import autocast_dtype
from generator.decoding.memory import bytes_of_state
from generator.decoding.settings import Decoding
from generator.decoding.static import causal_search, t5_search
from generator.decoding.static.buffers import bucket
from generator.decoding.static.causal_search import CausalSearch
from generator.decoding.static.shape import CaptureError as CaptureError
from generator.decoding.static.shape import Search, Shape
from generator.decoding.static.store import Store, store_of
from generator.decoding.static.t5_search import T5Search
from generator.decoding.stopping import StopStrings

MIN_INPUT, INPUT_PARTS = 64, 2  # tokens of the smallest bucket of inputs, and how many there are up to twice as many
MIN_NEW_TOKENS = 8  # capturing costs about as much as 8 steps without a graph


def pays(model: Any, decoding: Decoding) -> bool:
    """Whether to search here: on a GPU that holds the whole model, for more than a few tokens."""
    device = model.get_input_embeddings().weight.device
    if device.type != "cuda" or decoding.max_new_tokens < MIN_NEW_TOKENS or store_of(model).failed is not None:
        return False
    return all(parameter.device == device for parameter in model.parameters())


def search(
    model: Any,
    states: Sequence[Tensor],
    num_candidates: int,
    decoding: Decoding,
    store: Store,
    *,
    noise: Tensor | None = None,
    stop: StopStrings | None = None,
    captures: bool = True,
) -> tuple[Tensor, Tensor]:
    """Finds candidates as `generator.decoding.ragged.decode` does.

    Args:
        model: in evaluation mode, and with the casts of `weights_cast`.
        states: token ids (S,) of each, where the model's embedding is; of a T5, longest first.
        num_candidates: for each.
        decoding: how to find them.
        store: of the model.
        noise: of `draw_noise`, where samples are drawn.
        stop: what ends candidates beside EOS.
        captures: whether to replay graphs; else the same steps run one operation at a time.

    Returns:
        Tokens and sums of log-probabilities, as in `generator.decoding.Decoded`.

    Raises:
        CaptureError: where a step cannot be captured; nothing was found then, and the other way is to be taken.
        NaNLogitsError: when the logits of a state are NaN.
    """
    device = states[0].device
    with store.lock, normal_tensors(device):
        store.check(model)
        num_states, longest = state_room(len(states)), input_room(max(map(len, states)))
        shape = Shape(num_states, longest, num_candidates, _plain(decoding), stop is not None, captures)
        key: Hashable = (shape, autocast_dtype(device))
        kind: type[Search] = T5Search if is_encoder_decoder(model) else CausalSearch
        found: Search = store.get(key, lambda: kind(model, store, shape))
        try:
            return found.run(states, noise, stop)
        except BaseException:
            store.searches.pop(key, None)  # whatever it holds now is not to be gone on from
            raise
        finally:
            store.trim()


def state_room(num_states: int) -> int:
    """States that there is room for in a search that holds so many."""
    return bucket(num_states, 1)


def input_room(length: int) -> int:
    """Tokens of an input that there is room for in a search that holds so many."""
    return bucket(length, MIN_INPUT, INPUT_PARTS)


def bytes_of_shape(model: Any, length: int, num_rows: int, max_new_tokens: int) -> int:
    """About how much memory a state may take in a search of its shape; see `memory.bytes_of_state`.

    Caches of all capacities are kept side by side, twice as large from one to the next.
    """
    first = t5_search.MIN_STEPS if is_encoder_decoder(model) else causal_search.MIN_STEPS
    last = bucket(max_new_tokens, first)
    return bytes_of_state(model, input_room(length), num_rows, 2 * last - first)


def _plain(decoding: Decoding) -> Decoding:
    """The settings without those that no step depends on: texts and seeds are others' matter."""
    sampling = None if decoding.sampling is None else replace(decoding.sampling, seed=0)
    return replace(decoding, sampling=sampling, stop=())


@contextlib.contextmanager
def normal_tensors(device: torch.device) -> Iterator[None]:
    """No gradients, and tensors that may be changed in any mode later; autocast keeps nothing between operations.

    On a GPU that is the current one, where graphs are captured.
    """
    kind, dtype = device.type, torch.get_autocast_dtype(device.type)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.cuda.device(device) if kind == "cuda" else contextlib.nullcontext(),
        torch.autocast(kind, dtype=dtype, enabled=torch.is_autocast_enabled(kind), cache_enabled=False),
    ):
        yield
