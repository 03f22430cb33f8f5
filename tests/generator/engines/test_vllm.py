"""The engine "vllm" against a stand-in for the library, whose interface is that of vLLM 0.33."""

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from common import ByteTokenizer, ConfigError
from generator.architectures.decoder_only import build_causal
from generator.engines import Decoding, Sampling, make_engine
from generator.engines.engine import input_seed
from generator.engines.vllm import VLLMEngine


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None


@dataclass
class BeamSearchParams:
    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0


@dataclass
class Logprob:
    logprob: float


@dataclass
class CompletionOutput:
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


@dataclass
class BeamSearchSequence:
    tokens: list[int]
    logprobs: list[dict[int, Logprob]]
    cum_logprob: float
    text: str | None = None


@dataclass
class BeamSearchOutput:
    sequences: list[BeamSearchSequence]


SCRIPT = ["simp[/TAC] and more", "rw [h]", "intro[/TAC]x"]  # what the stand-in writes, each token with log-prob -0.5


@dataclass
class LLM:
    model: str
    max_logprobs: int = 20
    gpu_memory_utilization: float = 0.92
    calls: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    made = []

    def __post_init__(self):
        if Path(self.model).is_absolute():
            assert (Path(self.model) / "config.json").is_file() and (
                Path(self.model) / "tokenizer_config.json"
            ).is_file()
            self.weights = load_file(Path(self.model) / "model.safetensors")
            self.settings = json.loads((Path(self.model) / "generation_config.json").read_text())
        LLM.made.append(self)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
        assert len(prompts) == len(sampling_params) and not use_tqdm
        self.calls += list(zip(prompts, sampling_params, strict=True))
        return [RequestOutput([self._sampled(i, p) for i in range(p.n)]) for p in sampling_params]

    def _sampled(self, i, params):
        ids = ByteTokenizer().encode(SCRIPT[i % 3])
        for stop in params.stop or ():
            if stop in SCRIPT[i % 3]:
                ids = ByteTokenizer().encode(SCRIPT[i % 3].split(stop)[0] + stop, add_special_tokens=False)
        total = None if params.logprobs is None else -0.5 * len(ids)
        return CompletionOutput("", ids, total)

    def beam_search(self, prompts, params):
        assert self.max_logprobs == -1 or 2 * params.beam_width <= self.max_logprobs
        self.calls += [(prompt, params) for prompt in prompts]
        return [BeamSearchOutput(self._beams(prompt["prompt_token_ids"], params)) for prompt in prompts]

    def _beams(self, prompt, params):
        beams = []
        for text in (SCRIPT * params.beam_width)[: params.beam_width]:
            ids = ByteTokenizer().encode(text)[: params.max_tokens]
            beams.append(
                BeamSearchSequence(prompt + ids, [{i: Logprob(-0.5), 0: Logprob(-9)} for i in ids], -0.5 * len(ids))
            )
        return sorted(beams, key=lambda beam: -beam.cum_logprob)


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    module, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    params.BeamSearchParams = BeamSearchParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    LLM.made.clear()


def test_samples_are_asked_for_with_their_settings_and_own_seeds(tokenizer):
    engine = make_engine("vllm", "EleutherAI/pythia-70m", tokenizer, max_inp_seq_len=16)
    sampling = Sampling(temperature=0.7, top_k=5, top_p=0.9, seed=4)
    decoding = Decoding(max_new_tokens=64, sampling=sampling, stop=("[/TAC]",))
    first, second = engine.propose(["ab", "c"], 3, decoding)
    assert first == second == [("rw [h]", -3.5), ("simp[/TAC]", -5.0), ("intro[/TAC]", -5.5)]
    (prompt, params), (other, other_params) = LLM.made[0].calls
    assert prompt == {"prompt_token_ids": [100, 101]} and other == {"prompt_token_ids": [102]}
    assert (params.n, params.max_tokens, params.temperature, params.top_k, params.top_p) == (3, 64, 0.7, 5, 0.9)
    assert params.stop == ["[/TAC]"] and params.logprobs is not None
    assert (params.seed, other_params.seed) == (input_seed(4, "ab"), input_seed(4, "c"))
    assert LLM.made[0].model == "EleutherAI/pythia-70m"


def test_samples_are_cut_at_stop_strings_whatever_tokens_come_back_behind_them(tokenizer, monkeypatch):
    """The last token of a sample may reach beyond the stop string that it completes."""

    def uncut(self, i, params):
        ids = ByteTokenizer().encode(SCRIPT[i % 3])
        return CompletionOutput("", ids, -0.5 * len(ids))

    monkeypatch.setattr(LLM, "_sampled", uncut)
    engine = make_engine("vllm", "EleutherAI/pythia-70m", tokenizer, max_inp_seq_len=16)
    (found,) = engine.propose(["ab"], 3, Decoding(max_new_tokens=64, sampling=Sampling(), stop=("[/TAC]",)))
    assert sorted(text for text, _ in found) == ["intro[/TAC]", "rw [h]", "simp[/TAC]"]


def test_beams_are_cut_at_stop_strings_with_the_log_probability_up_to_there(tokenizer):
    engine = make_engine("vllm", "EleutherAI/pythia-70m", tokenizer, max_inp_seq_len=16)
    (found,) = engine.propose(["ab"], 2, Decoding(num_beams=3, max_new_tokens=64, stop=("[/TAC]",)))
    assert found == [("rw [h]", -0.5 * len("rw [h]$")), ("simp[/TAC]", -0.5 * len("simp[/TAC]"))]
    (whole,) = engine.propose(["ab"], 3, Decoding(max_new_tokens=64))
    assert whole[0] == ("rw [h]", -3.5) and whole[-1] == (SCRIPT[0], -0.5 * len(SCRIPT[0] + "$"))
    _, params = LLM.made[0].calls[0]
    assert (params.beam_width, params.max_tokens, params.length_penalty) == (3, 64, 0.0)
    assert len(LLM.made) == 1, "loaded once"


def test_a_live_model_is_saved_for_it_and_again_when_its_weights_have_changed(tiny_gpt2, tokenizer):
    engine = make_engine("vllm", tiny_gpt2, tokenizer, max_inp_seq_len=16, gpu_memory_utilization=0.5)
    assert not LLM.made and not engine.is_live
    engine.propose(["ab"], 1, Decoding())
    engine.propose(["ab"], 1, Decoding())
    assert [made.gpu_memory_utilization for made in LLM.made] == [0.5]
    assert not Path(LLM.made[0].model).exists(), "the copy is gone once it is loaded"
    with torch.no_grad():
        tiny_gpt2.lm_head.weight += 1
    engine.propose(["ab"], 1, Decoding())
    assert len(LLM.made) == 2


def test_a_live_model_with_adapters_is_saved_whole_and_goes_on_training(tiny_gpt2, tokenizer):
    peft = pytest.importorskip("peft")
    base = {name: weight.clone() for name, weight in tiny_gpt2.state_dict().items()}
    model = peft.get_peft_model(tiny_gpt2, peft.LoraConfig(r=2, target_modules=["c_fc"], init_lora_weights=False))
    engine = make_engine("vllm", model, tokenizer, max_inp_seq_len=16)
    assert engine.propose(["ab"], 1, Decoding())
    (made,) = LLM.made
    assert made.weights.keys() <= base.keys() and len(made.weights) > 20, "names that vLLM knows"
    changed = {name for name, weight in made.weights.items() if not torch.equal(weight, base[name])}
    assert changed == {f"transformer.h.{layer}.mlp.c_fc.weight" for layer in (0, 1)}
    layer = model.get_submodule("base_model.model.transformer.h.0.mlp.c_fc")
    whole = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(made.weights["transformer.h.0.mlp.c_fc.weight"], whole)
    assert any(parameter.requires_grad for parameter in layer.parameters())


def test_what_ends_a_candidate_is_saved_with_a_live_model(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=8, n_layer=1, n_head=1, eos_token_id=9)).save_pretrained(tmp_path)
    engine = make_engine("vllm", build_causal(tmp_path, ByteTokenizer()), ByteTokenizer(), max_inp_seq_len=16)
    engine.propose(["ab"], 1, Decoding())
    assert LLM.made[0].settings["eos_token_id"] == [1, 9]


def test_inputs_keep_their_order_and_an_empty_one_works(tokenizer):
    engine = VLLMEngine("some/model", tokenizer, 4)
    assert engine.propose([], 2, Decoding()) == []
    assert len(engine.propose(["", "abcdefgh"], 2, Decoding())) == 2
    assert [prompt["prompt_token_ids"] for prompt, _ in LLM.made[0].calls] == [[1], tokenizer.encode("efgh")[:4]]
    assert all(math.isfinite(p) for found in engine.propose(["x"], 2, Decoding()) for _, p in found)


def test_what_cannot_be_asked_is_refused(tiny_t5, tokenizer):
    with pytest.raises(ConfigError, match="engine 'vllm' decodes decoder-only models, not T5"):
        make_engine("vllm", tiny_t5, tokenizer, max_inp_seq_len=16)
    engine = VLLMEngine("some/model", tokenizer, 4)
    with pytest.raises(ConfigError, match="num_candidates is 0"):
        engine.propose(["p"], 0, Decoding())
    with pytest.raises(ConfigError, match="num_beams is 2 but 3"):
        engine.propose(["p"], 3, Decoding(num_beams=2))
