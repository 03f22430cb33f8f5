"""What does it cost to tokenise a training split, and what does the second run still pay?

RAYON_NUM_THREADS=1 python tests/benchmarks/tokenize_steps.py path/to/random/val.json

The tokenizer is a byte-level BPE of 8,000 tokens, GPT-2's kind, trained on the states themselves.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from common import ByteTokenizer
from generator.data import tokenized_steps
from generator.data.completion_encoding import CompletionEncoder
from generator.data.prompted_steps import TracedSteps
from generator.data.tokenized_steps import TokenizedSteps, TokenLimits, tokenize_steps
from generator.prompts.templates import get_template
from retrieval.leandojo.traces import TracedTactics
from retrieval.training import kept_tokens

LIMITS = TokenLimits(max_prompt_len=1792, max_completion_len=256, is_train=True)


def bpe(traces: TracedTactics) -> PreTrainedTokenizerFast:
    """Train a tokenizer on a thousand states."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8_000, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator((traces[i].state for i in range(0, len(traces), 1 + len(traces) // 1000)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def timed(steps: TracedSteps, tokenizer: object) -> tuple[float, TokenizedSteps]:
    """Tokenise a split; return CPU seconds too."""
    start = time.process_time()
    found = tokenize_steps(steps, CompletionEncoder(tokenizer), LIMITS, progress=False)
    return time.process_time() - start, found


def main() -> None:
    """Measure, check that all give the same, print a Markdown table and a JSON line."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.json"
        shutil.copy(sys.argv[1], path)
        traces = TracedTactics.load(path, progress=False)
        steps, tokenizer = TracedSteps(traces, get_template("ntp-st")), bpe(traces)
        add_read_back, tokenized_steps._Tokenizing._read_back = tokenized_steps._Tokenizing._read_back, lambda *_: None
        kept_tokens.MIN_BYTES, min_bytes = 1 << 62, kept_tokens.MIN_BYTES
        seconds = {"tokenised, nothing read back": timed(steps, tokenizer)[0]}
        tokenized_steps._Tokenizing._read_back = add_read_back
        kept_tokens.MIN_BYTES = min_bytes
        seconds["first run: read back and kept"], first = timed(steps, tokenizer)
        seconds["later runs"], later = timed(steps, tokenizer)
        seconds["bytes, which are not kept"], _ = timed(steps, ByteTokenizer())
        assert all(np.array_equal(array, later.kept()[0][name]) for name, array in first.kept()[0].items())
        assert first.kept()[1] == later.kept()[1]
        kept_mb = sum(file.stat().st_size for file in (path.parent / kept_tokens.FOLDER).iterdir()) / 1e6
    print(f"{len(traces):,} steps, {len(first.ids):,} tokens, {kept_mb:.0f} MB kept\n\n| | CPU seconds |\n|---|--:|")
    for what, value in seconds.items():
        print(f"| {what} | {value:.2f} |")
    print(json.dumps({"steps": len(traces), "tokens": len(first.ids), "kept_mb": kept_mb, **seconds}))


if __name__ == "__main__":
    main()
