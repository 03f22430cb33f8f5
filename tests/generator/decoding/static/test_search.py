"""Decoding in steps over static buffers finds what decoding on the live model finds; here without graphs."""

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from generator.decoding import Decoding, Sampling, beam_search, decode, memory
from generator.decoding.autocast import weights_cast
from generator.decoding.grouping import longest_first
from generator.decoding.protocol import NaNLogitsError
from generator.decoding.sampling import draw_noise
from generator.decoding.static import programs
from generator.decoding.static import search as static
from generator.decoding.static.buffers import bucket
from generator.decoding.static.shape import Search
from generator.decoding.static.store import Store, store_of
from generator.decoding.stopping import StopStrings
from tests.generator import recorded_graphs
from tests.generator.decoding.test_autocast import Casts
from tests.generator.decoding_fakes import (
    BEAMS,
    MODELS,
    Letters,
    assert_log_probs_of,
    end_with,
    make_reading_nan,
    ragged_batch,
    random_model,
    states_of,
)

DECODINGS = {
    "beams": Decoding(14, num_beams=6),
    "a bucket is outgrown": Decoding(45, num_beams=6),
    "shorter is better": Decoding(14, length_penalty=-1.0),
    "longer is better": Decoding(40, length_penalty=1.0),
    "no whole chunk": Decoding(9, length_penalty=0.7),
    "one token": Decoding(1),
}


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


@pytest.fixture
def states():
    """Longest first."""
    found = states_of(ragged_batch())
    return [found[number] for number in longest_first([len(ids) for ids in found])]


def searched(model, states, num_candidates, decoding, stop=None, seed=None):
    """Tokens and log-probabilities of static search, as lists without padding."""
    noise = None
    if seed is not None:
        noise = draw_noise(len(states), num_candidates, decoding.max_new_tokens, torch.Generator().manual_seed(seed))
    options = {"noise": noise, "stop": stop, "captures": False}
    with torch.no_grad():
        return static.search(model, states, num_candidates, decoding, store_of(model), **options)


def assert_same(found, expected, tolerance=1e-4):
    sequences, log_probs = found
    assert torch.equal(sequences, expected.sequences)
    torch.testing.assert_close(log_probs, expected.log_probs, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
def test_beam_search_finds_the_same(model, states, decoding):
    assert_same(searched(model, states, 4, decoding), decode(model, states, 4, decoding))


def test_greedy_search_finds_the_same(model, states):
    for max_new_tokens in (5, 40):
        decoding = Decoding(max_new_tokens, num_beams=1)
        assert_same(searched(model, states, 1, decoding), decode(model, states, 1, decoding))


@pytest.mark.parametrize("ends", [None, [1, 5], [1, 5, 20]])
def test_with_other_ends_the_same_is_found(model, states, ends):
    end_with(model, ends)
    decoding = Decoding(18, num_beams=5)
    assert_same(searched(model, states, 5, decoding), decode(model, states, 5, decoding))


def test_more_beams_than_sequences_give_as_many_as_exist(model, states):
    for decoding in (Decoding(1), Decoding(2)):
        found = searched(model, states[:2], 60, decoding)
        assert_same(found, decode(model, states[:2], 60, decoding))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, top_k=5), Sampling(1.3, top_p=0.8)])
def test_the_same_is_drawn(model, states, sampling):
    decoding = Decoding(13, sampling=sampling)
    expected = decode(model, states, 7, decoding, generator=torch.Generator().manual_seed(3))
    assert_same(searched(model, states, 7, decoding, seed=3), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sampling", [None, Sampling()], ids=["beams", "samples"])
def test_texts_end_the_same_candidates(states, seed, sampling):
    """Of the letters, most beams of some steps complete one of these: more continuations are considered then."""
    model = MODELS["decoder-only"](seed=seed)
    decoding = Decoding(14, sampling=sampling, stop=("b", "[/]", "c"))
    stop, tokenizer = StopStrings(decoding.stop, Letters()), Letters()
    generator = torch.Generator().manual_seed(3)
    expected = decode(model, states, 6, decoding, tokenizer=tokenizer, generator=generator)
    found = searched(model, states, 6, decoding, stop=stop, seed=None if sampling is None else 3)
    assert_same(found, expected)


@pytest.mark.parametrize("model_type", ["umt5", "mt5", "llama", "gpt_neox", "opt"])
def test_the_same_is_found_with_other_architectures(states, model_type):
    model = random_model(model_type)
    decoding = Decoding(37, num_beams=4)
    assert_same(searched(model, states, 4, decoding), decode(model, states, 4, decoding))


def test_windows_are_kept(states):
    sizes = {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1}
    model = random_model("qwen2", **sizes)
    decoding = Decoding(20, num_beams=4)
    assert_same(searched(model, states, 4, decoding), decode(model, states, 4, decoding))


def test_no_position_beyond_the_context_is_asked_for():
    """The last chunk goes on behind the last token."""
    model = random_model("gpt2", n_positions=20)
    states = [torch.arange(2, 12)]
    decoding = Decoding(11, num_beams=3)
    assert_same(searched(model, states, 3, decoding), decode(model, states, 3, decoding))


def test_a_search_leaves_nothing_for_the_next(model, states):
    """Buffers are used again, for fewer and shorter states."""
    decoding = Decoding(14, num_beams=6)
    searched(model, states[:4], 4, decoding)
    fewer = [ids[:2] for ids in states[:3]]
    assert_same(searched(model, fewer, 4, decoding), decode(model, fewer, 4, decoding))
    assert len(store_of(model).searches) == 1


def test_nan_of_one_search_does_not_reach_the_next(model, states):
    make_reading_nan(model, 7)
    clean = [ids.where(ids != 7, 8) for ids in states]
    decoding = Decoding(10, num_beams=3)
    bad = [*clean[:2], clean[2].clone(), *clean[3:]]
    bad[2][0] = 7
    with pytest.raises(NaNLogitsError) as raised:
        searched(model, bad, 3, decoding)
    assert (raised.value.state, raised.value.step) == (2, 1)
    assert_same(searched(model, clean, 3, decoding), decode(model, clean, 3, decoding))


def test_weights_that_were_trained_meanwhile_are_read(model, states):
    decoding = Decoding(10, num_beams=3)
    searched(model, states, 3, decoding)
    kept = list(store_of(model).searches.values())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.8)
    assert_same(searched(model, states, 3, decoding), decode(model, states, 3, decoding))
    assert list(store_of(model).searches.values()) == kept


def test_other_weights_begin_anew(model, states):
    decoding = Decoding(10, num_beams=3)
    searched(model, states, 3, decoding)
    [before] = store_of(model).searches.values()
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach() * 1.1)
    assert_same(searched(model, states, 3, decoding), decode(model, states, 3, decoding))
    assert list(store_of(model).searches.values()) != [before]


def test_a_model_is_copied_without_what_was_kept(model, states):
    searched(model, states, 3, Decoding(10))
    assert not store_of(copy.deepcopy(model)).searches and store_of(model).searches


@pytest.mark.parametrize("is_mixed", [False, True], ids=["weights", "autocast"])
def test_halves_find_the_same_as_without_buffers(model, states, is_mixed):
    decoding = Decoding(10, num_beams=3)
    model = model if is_mixed else model.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed, cache_enabled=False):
        (sequences, log_probs), expected = searched(model, states, 3, decoding), decode(model, states, 3, decoding)
    assert log_probs.dtype == torch.float32
    same = (sequences[..., : expected.sequences.shape[-1]] == expected.sequences).all(-1).float().mean()
    assert same > 0.5
    torch.testing.assert_close(log_probs[:, 0], expected.log_probs[:, 0], atol=0.5, rtol=0.05)


# graphs


@pytest.fixture
def gpu(monkeypatch):
    """Graphs pay, and are captured and replayed as they would be on a GPU. Counts captures."""
    counts = []

    def captured(parts, pool):
        counts.append(len(parts))
        return recorded_graphs.captured(parts, pool)

    monkeypatch.setattr(static, "pays", lambda model, decoding: store_of(model).failed is None)
    monkeypatch.setattr(programs, "captured", captured)
    monkeypatch.setattr(Search, "pool", "pool")
    return counts


@pytest.mark.parametrize("model_type", ["umt5", "mt5", "llama", "qwen2", "gpt_neox", "opt"])
def test_graphs_of_other_architectures_find_the_same(model_type, states, gpu):
    """Among them one that is captured late, near the last token."""
    model, decoding = random_model(model_type), Decoding(20, num_beams=4)
    expected = decode(model, states, 4, decoding, cuda_graphs=False)
    for _ in range(2):
        found = decode(model, states, 4, decoding)
        assert_same((found.sequences, found.log_probs), expected)
    assert gpu and store_of(model).failed is None


def test_what_is_written_by_a_warm_up_does_not_matter(model, states, gpu):
    for decoding in (Decoding(45, num_beams=6), Decoding(45, sampling=Sampling())):
        options = {"generator": torch.Generator().manual_seed(3)}
        found = decode(model, states, 4, decoding, **options)
        options["generator"].manual_seed(3)
        expected = decode(model, states, 4, decoding, **options, cuda_graphs=False)
        assert_same((found.sequences, found.log_probs), expected)
    assert gpu


def test_a_shape_is_captured_once(model, gpu):
    end_with(model, None)
    batch = ragged_batch()
    for _ in range(3):
        beam_search(model, *batch, **BEAMS)
    assert gpu == [1]
    beam_search(model, *batch, **BEAMS | {"num_beams": 5})
    assert gpu == [1, 1]


def test_without_graphs_the_same_is_found_and_it_is_said_once(model, gpu, monkeypatch, caplog):
    def refused(parts, pool):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(programs, "captured", refused)
    monkeypatch.setattr(memory, "_said", set())
    batch = ragged_batch()
    with caplog.at_level(logging.WARNING):
        found = [beam_search(model, *batch, **BEAMS) for _ in range(3)]
    assert_log_probs_of(model, batch, found[0])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and said[0].endswith("captured: operation not permitted when stream is capturing")
    assert not store_of(model).searches


def test_casts_are_made_once_for_all_steps_and_kept_for_the_next_call(model, states, gpu):
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        decode(model, states, 3, Decoding(10))
        casts = dict(store_of(model).casts)
        decode(model, states, 3, Decoding(10))
    assert casts and {id(copied) for _, copied in casts.values()} == {
        id(copied) for _, copied in store_of(model).casts.values()
    }
    assert gpu == [1], "graphs find the copies where they were"


def test_casts_do_not_grow_with_the_steps(model, states):
    """Nor with the searches: copies are kept, and written anew where they are."""
    counts = []
    for decoding in (Decoding(8), Decoding(9), Decoding(30)):
        end_with(model, None)
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False), torch.no_grad(), Casts(model) as casts:
            with weights_cast(model, store_of(model).casts):
                searched(model, states[:1], 2, decoding)
        counts.append(casts.count)
    assert counts[0] > counts[1] == counts[2]


def test_threads_search_one_after_another(model, states):
    """Buffers serve one search at a time."""
    decoding = Decoding(10, num_beams=3)
    expected = searched(model, states, 3, decoding)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: searched(model, states, 3, decoding), range(8)))
    assert all(torch.equal(one[0], expected[0]) for one in found)


def test_the_searches_used_longest_ago_go():
    class Held:
        num_bytes = 100

    store = Store(max_kept=3)
    for key in "abcab":
        store.get(key, Held)
    assert list(store.searches) == ["c", "a", "b"]
    store.get("d", Held)
    assert list(store.searches) == ["a", "b", "d"]
    store.max_bytes = 250
    store.get("d", Held)
    assert list(store.searches) == ["b", "d"]
    store.trim(room=51)
    assert list(store.searches) == ["d"]
    store.trim(room=1000)
    assert list(store.searches) == ["d"], "the latest stays"


def test_buckets_are_few_and_hold_what_is_asked():
    assert len({static.input_room(length) for length in range(1, 2301)}) < 13
    sizes = [bucket(size, 64, 4) for size in range(1, 2301)]
    assert all(found >= size for size, found in enumerate(sizes, 1)) and len(set(sizes)) < 25
    assert all(found <= max(64, 1.25 * size + 1) and found % 16 == 0 for size, found in enumerate(sizes, 1))
    assert [bucket(size, 1) for size in (1, 2, 3, 5, 64)] == [1, 2, 4, 8, 64]


def test_a_sampling_search_keeps_its_settings_apart(model, states):
    one, other = Decoding(9, sampling=Sampling(0.5)), Decoding(9, sampling=Sampling(1.5))
    found = [searched(model, states, 3, decoding, seed=1)[0] for decoding in (one, other, one)]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    seeded = replace(one, sampling=replace(one.sampling, seed=9))
    assert torch.equal(searched(model, states, 3, seeded, seed=1)[0], found[0])
    assert len(store_of(model).searches) == 2, "no step depends on the seed of the settings"
