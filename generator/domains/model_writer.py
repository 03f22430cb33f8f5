"""A trained model as a writer: independent samples, or the candidates of a beam search."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from common import Candidate, ConfigError, check_positive, format_state
from generator.decoding.settings import Sampling
from generator.domains.encodings import batch_of_one
from generator.domains.writers import BlockWriter, context_of, stable_seed

MAX_BLOCK = 1024
PROPOSALS = ("samples", "beam")  # how a model proposes


class SampleWriter(BlockWriter):
    """Samples of a model, in the order in which they were drawn, with repetitions.

    A block of samples is drawn by one call of the engine, which reads the specification once for all of them.
    """

    def __init__(self, model: Any, sampling: Sampling = Sampling(), block_size: int = 32, name: str = "model") -> None:
        """Keep the model.

        Args:
            model: a generator of this project, such as `load_generator` returns
            sampling: from which part of the distribution; by default from all of it
            block_size: samples that are drawn together
            name: in results

        Raises:
            ConfigError: if it is a generator of another kind
        """
        if not all(hasattr(model, part) for part in ("engine", "write_inputs", "decoding", "parse")):
            raise ConfigError(
                f"{type(model).__name__} gives no samples; take a model of load_generator, or its best candidates"
            )
        check_positive(MAX_BLOCK, block_size=block_size)
        super().__init__(name, sampling.seed, block_size)
        self.model, self.sampling = model, sampling
        # those of the engine are the model's own, whatever part of the distribution is drawn from
        self.tells_probability = (sampling.temperature, sampling.top_k, sampling.top_p) == (1.0, 0, 1.0)

    def draw(self, spec: str, block: int) -> list[Candidate]:
        """See `BlockWriter.draw`."""
        return self.draw_all([spec], block)[0]

    @torch.no_grad()
    def draw_all(self, specs: Sequence[str], block: int) -> list[list[Candidate]]:
        """Return a block of each of several specifications.

        What the model writes around a program is removed as in inference; a text without one stays, to be judged
        malformed.
        """
        inputs = self.model.write_inputs([context_of(format_state(spec)) for spec in specs])
        asked = [text for text in inputs if text]
        sampling = replace(self.sampling, seed=stable_seed(self.seed, block) % 2**31)
        decoding = replace(self.model.decoding(), sampling=sampling)
        found = iter(self.model.engine.propose(asked, self.block_size, decoding) if asked else [])
        return [
            self._in_drawn_order(spec, next(found), block) if text else []
            for spec, text in zip(specs, inputs, strict=True)
        ]

    @torch.no_grad()
    def log_prob(self, spec: str, program: str) -> float | None:
        """See `Writer.log_prob`: by the model's own loss, from what it reads in inference."""
        [text] = self.model.write_inputs([context_of(format_state(spec))])
        if not self.tells_probability or not text:
            return None
        batch = batch_of_one(self.model, text, program)
        loss, num_tokens = self.model.loss_of(self.model.transfer_batch_to_device(batch, self.model.device, 0))
        return -float(loss) * int(num_tokens)

    def _in_drawn_order(self, spec: str, samples: Sequence[Candidate], block: int) -> list[Candidate]:
        """Samples come sorted by probability; a shuffle makes them independent again."""
        written = [(self.model.parse(text), text, log_prob) for text, log_prob in samples]
        shuffled = [(text if program is None else program, log_prob) for program, text, log_prob in written]
        random.Random(self.seed_of(spec, block)).shuffle(shuffled)
        return shuffled
