"""The engine "vllm": decoder-only models on vLLM, from a folder or hub id, or from a saved copy of the live model.

Needs the extra `vllm` and, in practice, a GPU. Written for vLLM's interface as of 0.33.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from common import MAX_LENGTH, Candidate, ConfigError, check_positive
from generator.architectures.adapters import merged_copy
from generator.decoding.settings import Decoding, Sampling
from generator.decoding.stopping import StopStrings
from generator.engines.engine import Engine, best_first, encode, input_seed, weights_version
from retrieval.training.extras import import_extra

_Prompt = dict[str, list[int]]


class VLLMEngine(Engine):
    """Decodes with vLLM, which batches all inputs of a call by itself.

    vLLM loads the model at the first call; a live model is saved for it then, any adapters added into its weights, and
    again when its weights have changed.
    Samples of an input depend on the seed and its text alone, as far as vLLM's kernels allow.
    """

    name: ClassVar[str] = "vllm"
    is_live: ClassVar[bool] = False

    def __init__(self, model: Any, tokenizer: Any, max_inp_seq_len: int, **options: Any) -> None:
        """Keep what is needed; nothing is loaded yet.

        Args:
            model: a folder or hub id, or what AutoModelForCausalLM loads
            tokenizer: its tokenizer
            max_inp_seq_len: tokens of an input; a longer one loses its beginning
            options: of vllm.LLM, such as gpu_memory_utilization, tensor_parallel_size, dtype

        Raises:
            ConfigError: if vllm is not installed, or the model is no decoder-only model
        """
        import_vllm()
        check_positive(MAX_LENGTH, max_inp_seq_len=max_inp_seq_len)
        config = getattr(model, "config", None)
        if getattr(config, "is_encoder_decoder", False):
            raise ConfigError(
                f"engine 'vllm' decodes decoder-only models, not {type(model).__name__}; choose engine 'native'"
            )
        self.model, self.tokenizer, self.max_inp_seq_len, self.options = model, tokenizer, max_inp_seq_len, options
        self._llm: Any = None
        self._weights: Any = None  # what they were when it was loaded

    def propose(self, inputs: Sequence[str], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """See `Engine.propose`."""
        check_positive(num_candidates=num_candidates)
        if not inputs:
            return []
        rows = encode(self.tokenizer, inputs, self.max_inp_seq_len, is_decoder_only=True)
        prompts = [{"prompt_token_ids": ids.tolist()} for ids in rows]
        if decoding.sampling is None:
            return self._search(prompts, num_candidates, decoding)
        seeds = [input_seed(decoding.sampling.seed, text) for text in inputs]
        return self._sample(prompts, num_candidates, decoding, decoding.sampling, seeds)

    def _sample(
        self, prompts: list[_Prompt], num_candidates: int, decoding: Decoding, sampling: Sampling, seeds: list[int]
    ) -> list[list[Candidate]]:
        library, stop = import_vllm(), StopStrings(decoding.stop, self.tokenizer)
        settings = [
            library.SamplingParams(
                n=num_candidates,
                max_tokens=decoding.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=seed,
                stop=list(decoding.stop),
                logprobs=0,  # that of the sampled token alone; without it there is no sum
            )
            for seed in seeds
        ]
        outputs = self._load().generate(prompts, settings, use_tqdm=False)
        return [
            best_first([(stop.cut(list(one.token_ids))[0], float(one.cumulative_logprob)) for one in output.outputs])
            for output in outputs
        ]

    def _search(self, prompts: list[_Prompt], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """Beam search, which knows no stop strings there: candidates are cut at them afterwards."""
        settings = import_vllm("vllm.sampling_params").BeamSearchParams(
            beam_width=decoding.rows_for(num_candidates),
            max_tokens=decoding.max_new_tokens,
            length_penalty=decoding.length_penalty,
        )
        outputs = self._load().beam_search(prompts, settings)
        results = []
        for prompt, output in zip(prompts, outputs, strict=True):
            found = [self._cut(beam, len(prompt["prompt_token_ids"]), decoding) for beam in output.sequences]
            if decoding.stop:  # a cut beam is likelier than it was whole
                found.sort(key=lambda candidate: -candidate[2])
            results.append([(text, log_prob) for text, log_prob, _ in found[:num_candidates]])
        return results

    def _cut(self, beam: Any, prompt_length: int, decoding: Decoding) -> tuple[str, float, float]:
        """Text, log-probability and score of a beam; its tokens begin with the prompt."""
        written = list(beam.tokens[prompt_length:])
        text, num_tokens = StopStrings(decoding.stop, self.tokenizer).cut(written)
        log_prob = float(beam.cum_logprob)
        if num_tokens < len(written):
            steps = zip(beam.logprobs[:num_tokens], written, strict=False)
            log_prob = sum(float(step[token].logprob) for step, token in steps)
        return text, log_prob, log_prob / max(num_tokens, 1) ** decoding.length_penalty

    def _load(self) -> Any:
        """The loaded model."""
        # beam search asks for the log-probabilities of twice as many tokens as there are beams
        options = {"max_logprobs": -1, **self.options}
        if isinstance(self.model, str | Path):
            if self._llm is None:
                self._llm = import_vllm().LLM(model=str(self.model), **options)
            return self._llm
        weights = weights_version(self.model)
        if self._llm is None or weights != self._weights:
            self._llm = None  # the old one's memory first
            with tempfile.TemporaryDirectory(prefix="nextstep-vllm-") as folder:
                whole = merged_copy(self.model) if hasattr(self.model, "merge_and_unload") else self.model
                whole.save_pretrained(folder)
                del whole
                self.tokenizer.save_pretrained(folder)
                self._llm = import_vllm().LLM(model=folder, **options)
            self._weights = weights
        return self._llm


def import_vllm(module: str = "vllm") -> Any:
    """Return the library or one of its modules; raise ConfigError if it is not installed."""
    return import_extra(module, "vllm", "engine 'vllm'")
