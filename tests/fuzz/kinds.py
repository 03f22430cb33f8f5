"""Every kind of file that is read, and what reads it.

Each kind makes its files in a folder, says which of them are broken, and reads them; reading returns what was there and
what was read or said to be left out, as far as both can be counted apart from the program's own reader.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import shutil
import sys
import tarfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from common import load_tokenizer
from generator import load_generator, suggest
from generator.architectures.decoder_only import build_causal
from generator.architectures.encoder_decoder import build_seq2seq
from generator.data.download import ARCHIVE_NAME, download_leandojo_benchmark_4
from generator.data.instruct_records import InstructRecords
from generator.export import export
from generator.instruct_convert import to_instruct, to_leandojo
from generator.main import main
from generator.mix import mix
from generator.nearest.make import nearest
from generator.training.prediction_writer import read_predictions
from retrieval.bm25 import predict as predict_bm25
from retrieval.corpus import Corpus
from retrieval.embedding_index import EmbeddingIndex
from retrieval.encoder import build_encoder
from retrieval.evaluate import evaluate
from retrieval.fused import write_fused
from retrieval.leandojo.traces import TracedTactics
from retrieval.lexical import BM25Options
from retrieval.load import load_retriever
from retrieval.model import PremiseRetriever
from retrieval.neighbors import neighbors
from retrieval.ngram_index import NgramOptions
from retrieval.predictions.reader_writer import Predictions
from tests.fakes import TINY
from tests.fuzz.domain_files import (
    make_problems,
    make_published,
    make_result,
    read_domain_problems,
    read_published,
    read_result,
)
from tests.fuzz.search_files import make_lists, make_search_results, read_lists, read_search_results
from tests.generator.causal_fakes import GPT2
from tests.generator.nearest.lookup_fakes import write_library

WRITTEN = Path(__file__).parents[1] / "fixtures" / "written_before"
STATES = ["p q : Prop\nh : p ∧ q\n⊢ q ∧ p", "⊢ True"]
Counts = tuple[int, int] | None  # how many were there, and how many were read or said to be left out


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: for messages
        make: writes sound files into a new folder
        broken: pattern of the files that are broken
        read: reads them
        share: of all mutations
    """

    name: str
    make: Callable[[Path], object]
    broken: str
    read: Callable[[Path, random.Random], Counts]
    share: float = 1.0


def copied(*names: str) -> Callable[[Path], object]:
    """Files written by an earlier version, of which each stands for its kind."""

    def make(folder: Path) -> None:
        for name in names:
            source = WRITTEN / name
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True)
            else:
                shutil.copy(source, folder)

    return make


def lines_of(path: Path) -> int:
    return sum(1 for line in path.read_bytes().splitlines() if line.strip())


# ------------------------------------------------------------------------------------------------
# Data


def read_leandojo(folder: Path, rng: random.Random) -> Counts:
    traced = TracedTactics.load(folder / "train.json", progress=False)
    assert len([step.state for step in traced]) == len(traced) and traced.summary()
    if rng.random() < 0.5:
        to_instruct(folder / "train.json", folder / "out.jsonl", "llmstep", progress=False)
    theorems = json.loads((folder / "train.json").read_text(encoding="utf-8-sig"))
    given = sum(max(1, len(theorem["traced_tactics"])) for theorem in theorems)
    return given, len(traced) + sum(traced.left_out.values())


def read_corpus(folder: Path, rng: random.Random) -> Counts:
    path = folder / "corpus.jsonl"
    corpus = Corpus(path)
    assert len(list(corpus)) == len(corpus) and corpus.content_hash
    for name in list(corpus.paths)[-1:]:
        corpus.accessible_mask(name, (900, 1))
    records = [json.loads(line.decode()) for line in path.read_bytes().split(b"\n") if line.strip()]
    return sum(len(record["premises"]) for record in records), len(corpus) + corpus.num_dropped.total()


def make_instruct(folder: Path) -> None:
    to_instruct(WRITTEN / "eight" / "train.json", folder / "train.jsonl", "ntp-st", progress=False)


def make_first_stage(folder: Path) -> None:
    line = {
        "state": STATES[0],
        "nextTactic": "exact h",
        "srcUpToTactic": "import A\n",
        "declUpToTactic": "theorem t : p := by",
    }
    line |= {"declId": "A.t", "decl": "theorem t : p := by exact h"}
    (folder / "train.jsonl").write_text((json.dumps(line) + "\n") * 5)


def read_instruct(folder: Path, rng: random.Random) -> Counts:
    skip = rng.random() < 0.5
    path = folder / "train.jsonl"
    records = InstructRecords.load([path], skip_invalid=skip, progress=False)
    assert len([record.metadata for record in records]) == len(records) and records.summary()
    if rng.random() < 0.5:
        to_leandojo([path], folder / "out.json", skip_invalid=skip, progress=False)
    packed = path.read_bytes()[:2] == b"\x1f\x8b"
    return None if packed else (
        sum(1 for line in path.read_bytes().split(b"\n") if line.strip()), len(records) + sum(records.left_out.values())
    )  # fmt: skip


def read_candidates(folder: Path, rng: random.Random) -> Counts:
    found = list(read_predictions(folder))
    return json.loads((folder / "rank0.json").read_text())["num_predictions"], len(found)


def make_retrieved(folder: Path) -> None:
    copied("retrieved", "library")(folder)


def make_bm25(folder: Path) -> None:
    copied("library")(folder)
    with redirect_stdout(io.StringIO()):
        predict_bm25(folder / "splits", folder / "corpus.jsonl", folder, splits=("val", "test"), k=3)


def read_retrieved(folder: Path, rng: random.Random) -> Counts:
    corpus = Corpus(WRITTEN / "library" / "corpus.jsonl")
    read = Predictions.load(folder, corpus)
    assert len(read.premise_numbers) == len(read.scores) == len(read.contexts) == len(read)
    if rng.random() < 0.3:
        splits = folder / "splits"
        if not list(splits.glob("val.json")):
            splits = WRITTEN / "library" / "splits"
        evaluate(splits, WRITTEN / "library" / "corpus.jsonl", [folder], splits=["val"])
    parts = [json.loads(path.read_text()) for path in folder.glob("*-of-*.json")]
    return sum(part["num_contexts"] for part in parts), len(read)


def read_index(folder: Path, rng: random.Random) -> Counts:
    corpus = Corpus(WRITTEN / "library" / "corpus.jsonl")
    index = EmbeddingIndex.load(folder, corpus)
    index.search(index.vectors([0]), corpus.accessible_masks([("Main.lean", (95, 1))]), 3)
    return len(corpus), len(index)


def make_archive(folder: Path) -> None:
    with tarfile.open(folder / ARCHIVE_NAME, "w:gz") as tar:
        for split in ("random", "novel_premises"):
            tar.add(WRITTEN / "eight", f"leandojo_benchmark_4/{split}")
        tar.add(WRITTEN / "library" / "corpus.jsonl", "leandojo_benchmark_4/corpus.jsonl")


def read_archive(folder: Path, rng: random.Random) -> Counts:
    path = folder / ARCHIVE_NAME
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else "none"
    download_leandojo_benchmark_4(folder / "data", url="http://localhost:9/x", md5=digest, progress=False)
    assert not (folder.parent / "x").exists()
    return None


# ------------------------------------------------------------------------------------------------
# Models


def read_generator(folder: Path, rng: random.Random) -> Counts:
    path = next((folder / name for name in ("last.ckpt", "model.gguf") if (folder / name).exists()), folder)
    kind, options = rng.random(), {}
    if (folder / "plain").exists() and (folder / "causal").exists():
        options = {"template": rng.choice([None, "llmstep"])}
    if kind < 0.2:
        export(path, folder / "exported")
        return None
    generator = load_generator(path, **options)
    found = generator.batch_generate(STATES, ["A.lean"] * 2, ["t"] * 2, [(1, 1)] * 2, 2)
    return len(STATES), len(found)


def make_plain(name: str, *marks: str) -> Callable[[Path], object]:
    """A folder as transformers writes it, without what `export` adds."""

    def make(folder: Path) -> None:
        copied(name)(folder)
        (folder / "nextstep.json").unlink()
        for mark in ("plain", *marks):
            (folder / mark).touch()

    return make


def make_gguf(folder: Path) -> None:
    from tests.generator.gguf_fakes import write_gguf  # of an optional package

    write_gguf(folder / "model.gguf", "Q8_0")
    shutil.rmtree(folder / "bpe")


def lookup(num_ranked: int, num_composed: int = 0) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        ngrams, library = NgramOptions(max_share=1.0), write_library(folder / "library")
        with redirect_stdout(io.StringIO()):
            learnt = {"num_ranked": num_ranked, "num_composed": num_composed}
            nearest(library, folder / "lookup", ngrams=ngrams, num_held_out=4, **learnt)  # type: ignore[arg-type]
        shutil.rmtree(folder / "library")
        for path in (folder / "lookup").iterdir():
            path.rename(folder / path.name)
        (folder / "lookup").rmdir()

    return make


def make_mixture(folder: Path) -> None:
    copied("encoder_decoder/last.ckpt")(folder)
    with redirect_stdout(io.StringIO()):
        mix([str(folder / "last.ckpt"), "majority"], WRITTEN / "eight", folder / "mixture", weights=[0.5, 0.5])


def read_without_model(folder: Path, rng: random.Random) -> Counts:
    generator = load_generator(folder / "mixture" if (folder / "mixture").exists() else folder)
    found = generator.batch_generate(STATES, ["A.lean"] * 2, ["t"] * 2, [(1, 1)] * 2, 2)
    assert all(-math.inf < log_prob <= 0 for candidates in found for _, log_prob in candidates)
    return len(STATES), len(found)


def make_neighbors(folder: Path) -> None:
    with redirect_stdout(io.StringIO()):
        neighbors(WRITTEN / "library" / "splits", folder / "made", ("val", "test"), ngrams=NgramOptions(max_share=1.0))
    for path in (folder / "made").iterdir():
        path.rename(folder / path.name)
    (folder / "made").rmdir()


def make_fused(folder: Path) -> None:
    copied("retriever/last.ckpt")(folder)
    (folder / "last.ckpt").rename(folder / "part.ckpt")
    write_fused(folder / "fused", [BM25Options(), str(folder / "part.ckpt")], [1.0, 2.0], 1.0, 10, {})


def read_opened(folder: Path, rng: random.Random) -> Counts:
    retriever = load_retriever(folder / "fused" if (folder / "fused").exists() else folder)
    retriever.load_corpus(WRITTEN / "library" / "corpus.jsonl")
    premises, scores = retriever.batch_retrieve(STATES, ["Main.lean"] * 2, ["t"] * 2, [(95, 1)] * 2, 2)
    assert all(-math.inf < score < math.inf for row in scores for score in row)
    return len(STATES), len(premises)


def read_retriever(folder: Path, rng: random.Random) -> Counts:
    path = folder / "last.ckpt" if (folder / "last.ckpt").exists() else folder
    retriever = PremiseRetriever.load(path)
    retriever.load_corpus(WRITTEN / "library" / "corpus.jsonl")
    premises, _ = retriever.batch_retrieve(STATES, ["Main.lean"] * 2, ["t"] * 2, [(95, 1)] * 2, 2)
    return len(STATES), len(premises)


# ------------------------------------------------------------------------------------------------
# Configurations and states


def make_architecture(folder: Path) -> None:
    (folder / "encoder_decoder.yaml").write_text(yaml.safe_dump(TINY))
    (folder / "decoder_only.yaml").write_text(json.dumps(GPT2, indent=1))


def read_architecture(folder: Path, rng: random.Random) -> Counts:
    tokenizer = load_tokenizer(folder / "encoder_decoder.yaml")
    build_seq2seq(folder / "encoder_decoder.yaml")
    build_encoder(folder / "encoder_decoder.yaml")
    build_causal(folder / "decoder_only.yaml", tokenizer)
    load_tokenizer(folder / "decoder_only.yaml")
    return None


def make_run(folder: Path) -> None:
    copied("encoder_decoder/config.yaml" if folder.name[-1] in "02468" else "encoder_decoder/given.yaml")(folder)


def read_run(folder: Path, rng: random.Random) -> Counts:
    name = "config.yaml" if (folder / "config.yaml").exists() else "given.yaml"
    with redirect_stdout(io.StringIO()):
        main(["fit", "--config", str(folder / name), "--print_config"])
    return None


def make_states(folder: Path) -> None:
    lines = [
        {"state": state, "file_path": "A.lean", "theorem_full_name": "t", "theorem_pos": [1, 1]} for state in STATES * 3
    ]
    (folder / "states.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


class Loaded:
    """A generator that suggest is given, loaded once."""

    generator: Any = None

    @classmethod
    def get(cls, *args: Any, **options: Any) -> Any:
        cls.generator = cls.generator or load_generator(WRITTEN / "encoder_decoder" / "last.ckpt", cache_size=1000)
        return cls.generator


def read_states(folder: Path, rng: random.Random) -> Counts:
    path, is_text = folder / "states.jsonl", rng.random() < 0.3
    printed = io.StringIO()
    extra = [] if is_text else ["--format", "jsonl", "--batch_size", rng.choice("13")]
    stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes() if path.is_file() else b""), encoding="utf-8")
    with mock.patch.object(suggest, "load_generator", Loaded.get), redirect_stdout(printed):
        with mock.patch.object(sys, "stdin", stdin):
            suggest.main(["--ckpt_path", "m", "--num_samples", "2", *extra])
    if is_text:
        assert printed.getvalue().replace("\n", "").replace("\t", "").isprintable() or "\u200b" in printed.getvalue()
        return None
    return lines_of(path) if path.is_file() else 0, len(printed.getvalue().splitlines())


KINDS = [
    Kind("train.json", copied("eight"), "train.json", read_leandojo),
    Kind("corpus.jsonl", copied("library"), "corpus.jsonl", read_corpus),
    Kind("instruct JSONL", make_instruct, "train.jsonl", read_instruct),
    Kind("first-stage JSONL", make_first_stage, "train.jsonl", read_instruct),
    Kind("candidates", copied("candidates"), "rank0.json*", read_candidates),
    Kind("retrieved premises", make_retrieved, "*-of-*", read_retrieved),
    Kind("BM25 folder", make_bm25, "*-of-*", read_retrieved),
    Kind("index", copied("index"), "*", read_index),
    Kind("problems of a domain", make_problems, "*.json*", read_domain_problems),
    Kind("published problems", make_published, "prim.data", read_published),
    Kind("result of a domain", make_result, "*.json", read_result),
    Kind("archive", make_archive, ARCHIVE_NAME, read_archive),
    Kind(
        "checkpoint, encoder-decoder",
        copied("encoder_decoder/last.ckpt"),
        "last.ckpt",
        read_generator,
    ),
    Kind("checkpoint, decoder-only", copied("decoder_only/last.ckpt"), "last.ckpt", read_generator),
    Kind("checkpoint, retriever", copied("retriever/last.ckpt"), "last.ckpt", read_retriever),
    Kind("folder, encoder-decoder", make_plain("exported_encoder_decoder"), "*.[js]*", read_generator),
    Kind("folder, decoder-only", make_plain("exported_decoder_only", "causal"), "*.[js]*", read_generator),
    Kind("lookup", lookup(num_ranked=0), "*", read_without_model),
    Kind("ranked lookup", lookup(num_ranked=8), "*", read_without_model),
    Kind("composed lookup", lookup(num_ranked=8, num_composed=8), "*", read_without_model),
    Kind("mixture", make_mixture, "mixture/nextstep.json", read_without_model),
    Kind("neighbours", make_neighbors, "*", read_opened),
    *([Kind("fused retriever", make_fused, "fused/nextstep.json", read_opened)] if find_spec("bm25s") else []),
    Kind("folder, retriever", make_plain("exported_encoder_decoder"), "*.[js]*", read_retriever),
    Kind("export", copied("exported_decoder_only"), "nextstep.json", read_generator),
    Kind("architecture file", make_architecture, "*.yaml", read_architecture),
    *([Kind("gguf file", make_gguf, "model.gguf", read_generator)] if find_spec("gguf") else []),
    Kind("run configuration", make_run, "*.yaml", read_run, share=0.3),
    Kind("states", make_states, "states.jsonl", read_states),
    Kind("search results", make_search_results, "results.jsonl", read_search_results),
    Kind("theorems, tactics, script", make_lists, "[nst]*", read_lists),
]
