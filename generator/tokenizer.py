"""Making a tokenizer for models from scratch: `python -m generator.tokenizer --data_path ... --output_dir ...`.

An architecture names its folder (`model_name: {tokenizer: data/tokenizer, d_model: 128}`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from common import check_positive, fit_state, remove_marks
from retrieval.leandojo.tactic_text import TacticText
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.training.commands import parse_arguments, run
from retrieval.training.files import writing_folder
from retrieval.training.options import flat, flat_options
from retrieval.training.subwords import train_tokenizer


@flat_options
def tokenizer(
    data_path: Path,
    output_dir: Path,
    vocab_size: int = 2048,
    max_state_bytes: int = 512,
    *,
    tactic_text: TacticText = TacticText(),
) -> None:
    """Make a tokenizer of pieces of words from the states and tactics of train, and write a Hugging Face folder.

    Args:
        data_path: folder with train.json
        output_dir: folder to write
        vocab_size: pieces, with special tokens and single bytes
        max_state_bytes: of a state, the last of its first goal, are learnt from
        tactic_text: how tactics are written

    Raises:
        ConfigError: if an option is wrong
        DataError: if the file is missing or broken, or output_dir cannot be written
    """
    check_positive(vocab_size=vocab_size, max_state_bytes=max_state_bytes)
    traced = TracedTactics.load(data_path / "train.json", **flat(tactic_text))
    print(traced.summary())
    made = train_tokenizer(_texts(traced, max_state_bytes), vocab_size)
    with writing_folder(output_dir, f"the tokenizer to {output_dir}") as part:
        made.save_pretrained(part)
    sample = list(_texts(traced[:: max(1, len(traced) // 1000)], max_state_bytes))
    num_tokens = sum(len(ids) - 1 for ids in made(sample)["input_ids"])
    num_bytes = sum(len(text.encode()) for text in sample)
    print(f"wrote {output_dir}: {len(made):,} pieces, {num_bytes / max(1, num_tokens):.2f} bytes each on average")


def _texts(traced: Sequence[TracedTactic], max_state_bytes: int) -> Iterator[str]:
    """The distinct states, cut, and all tactics."""
    seen = set[str]()
    for step in traced:
        state = fit_state(step.state, max_state_bytes)
        if state not in seen:
            seen.add(state)
            yield state
        yield remove_marks(step.tactic)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    tokenizer(**parse_arguments(tokenizer, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
