"""Who proposes the tactics: a trained generator, or one of the baselines that know no model."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from common import Candidate, ConfigError, Context, DataError, remove_marks
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import FixedTacticGenerator
from retrieval.leandojo.traces import TracedTactics

_BLOCK = 1 << 20  # bytes
_MAX_MAJORITY = 10_000  # tactics: search asks for fewer


@dataclass(frozen=True)
class GeneratorOptions:
    """Who proposes the tactics.

    Attributes:
        ckpt_path: a trained generator: a Lightning checkpoint, a Hugging Face folder, a .gguf file, or a hub id
        tactics: a baseline instead: tactics between commas; a file with one a line, or log-probability, tab and tactic;
            majority: the most frequent tactics of train_path; uniform: tactics drawn from those of train_path, each
            equally often, by seed and state
        train_path: train.json of majority and uniform; by default that beside data_path
        device: auto, cpu, or cuda
        dtype: of the weights
        engine: what writes the tactics: native, transformers, ctranslate2 or vllm
        ret_ckpt_path: premise retriever: a checkpoint, an encoder's folder or hub id, a folder of retrieval.fuse or
            retrieval.neighbors, or bm25
        corpus_path: corpus.jsonl that it retrieves from
        index_path: embeddings of the corpus, from python -m retrieval.index
        sources_path: folder in which the files of theorems lie, for prompts that tell what stands before the theorem
        allow_sorry: whether tactics with sorry or admit are tried
        generator_options: other options of the generator, such as length_penalty or template
    """

    ckpt_path: str | None = None
    tactics: str | None = None
    train_path: Path | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    engine: str = "native"
    ret_ckpt_path: str | None = None
    corpus_path: str | None = None
    index_path: str | None = None
    sources_path: str | None = None
    allow_sorry: bool = False
    generator_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ckpt_path is not None and self.tactics is not None:
            raise ConfigError("ckpt_path and tactics both say who proposes the tactics; give one of them")


def make_generator(options: GeneratorOptions, data_path: Path | None, seed: int) -> TacticGenerator:
    """Return the generator.

    Args:
        options: which
        data_path: of the theorems; train_path is looked for beside it
        seed: of "uniform"

    Raises:
        ConfigError: if the options name none
        DataError: if a file is missing or broken
    """
    if options.tactics is not None:
        return _baseline(options.tactics, options.train_path, data_path, seed)
    if options.ckpt_path is None:
        raise ConfigError("nobody proposes tactics; give ckpt_path (a trained generator), or tactics")
    from generator.load import load_generator  # which imports Lightning, and takes seconds

    return load_generator(
        options.ckpt_path,
        device=options.device,
        dtype=options.dtype,
        engine=options.engine,
        ret_ckpt_path=options.ret_ckpt_path,
        corpus_path=options.corpus_path,
        index_path=options.index_path,
        sources_path=options.sources_path,
        allow_sorry=options.allow_sorry,
        **options.generator_options,
    )


def identity(options: GeneratorOptions, data_path: Path | None) -> dict[str, Any]:
    """Return what tells one generator from another: its options, and hashes of the files that it is made of."""
    found: dict[str, Any] = {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if each.name not in ("device", "train_path") and getattr(options, each.name) != _default_of(each)
    }
    if options.tactics in ("majority", "uniform"):
        found["train_path"] = _train_file(options.train_path, data_path)
    elif options.tactics is not None and _is_file(options.tactics):
        found["tactics_hash"] = _hash_of(Path(options.tactics))
    for name in ("ckpt_path", "ret_ckpt_path", "train_path", "corpus_path"):
        path = Path(str(found.get(name, "")))
        if found.get(name) is not None and path.exists():
            found[f"{name}_hash"] = _hash_of(path)
    return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}


def _default_of(option: Any) -> Any:
    return {} if option.name == "generator_options" else option.default


def _hash_of(path: Path) -> str:
    """A hash of a file, or of the files of a folder that say what a model is, its parts too; about 1 s a GB."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
    if any(each.name == "nextstep.json" for each in files):
        from generator.interface.mixture_files import local_parts  # which imports Lightning, and takes seconds
        from generator.nearest.lemmas import local_parts as parts_of_lookup
        from retrieval.fused import local_parts as parts_of_retriever

        parts = [*local_parts(path), *parts_of_lookup(path), *parts_of_retriever(path)]
        digest.update("".join(map(_hash_of, parts)).encode())
    for each in files:
        digest.update(each.name.encode())
        with open(each, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------------------------
# Baselines


class UniformGenerator(TacticGenerator):
    """Proposes tactics drawn from a list, each equally often: the floor that a model has to beat."""

    reads_theorem = False

    def __init__(self, tactics: Sequence[str], seed: int = 0) -> None:
        """Keep the tactics.

        Args:
            tactics: to draw from
            seed: the same seed and state give the same tactics
        """
        self._tactics, self._seed = tuple(tactics), seed

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`."""
        return [self._draw(context.state, num_candidates) for context in contexts]

    def _draw(self, state: str, num_candidates: int) -> list[Candidate]:
        rng = random.Random(f"{self._seed} {state}")
        number = min(num_candidates, len(self._tactics))
        log_prob = -math.log(max(len(self._tactics), 1))
        return [(tactic, log_prob) for tactic in rng.sample(self._tactics, number)]


def _baseline(tactics: str, train_path: Path | None, data_path: Path | None, seed: int) -> TacticGenerator:
    if tactics in ("majority", "uniform"):
        counts = count_tactics(_train_file(train_path, data_path))
        if tactics == "uniform":
            return UniformGenerator(sorted(counts), seed)
        total = counts.total()
        common = counts.most_common(_MAX_MAJORITY)
        return FixedTacticGenerator([(tactic, math.log(count / total)) for tactic, count in common])
    if _is_file(tactics):
        return FixedTacticGenerator(list(read_tactics(Path(tactics))))
    if tactics.endswith(".txt"):
        raise DataError(f"tactics is {tactics!r}, and there is no such file")
    given = [tactic.strip() for tactic in _between_commas(tactics)]
    given = [tactic for tactic in given if tactic]
    if not given:
        raise ConfigError("tactics is empty; give tactics between commas, a file, majority or uniform")
    return FixedTacticGenerator(given)


@cache
def _train_file(train_path: Path | None, data_path: Path | None) -> Path:
    if train_path is not None:
        if not train_path.is_file():
            raise DataError(f"{train_path}: there is no such file; give train.json as train_path")
        return train_path
    beside = None if data_path is None else (data_path if data_path.is_dir() else data_path.parent) / "train.json"
    if beside is None or not beside.is_file():
        raise ConfigError("majority and uniform need a training split; give its train.json as train_path")
    return beside


def count_tactics(path: Path) -> Counter[str]:
    """Return how often each tactic stands in a split, as written.

    Raises:
        DataError: if the file is broken or has no tactics
    """
    traced = TracedTactics.load(path, progress=False)
    counts = Counter(remove_marks(traced[i].tactic) for i in range(len(traced)))
    if not counts:
        raise DataError(f"{path}: has no tactics to propose")
    return counts


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return False


def read_tactics(path: Path) -> Iterator[str | Candidate]:
    """Yield the tactics of a file; with log-probabilities where the lines have them.

    Raises:
        DataError: if it is missing, empty, no text, or has log-probabilities in some lines only
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file with a tactic in each line") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text ({error.reason}); give a tactic in each line") from error
    pairs = [line.partition("\t") for line in lines]
    if not lines:
        raise DataError(f"{path}: is empty; give a tactic in each line")
    are_scored = [bool(re.fullmatch(r"-?[\d.]+(?:e[-+]?\d+)?", first)) and bool(tab) for first, tab, _ in pairs]
    if any(are_scored) and not all(are_scored):
        number = are_scored.index(False) + 1
        raise DataError(f"{path}:{number}: has no log-probability and tab before the tactic, as other lines have")
    for line, (first, _, rest), is_scored in zip(lines, pairs, are_scored, strict=True):
        yield (rest.strip(), float(first)) if is_scored else line.strip()


def _between_commas(text: str) -> Iterator[str]:
    """Split at commas that stand in no brackets."""
    depth, start = 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{⟨") - (character in ")]}⟩")
        if character == "," and depth <= 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]
