"""What graphs and their buffers hold is counted, bounded, and given back when they go; here without a GPU."""

import gc
import weakref

import pytest
import torch

from generator.decoding import Decoding, decode, memory, ragged
from generator.decoding.causal_decoder import CausalDecoder
from generator.decoding.memory import chunks
from generator.decoding.static import programs
from generator.decoding.static import search as static
from generator.decoding.static.store import store_of
from tests.generator import recorded_graphs
from tests.generator.decoding_fakes import MODELS, Letters, assert_close, end_with, noted_sizes

GRAPH_BYTES = 10_000_000  # of a capture of the made-up device, more than all buffers here
DECODING = Decoding(10, num_beams=3)


class Device:
    """Memory of which each capture takes as much."""

    def __init__(self):
        self.num_captures = 0

    def captured(self, parts, pool):
        assert pool in self.pools, "a search's graphs share a pool, and no other's do"
        self.num_captures += 1
        return recorded_graphs.captured(parts, pool)

    def bytes_in_use(self, device):
        return 5_000_000 + self.num_captures * GRAPH_BYTES


@pytest.fixture
def device(monkeypatch):
    device = Device()
    device.pools = []

    def new_pool():
        device.pools.append((0, len(device.pools)))
        return device.pools[-1]

    monkeypatch.setattr(static, "pays", lambda model, decoding: store_of(model).failed is None)
    monkeypatch.setattr(programs, "captured", device.captured)
    monkeypatch.setattr(programs, "bytes_in_use", device.bytes_in_use)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", new_pool)
    return device


@pytest.fixture(params=list(MODELS))
def model(request):
    model = MODELS[request.param]()
    end_with(model, None)
    return model


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def inputs(length, count=1):
    return [torch.arange(length) % 20 + 2 for _ in range(count)]


def searches(model):
    return list(store_of(model).searches.values())


def test_a_search_that_goes_leaves_nothing_until_python_looks_for_cycles(model, device, no_garbage_collection):
    decode(model, inputs(5), 3, DECODING)
    [search] = searches(model)
    [program] = search.programs.values()
    buffers = [*program.network.tensors(), *search.book.tensors(), *getattr(program.network, "held", [])]
    alive = [weakref.ref(one) for one in [*buffers, search, program, program.network]]
    del search, program, buffers
    store_of(model).clear()
    assert not [one() for one in alive if one() is not None]


def test_prompts_are_let_go_with_their_decoder(no_garbage_collection):
    """Without graphs, the same."""
    model = MODELS["decoder-only"]()
    with torch.no_grad():
        decoder = CausalDecoder(model, inputs(5), 3, 10)
    held = [weakref.ref(one) for tree in decoder.cache.trees for one in tree.held]
    assert held
    del decoder
    assert not [one() for one in held if one() is not None]


def test_what_graphs_take_is_counted(model, device):
    decode(model, inputs(5), 3, Decoding(60, num_beams=3))  # a bucket is outgrown
    [search] = searches(model)
    assert device.num_captures == len(search.programs) > 1 and len(device.pools) == 1
    buffers = sum(program.network.num_bytes for program in search.programs.values())
    assert search.num_bytes - device.num_captures * GRAPH_BYTES >= buffers > 0


def test_over_many_shapes_no_more_is_kept_than_the_share(model, device, monkeypatch):
    limit, most = 3.5 * GRAPH_BYTES, []
    monkeypatch.setattr(ragged, "max_bytes_of", lambda device, share: share * 10 * limit)
    captured = device.captured

    def noted(parts, pool):
        most.append(store_of(model).num_bytes + GRAPH_BYTES)  # with the graph that is being captured
        return captured(parts, pool)

    monkeypatch.setattr(programs, "captured", noted)
    for length, count in ((5, 1), (70, 1), (100, 1), (5, 2), (70, 2), (100, 2), (5, 1), (100, 2)):
        states = inputs(length, count)
        found = decode(model, states, 3, DECODING, max_graph_share=0.1)
        assert_close(found, decode(model, states, 3, DECODING, cuda_graphs=False))
        assert store_of(model).num_bytes <= limit
    assert len(searches(model)) == 3 and len(most) == 7, "the latest are replayed"
    assert len(device.pools) == 7, "of which those that have gone took theirs with them"


def test_a_graph_of_more_capacity_makes_room_before_it_is_captured(model, device, monkeypatch):
    monkeypatch.setattr(ragged, "max_bytes_of", lambda device, share: 2.5 * GRAPH_BYTES)
    kept, captured = [], device.captured

    def noted(parts, pool):
        kept.append(len(searches(model)))
        return captured(parts, pool)

    monkeypatch.setattr(programs, "captured", noted)
    decode(model, inputs(5), 3, DECODING)
    decode(model, inputs(5), 3, Decoding(60, num_beams=3))
    assert kept[:3] == [1, 2, 1]


def test_without_stop_texts_no_scores_of_the_vocabulary_stay_in_graphs(model, device):
    decode(model, inputs(5), 3, DECODING)
    [search] = searches(model)
    assert [program.found for program in search.programs.values()] == [[None]] and search.book.found is None


def test_with_stop_texts_few_graphs_serve_all_steps(device):
    model, decoding = MODELS["decoder-only"](), Decoding(14, num_beams=6, stop=("b", "[/]"))
    expected = decode(model, inputs(5), 4, decoding, tokenizer=Letters(), cuda_graphs=False)
    for _ in range(2):
        assert_close(decode(model, inputs(5), 4, decoding, tokenizer=Letters()), expected)
    [search] = searches(model)
    assert {len(program.replays) for program in search.programs.values()} == {4}


def test_a_group_is_counted_with_the_states_that_its_buffers_have_room_for():
    assert [len(group) for group in chunks([1] * 100, 100, static.state_room)] == [64, 36]
    assert [len(group) for group in chunks([1] * 100, 128, static.state_room)] == [100]


def test_a_state_is_counted_with_all_caches_of_its_search(model):
    """Caches for 32, 64 and 128 tokens, and for an input of 96."""
    counted = static.bytes_of_shape(model, 70, 4, 100)
    assert counted >= memory.bytes_of_state(model, 96, 4, 32 + 64 + 128)


def test_states_decoded_at_once_keep_the_share(model, device, monkeypatch):
    sizes = noted_sizes(monkeypatch)
    one = static.bytes_of_shape(model, 5, 3, 10)
    monkeypatch.setattr(ragged, "max_bytes_of", lambda device, share: 4.5 * one)
    found = decode(model, inputs(5, count=11), 3, DECODING)
    assert sizes == [4, 4, 3]
    monkeypatch.undo()
    assert_close(found, decode(model, inputs(5, count=11), 3, DECODING))


def test_all_that_a_search_keeps_was_counted_before(model, device):
    """The estimate of a state is no less than what its search takes but for graphs."""
    decode(model, inputs(60, count=4), 8, Decoding(60, num_beams=8))
    [search] = searches(model)
    taken = search.num_bytes - device.num_captures * GRAPH_BYTES
    assert taken <= 4 * 1.2 * static.bytes_of_shape(model, 60, 8, 60)
