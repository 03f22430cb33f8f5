"""Decoding on a GPU: graphs find what single operations find, memory is bounded, and nothing fails for want of it."""

import logging

import pytest
import torch

from generator.decoding import Decoding, Sampling, decode, memory, ragged
from generator.decoding.static import causal, programs, t5
from generator.decoding.static import search as static
from generator.decoding.static.store import release, store_of
from generator.engines import make_engine
from tests.generator.decoding_fakes import (
    MODELS,
    IdTokenizer,
    Letters,
    assert_close,
    make_reading_nan,
    noted_sizes,
    ragged_batch,
    random_model,
    random_t5,
    states_of,
)
from tests.generator.families import FAMILIES

DECODINGS = {
    "beams": Decoding(14, num_beams=6),
    "a bucket is outgrown": Decoding(45, num_beams=6),
    "longer is better": Decoding(40, length_penalty=1.0),
    "samples": Decoding(20, sampling=Sampling(1.2, top_p=0.9)),
    "texts": Decoding(20, stop=("b", "[/]", "c")),
}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Products of float32 in float32, and everything said anew."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(memory, "_said", set())
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]().cuda()


def found_with(model, decoding, *, cuda_graphs=True, states=None, num_candidates=4):
    states = states_of(ragged_batch()) if states is None else states
    options = {"tokenizer": Letters(), "generator": torch.Generator().manual_seed(3)}
    return decode(model, states, num_candidates, decoding, **options, cuda_graphs=cuda_graphs)


def captures(model):
    """Graphs kept on a model."""
    return [program.is_captured for search in store_of(model).searches.values() for program in search.programs.values()]


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
def test_graphs_find_what_single_operations_find(model, decoding):
    expected = found_with(model, decoding, cuda_graphs=False)
    for _ in range(2):  # captured, and replayed only
        found = found_with(model, decoding)
        assert_close(found, expected, tolerance=1e-3)
    assert captures(model) and all(captures(model)), store_of(model).failed


@pytest.mark.parametrize("model_type", ["umt5", "mt5", "llama", "qwen2", "gpt_neox", "opt"])
def test_graphs_are_captured_of_other_architectures(model_type):
    model, decoding = random_model(model_type).cuda(), Decoding(20, num_beams=4)
    found, expected = found_with(model, decoding), found_with(model, decoding, cuda_graphs=False)
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=1e-3, rtol=1e-4)
    assert captures(model) and all(captures(model)), store_of(model).failed


def test_a_gpu_finds_what_a_cpu_finds(model):
    found = found_with(model, DECODINGS["beams"])
    expected = found_with(model.cpu(), DECODINGS["beams"])
    torch.testing.assert_close(found.log_probs.cpu(), expected.log_probs, atol=1e-3, rtol=1e-4)


def test_samples_are_the_same_each_time(model):
    decoding = DECODINGS["samples"]
    first, again = found_with(model, decoding), found_with(model, decoding)
    assert_close(first, again, tolerance=0)
    release(model)
    assert_close(first, found_with(model, decoding), tolerance=0)


def test_weights_that_were_trained_meanwhile_are_read(model):
    decoding = DECODINGS["beams"]
    before = found_with(model, decoding)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    found, expected = found_with(model, decoding), found_with(model, decoding, cuda_graphs=False)
    assert not torch.equal(before.log_probs, found.log_probs)
    torch.testing.assert_close(found.log_probs, expected.log_probs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("is_mixed", [False, True], ids=["weights", "autocast"])
def test_bfloat16_finds_about_the_same(model, is_mixed):
    model, decoding = model if is_mixed else model.bfloat16(), DECODINGS["beams"]
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=is_mixed):
        for _ in range(2):
            found = found_with(model, decoding)
        expected = found_with(model, decoding, cuda_graphs=False)
    assert found.log_probs.dtype == torch.float32
    torch.testing.assert_close(found.log_probs[:, 0], expected.log_probs[:, 0], atol=0.5, rtol=0.05)
    assert all(captures(model)), store_of(model).failed


@pytest.mark.parametrize("name", FAMILIES)
def test_an_engine_under_autocast_in_inference_mode_and_out_of_it(name):
    """Lightning validates in inference mode; provers ask outside of it. Both read the same buffers."""
    module = FAMILIES[name].build().cuda()
    engine = make_engine("native", module.generator, module.tokenizer, max_inp_seq_len=64)
    with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
        with torch.inference_mode():
            inside = engine.propose(["p ⊢ p", "⊢ True"], 3, Decoding(10))
        with torch.no_grad():
            outside = engine.propose(["p ⊢ p", "⊢ True"], 3, Decoding(10))
    assert [[text for text, _ in one] for one in inside] == [[text for text, _ in one] for one in outside]
    assert captures(module.generator)
    engine.release()
    assert not captures(module.generator) and not store_of(module.generator).casts


def test_without_graphs_it_is_said_once_and_the_same_is_found(model, monkeypatch, caplog):
    """A step that waits for the device cannot be captured."""
    for kind in (t5.StaticT5, causal.StaticCausal):
        forward = kind.forward

        def waiting(self, tokens, parity, forward=forward):
            logits = forward(self, tokens, parity)
            logits.sum().item()
            return logits

        monkeypatch.setattr(kind, "forward", waiting)
    with caplog.at_level(logging.WARNING):
        found = [found_with(model, DECODINGS["beams"]) for _ in range(2)]
    assert len([record for record in caplog.records if "without CUDA graphs" in record.getMessage()]) == 1
    assert torch.rand(3, device="cuda").sum() > 0, "training goes on with dropout"
    monkeypatch.undo()
    expected = found_with(model, DECODINGS["beams"], cuda_graphs=False)
    assert_close(found[1], expected, tolerance=1e-3)


def test_a_capture_that_is_broken_off_leaves_nothing_behind():
    def broken():
        torch.rand(3, device="cuda")
        raise ValueError("in the middle")

    calls = []

    def part():  # the third call is captured
        calls.append(1)
        if len(calls) > 2:
            broken()

    with pytest.raises(ValueError, match="in the middle"):
        programs.captured([part], torch.cuda.graph_pool_handle())
    assert torch.rand(3, device="cuda").sum() > 0
    model = MODELS["encoder-decoder"]().cuda()
    assert_close(
        found_with(model, DECODINGS["beams"]),
        found_with(model, DECODINGS["beams"], cuda_graphs=False),
        tolerance=1e-3,
    )
    assert captures(model)


def test_memory_keeps_the_budget(model, monkeypatch):
    """Of 64 long states no more are decoded at once than the budget holds."""
    states = [torch.randint(2, 24, (60,)) for _ in range(64)]
    decoding = Decoding(40, num_beams=8)
    sizes = noted_sizes(monkeypatch)
    one = static.bytes_of_shape(model, 60, 8, 40)
    monkeypatch.setattr(ragged, "free_bytes", lambda device: 8 * one / ragged.SHARE)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = found_with(model, decoding, states=states)
    assert max(sizes) == 8 and sum(sizes) == 64
    # the library's workspaces of products and graphs take some megabytes however small a model is
    assert torch.cuda.max_memory_allocated() - before < 2.5 * 8 * one + 100e6
    monkeypatch.undo()
    assert_close(found_with(model, decoding, states=states, cuda_graphs=False), found, tolerance=1e-3)


def test_over_many_shapes_graphs_keep_their_share_and_give_all_back(model):
    states = [[torch.randint(2, 24, (length,)) for _ in range(count)] for length in (9, 70, 100) for count in (1, 2, 4)]
    decoding = Decoding(12, num_beams=4)
    found_with(model, decoding, states=states[0])  # libraries take their workspaces
    one = store_of(model).num_bytes
    total = torch.cuda.get_device_properties(0).total_memory
    release(model)
    before = programs.bytes_in_use(torch.device("cuda"))
    for some in states * 2:
        decode(model, some, 4, decoding, max_graph_share=4 * one / total)
        assert store_of(model).num_bytes <= max(4 * one, list(store_of(model).searches.values())[-1].num_bytes)
    assert len(store_of(model).searches) < len(states)
    release(model)
    assert programs.bytes_in_use(torch.device("cuda")) - before < 64e6


def test_out_of_memory_halves_what_is_decoded_at_once(model, monkeypatch, caplog):
    sizes, find = [], ragged._find

    def cramped(model, some, *rest):
        sizes.append(len(some))
        if len(some) > 2:
            torch.empty(2**45, device="cuda", dtype=torch.uint8)  # really runs out
        return find(model, some, *rest)

    expected = found_with(model, DECODINGS["beams"])
    monkeypatch.setattr(ragged, "_find", cramped)
    with caplog.at_level(logging.WARNING):
        assert_close(found_with(model, DECODINGS["beams"]), expected, tolerance=1e-3)
    assert sizes == [5, 2, 2, 1]
    assert len([record for record in caplog.records if "memory ran out with 5 states" in record.getMessage()]) == 1


def test_nan_names_the_state(model):
    make_reading_nan(model, 7)
    model.cuda()
    states = [ids.where(ids != 7, 8) for ids in states_of(ragged_batch())]
    states[2] = torch.tensor([7])
    decoding = Decoding(10)  # none of whose candidates writes a 7
    with pytest.raises(FloatingPointError, match="step 1 for state 2"):
        found_with(model, decoding, states=states)
    states[2] = torch.tensor([8])
    expected = found_with(model, decoding, states=states, cuda_graphs=False)
    assert_close(found_with(model, decoding, states=states), expected, tolerance=1e-3)


def test_an_engine_can_do_without_graphs():
    model = random_t5(vocab_size=64).cuda()  # a text's bytes are tokens
    engine = make_engine("native", model, IdTokenizer(), max_inp_seq_len=32, cuda_graphs=False)
    assert engine.propose(["3"], 2, Decoding(10)) and not captures(model)
