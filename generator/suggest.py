"""Suggestions for a state on the command line: `python -m generator.suggest --ckpt_path ... < state.txt`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TextIO

from common import Context, DataError, check_positive
from generator.interface.tactic_generator import TacticGenerator
from generator.load import Dtype, load_generator
from generator.training.texts import candidate_row
from retrieval.contexts import theorem_pos as position_of
from retrieval.training import remarks
from retrieval.training.commands import parse_arguments, run


def suggest(
    ckpt_path: str,
    state: str | None = None,
    num_samples: int = 8,
    format: Literal["text", "jsonl"] = "text",
    file_path: str = "",
    theorem_full_name: str = "",
    theorem_pos: tuple[int, int] | None = (1, 1),
    batch_size: int = 1,
    device: str = "auto",
    dtype: Dtype = "float32",
    engine: str = "native",
    template: str | None = None,
    ret_ckpt_path: str | None = None,
    corpus_path: str | None = None,
    index_path: str | None = None,
    sources_path: str | None = None,
    allow_sorry: bool = True,
) -> None:
    """Print the tactics that a generator suggests for a state, with log-probabilities, best first.

    Args:
        ckpt_path: a Lightning checkpoint, a Hugging Face folder, or a hub id
        state: the state, as the prover prints it; read from standard input if not given
        num_samples: suggestions for a state; there may be fewer
        format: text: one state, read to the end of the input. jsonl: each line of the input is an object with
            `state`, and perhaps file_path, theorem_full_name and theorem_pos, and is answered by itself with
            `candidates` added
        file_path: file of the theorem; like its name and position, it matters where premises are
            retrieved or prompts tell of it
        theorem_full_name: name of the theorem
        theorem_pos: line and column of the theorem, both from 1; null where nothing depends on it
        batch_size: lines that are answered together; 1 answers each at once, more is faster on a file
        device: auto, cpu, or cuda
        dtype: of the weights
        engine: what writes the tactics: native, transformers, ctranslate2 or vllm
        template: how a decoder-only model is prompted, see generator.prompts, where neither its checkpoint nor its
            folder says
        ret_ckpt_path: premise retriever: a checkpoint, an encoder's folder or hub id, a folder of retrieval.fuse or
            retrieval.neighbors, or bm25
        corpus_path: corpus.jsonl that it retrieves from
        index_path: embeddings of the corpus, from python -m retrieval.index
        sources_path: folder in which file_path lies, for prompts that tell what stands before the theorem
        allow_sorry: whether tactics with sorry or admit are shown
    """
    check_positive(num_samples=num_samples, batch_size=batch_size)
    defaults = {
        "file_path": file_path,
        "theorem_full_name": theorem_full_name,
        "theorem_pos": theorem_pos,
    }
    # encoder-decoders have no such option
    only_given: dict[str, Any] = {} if template is None else {"template": template}
    generator = load_generator(
        ckpt_path,
        device=device,
        dtype=dtype,
        engine=engine,
        ret_ckpt_path=ret_ckpt_path,
        corpus_path=corpus_path,
        index_path=index_path,
        sources_path=sources_path,
        allow_sorry=allow_sorry,
        **only_given,
    )
    if state is not None or format == "text":
        records: Iterable[dict[str, Any]] = [{"state": _read(sys.stdin) if state is None else state.strip("\n")}]
    else:
        records = read_records(sys.stdin)
    for answered in answer(generator, records, defaults, num_samples, batch_size):
        print(json.dumps(answered, ensure_ascii=False) if format == "jsonl" else _as_text(answered), flush=True)


def _read(stream: TextIO) -> str:
    if stream.isatty():
        print("the state, then Ctrl-D on a line of its own:", file=sys.stderr)
    return "".join(_lines(stream)).strip("\n")


def _lines(stream: Iterable[str]) -> Iterator[str]:
    """The lines of a text; DataError where it is none."""
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is no UTF-8 ({error.reason}); give the state as UTF-8") from error


def read_records(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines; blank lines are skipped.

    Raises:
        DataError: naming the line that is no object with a text `state`, or has a position that is none
    """
    for number, line in enumerate(_lines(lines), start=1):
        if not line.strip():
            continue
        where = f"standard input:{number}"
        try:
            record = json.loads(line)
        except (RecursionError, ValueError) as error:
            raise DataError(f"{where}: is no JSON ({error}); give one object a line") from error
        if not isinstance(record, dict) or not isinstance(record.get("state"), str):
            raise DataError(f'{where}: give an object with the state as text, such as {{"state": "p : Prop\\n⊢ p"}}')
        try:
            _context({"file_path": "", "theorem_full_name": "", "theorem_pos": None, **record})
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        yield record


def answer(
    generator: TacticGenerator,
    records: Iterable[Mapping[str, Any]],
    defaults: Mapping[str, Any],
    num_samples: int,
    batch_size: int = 1,
) -> Iterator[dict[str, Any]]:
    """Yield each record with `candidates`, a list of objects with `tactic` and `log_prob`, best first.

    Args:
        generator: what suggests
        records: with `state`, and what differs from the defaults
        defaults: file_path, theorem_full_name and theorem_pos of records that do not say
        num_samples: suggestions for a state
        batch_size: records that are answered together
    """
    remaining = iter(records)
    while batch := list(islice(remaining, batch_size)):
        found = generator.propose([_context({**defaults, **record}) for record in batch], num_samples)
        for record, candidates in zip(batch, found, strict=True):
            yield {**record, "candidates": [{"tactic": tactic, "log_prob": p} for tactic, p in candidates]}


def _context(record: Mapping[str, Any]) -> Context:
    path, name, state = (_text(record, field) for field in ("file_path", "theorem_full_name", "state"))
    try:
        return Context(path, name, position_of(record["theorem_pos"]), state)
    except DataError as error:
        raise DataError(f"theorem_pos: {error}") from error


def _text(record: Mapping[str, Any], field: str) -> str:
    value = record[field]
    if not isinstance(value, str):
        raise DataError(f"{field} is {str(value)[:60]!r}; it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{field} holds half a character at {error.start}, which no UTF-8 has") from error
    return value


def _as_text(answered: Mapping[str, Any]) -> str:
    rows = [candidate_row(row["tactic"], row["log_prob"]) for row in answered["candidates"]]
    return "\n".join(rows) or "no suggestions"


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests.

    Raises:
        NextstepError: for what is wrong with the model, an option or the input
        SystemExit: for a command line that does not parse
    """
    suggest(**parse_arguments(suggest, args, positional="state"))


def cli() -> None:
    """Run the command."""
    remarks.prepare()
    run(main)


if __name__ == "__main__":
    cli()
