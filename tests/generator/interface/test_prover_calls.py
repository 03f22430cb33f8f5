"""What provers of others call, and how: written after the call sites of LeanDojo-v2 and ReProver.

LeanDojo-v2's RetrievalProver asks `tactic_generator.retriever`, gives it a corpus where there is one, switches to
evaluation and draws one of ten tactics. ReProver's prover of 2024 calls `initialize` without awaiting it, keeps the
generator in an actor (which pickles it), and runs each search in an event loop of its own.
"""

import asyncio
import pickle
import random
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from common import ConfigError, DataError, Pos
from generator import CachingGenerator, FixedTacticGenerator, RetryingGenerator, without_placeholders
from generator.interface.tactic_generator import TacticGenerator
from generator.model import RetrievalAugmentedGenerator
from retrieval.model import PremiseRetriever
from tests.fakes import TINY, save_checkpoint
from tests.retrieval.fakes import ENCODER, write_library

WRAPPERS = {
    "itself": lambda generator: generator,
    "caching": CachingGenerator,
    "retrying": RetryingGenerator,
    "without placeholders": without_placeholders,
    "all of them": lambda generator: CachingGenerator(RetryingGenerator(without_placeholders(generator))),
}


@pytest.fixture(params=WRAPPERS)
def wrap(request):
    """Each way of putting a generator into others."""
    return WRAPPERS[request.param]


class Own(TacticGenerator):
    """A user's generator, which says nothing of a retriever."""

    def __init__(self):
        self.contexts, self.num_loads = [], 0

    def initialize(self):
        self.num_loads += 1

    def propose(self, contexts, num_candidates):
        self.contexts += contexts
        return [[("simp", -0.5), ("ring", -1.0)][:num_candidates] for _ in contexts]


class OwnWithRetriever(Own):
    def __init__(self):
        super().__init__()
        self.retriever = "mine"


class OwnModule(torch.nn.Module, Own):
    """As ReProver's generator of 2023: a module whose retriever is a module in it."""

    def __init__(self, retriever):
        torch.nn.Module.__init__(self)
        Own.__init__(self)
        self.retriever = retriever


class OwnModuleOtherWay(Own, torch.nn.Module):
    def __init__(self, retriever):
        torch.nn.Module.__init__(self)
        Own.__init__(self)
        self.retriever = retriever


# ------------------------------------------------------------------------------------------- retriever


@pytest.mark.parametrize("kind", [Own, lambda: FixedTacticGenerator("simp"), lambda: OwnModule(None)])
def test_a_generator_without_a_retriever_says_so(kind, wrap):
    generator = wrap(kind())
    assert generator.retriever is None and generator.as_async().retriever is None


def test_a_generators_own_retriever_is_seen_through_every_wrapper(wrap):
    layer = torch.nn.Linear(1, 1)
    for kind, expected in ((OwnWithRetriever, "mine"), (lambda: OwnModule(layer), layer)):
        generator = wrap(kind())
        assert generator.retriever is expected and generator.as_async().retriever is expected
    assert OwnModuleOtherWay(layer).retriever is layer and list(OwnModuleOtherWay(layer).parameters())


def test_provers_may_switch_to_evaluation(wrap):
    module = OwnModuleOtherWay(torch.nn.Dropout())
    generator = wrap(module)
    assert generator.eval() is generator and not module.training and not module.retriever.training
    assert FixedTacticGenerator("simp").eval().as_async().eval()
    model = RetrievalAugmentedGenerator(TINY)
    assert model.training and model.eval() is model and not model.training and not model.generator.training


class RetrievalProver:
    """LeanDojo-v2's: takes what its generator finds for one goal, and draws one of ten by probability."""

    def __init__(self, tactic_generator, indexed_corpus_path):
        self.tactic_generator = tactic_generator
        if self.tactic_generator.retriever is not None:
            self.tactic_generator.retriever.load_corpus(indexed_corpus_path)
            self.tactic_generator.retriever.reindex_corpus(batch_size=32)
        self.tactic_generator.eval()

    def next_tactic(self, state, goal_id):
        if getattr(self, "theorem", None) is None:
            return None
        found = self.tactic_generator.generate(
            state=str(state),
            file_path=str(self.theorem.file_path),
            theorem_full_name=self.theorem.full_name,
            theorem_pos=self.theorem.start,
            num_samples=10,
        )
        tactics, log_probs = zip(*found, strict=True)
        return random.Random(0).choices(tactics, weights=torch.tensor(log_probs).exp().tolist(), k=1)[0]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A corpus, another one, and a retriever's checkpoint."""
    folder = tmp_path_factory.mktemp("library")
    write_library(folder)
    lines = (folder / "corpus.jsonl").read_text().splitlines(keepends=True)
    (folder / "other.jsonl").write_text("".join([*lines[:2], lines[2].replace("late", "other")]))
    torch.manual_seed(0)
    checkpoint = save_checkpoint(PremiseRetriever(model_name=ENCODER, max_seq_len=64), folder / "retriever.ckpt")
    return SimpleNamespace(corpus=folder / "corpus.jsonl", other=folder / "other.jsonl", checkpoint=checkpoint)


def retrieving(library, **options):
    paths = {"ret_ckpt_path": str(library.checkpoint), "corpus_path": str(library.corpus)}
    torch.manual_seed(0)
    return RetrievalAugmentedGenerator(TINY, max_inp_seq_len=800, max_oup_seq_len=8, **paths, **options).eval()


def test_leandojo_v2s_prover_gives_the_retriever_its_corpus(library, wrap, monkeypatch):
    model = retrieving(library)
    embedded = []
    monkeypatch.setattr(
        PremiseRetriever, "_reindex", spy(embedded, PremiseRetriever._reindex), raising=True
    )  # what takes minutes on a real corpus
    prover = RetrievalProver(wrap(model), str(library.other))
    assert embedded == [32], "embedded once, and not first for the corpus that is replaced"
    read = []
    monkeypatch.setattr(
        model.engine, "propose", lambda inputs, n, decoding: read.extend(inputs) or [[("simp", -1.0)] for _ in inputs]
    )
    prover.theorem = SimpleNamespace(file_path=Path("Main.lean"), full_name="Main.thm", start=Pos(950, 1))
    assert prover.next_tactic("⊢ p", 0) == "simp"
    assert "Main.other" in read[0] and "Main.late" not in read[0]
    assert len(embedded) == 1


def spy(calls, method):
    def noted(self, batch_size, *rest):
        calls.append(batch_size)
        return method(self, batch_size, *rest)

    return noted


def test_leandojo_v2s_prover_runs_without_a_retriever(wrap):
    prover = RetrievalProver(wrap(FixedTacticGenerator(["simp"])), "corpus.jsonl")
    prover.theorem = SimpleNamespace(file_path="A.lean", full_name="t", start=None)  # its database knows no position
    assert prover.next_tactic("⊢ p", 0) == "simp"


# ------------------------------------------------------------------------------------------- positions


@pytest.mark.parametrize("position", [None, (0, 0), [0, 0], SimpleNamespace(line_nb=0, column_nb=0)])
def test_a_position_that_tells_nothing_matters_only_to_a_retriever(position, wrap, library):
    own = Own()
    assert wrap(own).generate("s", "f", "t", position, 1) == [("simp", -0.5)]
    assert own.contexts[0].theorem_pos is None
    torch.manual_seed(0)
    model = RetrievalAugmentedGenerator(TINY, max_oup_seq_len=4)
    assert wrap(model.eval()).generate("s", "f", "t", position, 2) is not None
    with pytest.raises(DataError, match=r"^theorem_pos of Main\.thm is not given .*; give line and column") as refused:
        wrap(retrieving(library)).generate("s", "Main.lean", "Main.thm", position, 1)
    assert "\n" not in str(refused.value)


def test_half_a_position_is_none():
    for position in ((0, 1), (1, 0), (-1, -1), "(0, 0", 0, (3, True), b"ab", (2**31, 1), f"({'9' * 5000}, 1)"):
        with pytest.raises(DataError, match="position"):
            Own().generate("s", "f", "t", position, 1)


# ------------------------------------------------------------------------------------------- keywords


def test_many_states_go_by_the_singular_names_too(wrap):
    own = Own()
    lists = {"state": ["a", "b"], "file_path": ["f"] * 2, "theorem_full_name": ["t"] * 2, "theorem_pos": [(1, 1)] * 2}
    by_singular = wrap(own).batch_generate(**lists, num_samples=1)
    assert by_singular == [[("simp", -0.5)]] * 2
    plural = dict(zip(("states", "file_paths", "theorem_full_names", "theorem_positions"), lists.values(), strict=True))
    assert wrap(own).batch_generate(**plural, num_samples=1) == by_singular
    assert wrap(own).batch_generate(*lists.values(), 1) == by_singular
    assert asyncio.run(wrap(own).as_async().batch_generate(**lists, num_samples=1)) == by_singular


def test_lists_that_are_missing_or_given_twice_are_told():
    lists = {"file_path": ["f"], "theorem_full_name": ["t"], "theorem_pos": [(1, 1)]}
    with pytest.raises(ConfigError, match=r"batch_generate needs states or state$"):
        Own().batch_generate(**lists, num_samples=1)
    with pytest.raises(ConfigError, match="needs states or state, and not both"):
        Own().batch_generate(["a"], state=["a"], **lists, num_samples=1)
    with pytest.raises(ConfigError, match="needs num_samples"):
        Own().batch_generate(state=["a"], **lists)


# ----------------------------------------------------------------------------------------------- async


class BestFirstSearchProver:
    """ReProver's: loads in its constructor, without awaiting, and searches in a loop of its own."""

    def __init__(self, tac_gen):
        self.tac_gen = tac_gen
        self.tac_gen.initialize()

    def search(self, states):
        return asyncio.run(self._search(states))

    async def _search(self, states):
        asked = [
            self.tac_gen.generate(
                state=state, file_path=Path("A.lean"), theorem_full_name="t", theorem_pos=Pos(1, 1), num_samples=2
            )
            for state in states
        ]
        return await asyncio.gather(*asked)


def test_reprovers_prover_loads_without_awaiting_and_searches_in_many_loops(wrap):
    own = Own()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "coroutine was never awaited"
        prover = BestFirstSearchProver(wrap(own).as_async())
        assert own.num_loads == 1, "it has loaded when the call returns"
        for _ in range(3):
            assert prover.search("abc") == [[("simp", -0.5), ("ring", -1.0)]] * 3


def test_loading_may_be_awaited_and_fails_where_it_is_called():
    own = Own()

    async def load():
        await own.as_async().initialize()

    asyncio.run(load())
    assert own.num_loads == 1
    own.initialize = lambda: (_ for _ in ()).throw(DataError("broken"))
    with pytest.raises(DataError, match="broken"):
        own.as_async().initialize()


def test_an_actor_gets_the_view_pickled(wrap):
    view = pickle.loads(pickle.dumps(RetryingGenerator(FixedTacticGenerator("simp")).as_async()))
    assert BestFirstSearchProver(view).search("a") == [[("simp", 0.0)]]


def test_one_call_runs_at_a_time_even_after_a_search_was_cancelled():
    running, most, release = [], [], threading.Event()

    class Slow(Own):
        def propose(self, contexts, num_candidates):
            running.append(1)
            most.append(len(running))
            release.wait(10)
            running.pop()
            return super().propose(contexts, num_candidates)

    async def prove():
        view = Slow().as_async()
        cancelled = asyncio.ensure_future(view.generate("a", "f", "t", None, 1))
        while not running:
            await asyncio.sleep(0.001)
        cancelled.cancel()
        others = [asyncio.ensure_future(view.generate(state, "f", "t", None, 1)) for state in "bc"]
        await asyncio.sleep(0.05)
        release.set()
        return await asyncio.gather(*others)

    assert asyncio.run(prove()) == [[("simp", -0.5)]] * 2
    assert max(most) == 1
