"""Candidates for inputs of any lengths, on the live model: lists of token ids in, none of them padded.

Same candidates and scores as `transformers.generate`. What was read of a state is kept once for all its candidates
instead of once each, which is several times faster for many candidates of a long input (see
`generator.decoding.t5_decoder` and `generator.decoding.causal_decoder`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common import DataError
from generator.architectures.traits import is_encoder_decoder, positions_of, token_ids, unwrapped
from generator.decoding import causal_decoder, t5_decoder
from generator.decoding.autocast import Casts, weights_cast
from generator.decoding.beams import search
from generator.decoding.causal_decoder import CausalDecoder
from generator.decoding.grouping import longest_first
from generator.decoding.memory import SHARE, as_many, bytes_of_state, free_bytes, in_chunks, say_once
from generator.decoding.protocol import Decoder, NaNLogitsError, SpecialTokens
from generator.decoding.sampling import Generators, draw, draw_noise
from generator.decoding.settings import Decoding
from generator.decoding.static import search as static
from generator.decoding.static.store import MAX_SHARE, max_bytes_of, release, store_of
from generator.decoding.stopping import StopStrings
from generator.decoding.t5_decoder import T5Decoder
from retrieval.training.attention_kernels import varying_shapes


@dataclass(frozen=True)
class Decoded:
    """Candidates of a batch of states: B states, R candidates each, T tokens of the longest.

    Attributes:
        sequences: (B, R, T) int64 without the start token or the prompt, with EOS where it was written, then padding.
        log_probs: (B, R) float32, the plain sum of token log-probabilities including EOS; -inf marks a candidate
            that does not exist (its row is all padding).
    """

    sequences: Tensor
    log_probs: Tensor


def check_model(model: Any) -> None:
    """Refuses a model that cannot be decoded here.

    Raises:
        TypeError: unless `model` is of the T5 family, or a decoder-only model of transformers whose candidates can
            share a prompt; it may be wrapped by torch.compile or peft.
    """
    model = unwrapped(model)
    (t5_decoder if is_encoder_decoder(model) else causal_decoder).check_model(model)


def decode(
    model: Any,
    states: Sequence[Tensor],
    num_candidates: int,
    decoding: Decoding,
    *,
    tokenizer: Any = None,
    generator: Generators = None,
    cuda_graphs: bool = True,
    max_graph_share: float = MAX_SHARE,
) -> Decoded:
    """Finds candidates for each state: the best ones, best first, or samples in the order drawn.

    Dropout is off and nothing of the model is changed, whatever its mode; autocast is respected. On a GPU, states are
    taken so many at a time as its memory holds. Log-softmax is in float32 whatever the type of the weights; log-
    probabilities of a search in bfloat16 are 0.02 from float32's, one in twenty over 0.1 (tests/benchmarks/results/
    half_precision.md), and are not computed again.

    Args:
        model: see `check_model`.
        states: token ids (S,) of what the model reads for each, at least one; S may differ.
        num_candidates: for each state, at least 1.
        decoding: how to find them; its seed is left to `generator`.
        tokenizer: what decodes candidates; needed with `decoding.stop`.
        generator: CPU generator that seeds the samples, or one for each state; None uses torch's default one.
        cuda_graphs: on a GPU, replay steps as CUDA graphs, which are kept on the model (`static.store.release` frees
            them); where they cannot be captured, that is said once, and steps run one operation at a time.
        max_graph_share: of the GPU's memory, what graphs and their buffers may hold.

    Returns:
        The candidates, in the order of the states; fewer than asked for exist where the vocabulary is small.

    Raises:
        ConfigError: for fewer beams than candidates.
        DataError: for a state without tokens, unless the model is decoder-only and has a BOS to start from; or for
            one beyond the model's context.
        TypeError: for a model that cannot be decoded here.
        NaNLogitsError: when logits are NaN; names the state.
    """
    check_model(model)
    model = unwrapped(model)
    stop = StopStrings(decoding.stop, tokenizer) if decoding.stop else None
    num_rows, max_new_tokens = decoding.rows_for(num_candidates), decoding.max_new_tokens
    device = model.get_input_embeddings().weight.device
    states = [ids.to(device) for ids in _with_a_token(model, states)]
    lengths = [len(ids) for ids in states]
    _check_context(model, lengths, max_new_tokens)
    # T5's states share calls with their neighbours; those of a decoder-only model are grouped where they are read
    order = longest_first(lengths) if is_encoder_decoder(model) else list(range(len(lengths)))
    noise: Tensor | None = None
    if decoding.sampling is not None:
        noise = draw_noise(len(states), num_candidates, max_new_tokens, generator)

    def answer(places: list[int]) -> tuple[Tensor, Tensor]:
        numbers = [order[place] for place in places]
        asked = _Asked(num_candidates, decoding, stop, None if noise is None else noise[numbers])
        try:
            return _find(model, [states[number] for number in numbers], asked, cuda_graphs)
        except NaNLogitsError as error:
            raise NaNLogitsError(numbers[error.state], error.step) from None

    budget, size_of = SHARE * free_bytes(device), bytes_of_state
    room: Callable[[int], int] = as_many
    if cuda_graphs and static.pays(model, decoding):
        store = store_of(model)
        store.max_bytes = max_bytes_of(device, max_graph_share)
        budget, size_of, room = min(budget, store.max_bytes), static.bytes_of_shape, static.state_room
    sizes = [size_of(model, lengths[number], num_rows, max_new_tokens) for number in order]
    with varying_shapes():
        answers = in_chunks(sizes, budget, answer, lambda: release(model), room)
    sequences, log_probs = _joined([found for _, found in answers], _pad_of(model))
    place = torch.tensor(order, device=log_probs.device).argsort()
    # indexing outside of inference mode gives ordinary tensors
    return Decoded(sequences[place], log_probs[place])


@dataclass(frozen=True)
class _Asked:
    """What is to be found of some states."""

    num_candidates: int
    decoding: Decoding
    stop: StopStrings | None
    noise: Tensor | None


def _find(model: Any, states: Sequence[Tensor], asked: _Asked, cuda_graphs: bool) -> tuple[Tensor, Tensor]:
    """Candidates of states that are decoded together, by graphs where they pay."""
    decoding = asked.decoding
    if cuda_graphs and static.pays(model, decoding):
        store = store_of(model)
        try:
            with _evaluating(model, store.casts):
                return static.search(
                    model, states, asked.num_candidates, decoding, store, noise=asked.noise, stop=asked.stop
                )
        except static.CaptureError as error:
            store.release()
            store.failed = str(error)
            say_once(f"{type(model).__name__} is decoded without CUDA graphs, which could not be captured: {error}")
    with _reading(model, states, decoding.rows_for(asked.num_candidates), decoding.max_new_tokens) as decoder:
        if decoding.sampling is None:
            return search(decoder, asked.num_candidates, decoding, asked.stop)
        assert asked.noise is not None
        return draw(decoder, decoding.sampling, asked.noise, asked.stop)


def _pad_of(model: Any) -> int:
    special = SpecialTokens.of(model) if is_encoder_decoder(model) else causal_decoder.special_tokens(model)
    return special.pad


def _joined(found: Sequence[tuple[Tensor, Tensor]], pad: int) -> tuple[Tensor, Tensor]:
    """Sequences and log-probabilities of several groups as of one."""
    if len(found) == 1:
        return found[0]
    longest = max(sequences.shape[-1] for sequences, _ in found)
    rows = [F.pad(sequences, (0, longest - sequences.shape[-1]), value=pad) for sequences, _ in found]
    return torch.cat(rows), torch.cat([log_probs for _, log_probs in found])


@contextlib.contextmanager
def _reading(model: Any, states: Sequence[Tensor], num_rows: int, max_new_tokens: int) -> Iterator[Decoder]:
    """A decoder that has read the states, in the modes in which it may be used."""
    if is_encoder_decoder(model):
        with torch.inference_mode():  # in any mode of the model: dropout is never applied
            yield T5Decoder(model, states, max_new_tokens)
        return
    with _evaluating(model):
        yield CausalDecoder(model, states, num_rows, max_new_tokens)


@contextlib.contextmanager
def _evaluating(model: Any, casts: Casts | None = None) -> Iterator[None]:
    """A model that may be called, with its weights cast."""
    # no_grad and not inference_mode: a model may keep tensors of a call (rotary tables), which training then uses
    with torch.no_grad(), evaluation_mode(model), weights_cast(model, casts):
        yield


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards each module in the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _with_a_token(model: Any, states: Sequence[Tensor]) -> Sequence[Tensor]:
    """The states, where a decoder-only model starts an empty one from BOS."""
    empty = [state for state, ids in enumerate(states) if not len(ids)]
    if not empty:
        return states
    if is_encoder_decoder(model):
        raise DataError(f"state {empty[0]} of the batch has no token: even an empty state is encoded as EOS.")
    bos = token_ids(model, "bos_token_id")
    if not bos:
        raise DataError(
            f"state {empty[0]} of the batch has no token and the model no BOS token to start from: "
            "give every prompt at least one token."
        )
    return [ids if len(ids) else torch.tensor(bos[:1]) for ids in states]


def _check_context(model: Any, lengths: Sequence[int], max_new_tokens: int) -> None:
    limit = None if is_encoder_decoder(model) else positions_of(model.config)
    # the last token written is never read
    if limit is not None and max(lengths) + max_new_tokens - 1 > limit:
        state = max(range(len(lengths)), key=lengths.__getitem__)
        raise DataError(
            f"state {state} of the batch has {lengths[state]} tokens and max_new_tokens is {max_new_tokens}: "
            f"the model's context is {limit} tokens. Shorten the prompt or write fewer tokens."
        )
