"""Batches of similar length, the same for any number of workers, and loaders that go on."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common import ConfigError
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.resumable_loader import ResumableDataLoader


def lengths(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    targets = np.minimum(rng.lognormal(3.2, 0.7, n), 300).astype(int) + 1
    return np.minimum(rng.lognormal(5.5, 1.3, n), 2300).astype(int) + 1, targets


LIMITS = st.sampled_from(
    [{"batch_size": 1}, {"batch_size": 7}, {"max_tokens": 5000}, {"batch_size": 4, "max_tokens": 6000}]
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), LIMITS, st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_every_example_once_and_no_batch_over_its_limits(n, limits, num_replicas, epoch, shuffle):
    n = 0 if n < num_replicas else n
    sources, targets = lengths(n)
    sampled = []
    for rank in range(num_replicas):
        sampler = LengthGroupedBatchSampler(
            sources, targets, **limits, shuffle=shuffle, seed=5, num_replicas=num_replicas, rank=rank
        )
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        sampled.append(batches)
        for batch in batches:
            rows = [index for _, index in batch]
            assert batch and all(e == epoch for e, _ in batch)
            most = limits.get("batch_size", n)
            assert len(rows) <= most + (most == 1 and num_replicas > 1)
            assert len(rows) * (sources[rows].max() + targets[rows].max()) <= limits.get("max_tokens", 10**9)
    assert len({len(batches) for batches in sampled}) == 1
    seen = sorted(index for batches in sampled for batch in batches for _, index in batch)
    assert seen == list(range(n))


def test_batches_follow_from_seed_and_epoch_alone():
    sources, targets = lengths(500)

    def batches(seed, epoch, shuffle=True):
        sampler = LengthGroupedBatchSampler(sources, targets, batch_size=8, seed=seed, shuffle=shuffle)
        sampler.set_epoch(epoch)
        return [[index for _, index in batch] for batch in sampler]

    assert batches(1, 2) == batches(1, 2)
    assert batches(1, 2) != batches(1, 3) != batches(2, 3)
    assert batches(1, 0, shuffle=False) == batches(1, 7, shuffle=False)
    in_common = {frozenset(b) for b in batches(1, 2)} & {frozenset(b) for b in batches(1, 3)}
    assert len(in_common) < 10  # batches are made anew, not only put in another order


def test_padding_stays_small():
    sources, targets = lengths(20_000)
    sampler = LengthGroupedBatchSampler(sources, targets, max_tokens=16_384)
    rows = [[index for _, index in batch] for batch in sampler]
    padded = sum(len(r) * (sources[r].max() + targets[r].max()) for r in rows)
    assert 1 - (sources.sum() + targets.sum()) / padded < 0.10
    assert sampler.padding_share == pytest.approx(1 - (sources.sum() + targets.sum()) / padded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_tokens": -3}, "max_tokens_per_batch is -3"),
        ({}, "give batch_size, max_tokens_per_batch"),
        ({"max_tokens": 100}, "one example takes 60[0-9] tokens"),
        ({"batch_size": 1, "num_replicas": 3}, "2 examples cannot be shared by 3 ranks"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        LengthGroupedBatchSampler([600, 50], [5, 5], **options)


class Keys(torch.utils.data.Dataset):
    def __getitem__(self, keys):
        return keys


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_behind_what_was_handed_out(num_workers):
    sources, targets = lengths(60)

    def loader():
        sampler = LengthGroupedBatchSampler(sources, targets, batch_size=4, seed=1)
        sampler.set_epoch(3)
        return ResumableDataLoader(
            Keys(), batch_size=None, sampler=sampler, num_workers=num_workers, collate_fn=lambda keys: keys
        )

    whole = list(loader())
    first = loader()
    iterator = iter(first)
    seen = [next(iterator) for _ in range(5)]
    state = json.loads(json.dumps(first.state_dict()))
    del iterator
    second = loader()
    second.load_state_dict(state)
    assert seen + list(second) == whole
    assert list(second) == whole, "only the first iteration after loading is shortened"
    third = loader()
    third.load_state_dict(second.state_dict())
    assert list(third) == whole, "a finished epoch does not shorten the next"
    second.sampler.set_epoch(4)
    second.load_state_dict(state)
    assert len(list(second)) == len(whole), "a place in one epoch is none in another"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.sampled_from([{}, {"batch_size": 6}]), st.integers(1, 3), st.integers(0, 3))
def test_without_padding_a_batch_holds_what_its_examples_do(n, limits, num_replicas, epoch):
    n = 0 if n < num_replicas else n
    sources, targets = lengths(n)
    options = {"max_tokens": 5000, "padded": False, "seed": 5, "num_replicas": num_replicas, **limits}
    batches = LengthGroupedBatchSampler(sources, targets, **options).batches(epoch)
    assert sorted(index for rows in batches for index in rows) == list(range(n))
    assert all((sources + targets)[rows].sum() <= 5000 and len(rows) <= limits.get("batch_size", n) for rows in batches)


def test_without_padding_batches_are_full_and_mix_all_lengths():
    sources, targets = lengths(4000)
    sampler = LengthGroupedBatchSampler(sources, targets, max_tokens=20_000, padded=False)
    batches = sampler.batches(0)
    assert np.mean([(sources + targets)[rows].sum() for rows in batches]) > 0.9 * 20_000
    assert np.mean([sources[rows].max() for rows in batches]) > 1500  # each has a long one
    assert sampler.padding_share == 0
    assert sampler.with_settings(sampler.settings).batches(1)[3].tolist() == sampler.batches(1)[3].tolist()


def test_an_epoch_that_was_begun_with_padding_goes_on_without():
    dataset = [(i,) for i in range(200)]
    sources, targets = lengths(200)

    def loader(padded):
        sampler = LengthGroupedBatchSampler(sources, targets, max_tokens=5000, padded=padded)
        return ResumableDataLoader(dataset, batch_size=None, sampler=sampler, collate_fn=lambda rows: rows)

    class Keyed(list):
        def __getitem__(self, keys):
            return [index for _, index in keys]

    dataset = Keyed(dataset)
    for state_has_settings in (True, False):
        old = loader(True)
        seen = [index for batch, _ in zip(iter(old), range(4), strict=False) for index in batch]
        state = old.state_at(4)
        if not state_has_settings:  # of a version that knew no other batches
            del state["settings"]["padded"]
        new = loader(False)
        new.load_state_dict(state)
        assert sorted(seen + [index for batch in new for index in batch]) == list(range(200))
