"""Neural next-step prediction: a decoder-only model goes on from a prompt with the next tactic.

Shape legend: B rows, L padded length.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.functional import cross_entropy

from common import IGNORE_INDEX, ConfigError, Context, DataError, load_tokenizer
from generator.architectures.adapters import Lora, adapter_weights, add_lora, check_adapters, check_base, plain
from generator.architectures.decoder_only import build_causal, num_positions
from generator.architectures.encoder_decoder import describe
from generator.architectures.traits import positions_of
from generator.data.completion_encoding import CompletionEncoder
from generator.data.instruct_batch import InstructBatch, PackedBatch
from generator.data.instruct_dataset import check_limits
from generator.engines import Decoding, make_engine
from generator.prompts.source_files import SourceFiles
from generator.prompts.templates import PromptFields, PromptTemplate, PromptTooLongError, get_template
from generator.training.next_step_generator import NextStepGenerator, Sampling
from generator.training.packed_attention import check_packing, packed_masks
from generator.training.premise_source import premise_source
from retrieval.training.architectures import checkpoint_activations
from retrieval.training.checkpoints import absolute, read_checkpoint, read_settings
from retrieval.training.optimizers import OptimizerName


class CausalGenerator(NextStepGenerator):
    """A decoder-only model that writes tactics, fine-tuned on prompts and completions.

    Source: ntp-toolkit and the tutorial on neural theorem proving behind it (arXiv:2408.03350, section 3); instruction
    data as in arXiv:2310.18457 (llmstep).
    """

    decoding_options: ClassVar[tuple[str, ...]] = (
        "num_beams",
        "length_penalty",
        "max_seq_len",
        "max_completion_len",
        "template",
    )

    def __init__(
        self,
        model_name: str | dict[str, Any],
        lr: float = 1e-5,
        warmup_steps: int = 100,
        optimizer: OptimizerName = "adamw",
        lr_decay: float = 0.0,
        num_beams: int = 8,
        length_penalty: float = 0.0,
        sampling: Sampling | None = None,
        engine: str = "native",
        engine_options: dict[str, Any] | None = None,
        template: str | None = None,
        max_seq_len: int = 2048,
        max_completion_len: int = 256,
        lora: Lora | None = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,
        log_text_every_n_steps: int = 500,
        ret_ckpt_path: str | None = None,
        corpus_path: str | None = None,
        index_path: str | None = None,
        eval_num_retrieved: int = 100,
        sources_path: str | None = None,
    ) -> None:
        """Build the model.

        Args:
            model_name: hub id or Hugging Face folder to fine-tune; or, to train from scratch, an architecture: a
                mapping or YAML file with transformers' `model_type` and its configuration's keys
            lr: learning rate after the warm-up
            warmup_steps: optimizer steps over which the learning rate rises
            optimizer: "adamw", or "muon", which learns from fewer steps; see retrieval.training.optimizers
            lr_decay: share of all steps, at the end, in which the learning rate falls to 0; 0 keeps it
            num_beams: beams, and so candidates, in validation, test and predict
            length_penalty: candidates rank by log-probability / length ** this; 0 is their probability
            sampling: draw candidates instead of searching for the best ones
            engine: what decodes: "native", "transformers", "vllm"; see generator.engines
            engine_options: what the engine's constructor takes, such as gpu_memory_utilization of "vllm"
            template: how a state becomes a prompt, and a completion a tactic, see generator.prompts; if not given,
                that of the training data. Without any, `generate` takes whole prompts and returns whole completions.
            max_seq_len: tokens of prompt, completion and EOS together
            max_completion_len: tokens of a completion, EOS included; a prompt has the rest
            lora: train low-rank adapters instead of the whole model
            gradient_checkpointing: recompute activations in the backward pass; less memory, a third slower
            compile: compile the training step with torch.compile
            log_text_every_n_steps: how often a prompt and its tactic are logged as text in training
            ret_ckpt_path: retriever that `generate` asks for premises: a checkpoint, or an encoder's folder or
                hub id; training and evaluation read predictions instead (see InstructDataModule)
            corpus_path: corpus.jsonl that it retrieves from
            index_path: folder of its embeddings, from `python -m retrieval.index`; without it they are made first
            eval_num_retrieved: premises for each state, of which the prompt holds as many as fit
            sources_path: folder in which the file paths of requests begin; the prompt tells what stands in the file
                before the theorem, as far as it fits. Models published for ntp-ctx saw the file up to the tactic,
                which no prover tells
        """
        super().__init__()
        model_name = absolute(model_name)
        self._set_up(
            model_name,
            lr,
            warmup_steps,
            optimizer,
            lr_decay,
            num_beams,
            length_penalty,
            sampling,
            log_text_every_n_steps,
        )
        check_limits(max_seq_len, max_completion_len)
        self.max_seq_len, self.max_completion_len = max_seq_len, max_completion_len
        self.premise_source = premise_source(ret_ckpt_path, corpus_path, index_path, eval_num_retrieved)
        self.sources = None if sources_path is None else SourceFiles(sources_path)
        self._empty_of = ""  # the template of which was said what stays empty
        self._take_template(template)
        self.save_hyperparameters(
            "model_name", "lr", "warmup_steps", "optimizer", "lr_decay", "gradient_checkpointing", "compile"
        )
        self.lora = Lora.of(lora)
        self.tokenizer = load_tokenizer(model_name)
        self._encoder = CompletionEncoder(self.tokenizer)
        dtype = torch.float32 if lora is None else "auto"
        self.generator: Any = build_causal(model_name, self.tokenizer, dtype)
        _check_positions(self.generator.config, max_seq_len)
        if self.lora is not None:
            if not isinstance(model_name, str) or model_name.endswith((".yaml", ".yml")):
                raise ConfigError("lora adapts a trained model; set model_name to a hub id or a folder")
            self.generator = add_lora(self.generator, self.lora)
            self.strict_loading = False  # a checkpoint holds the adapters alone
        if gradient_checkpointing:
            checkpoint_activations(self.generator)
        self._compiled = [torch.compile(self.generator, dynamic=True)] if compile else []
        self.engine = make_engine(
            engine, self.generator, self.tokenizer, max_inp_seq_len=self._max_prompt_len, **(engine_options or {})
        )

    def _take_template(self, name: str | None) -> None:
        """Use a template, which must have places for what prompts are to tell."""
        template = None if name is None else get_template(name)
        self.template = None if template is None else template.name
        self.reads_theorem = self.premise_source is not None or self.sources is not None
        if template is None:
            return
        self.reads_theorem |= "full_name" in template.fields
        if self.premise_source is not None:
            template.check_place_for("premises", "ret_ckpt_path")
        if self.sources is not None:
            template.check_place_for("context", "sources_path")

    # ---------------------------------------------------------------------------------- checkpoints

    def architecture(self) -> dict[str, Any]:
        """See `Restorable`."""
        return describe(self.generator)

    def kept_options(self) -> dict[str, Any]:
        """See `Restorable`."""
        return {**super().kept_options(), "lora": plain(self.lora)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what `load` needs; of a model with adapters, which model it was, and the adapters."""
        super().on_save_checkpoint(checkpoint)
        if self.lora is not None:
            checkpoint["generator"]["architecture"] = self.model_name
            checkpoint["state_dict"] = adapter_weights(checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class or other adapters; say if it was trained with another template."""
        super().on_load_checkpoint(checkpoint)
        kept = checkpoint["generator"]["options"]
        check_adapters(kept.get("lora"), self.lora)
        _compare_templates(kept.get("template"), self.template)

    @classmethod
    def load(cls, path: str | Path, device: Any = "cpu", freeze: bool = True, **overrides: Any) -> Self:
        """See `Restorable.load`; another template than that of the checkpoint is used, and said.

        Of a folder or hub id that says nothing of lengths, `max_seq_len` is at most the positions of the model.
        """
        is_file = Path(path).is_file()
        described = read_checkpoint(path).get("generator", {}) if is_file else read_settings(path) or {}
        kept = described.get("options", {})
        if "template" in overrides:
            _compare_templates(kept.get("template"), overrides["template"])
        if is_file and "lora" in overrides:
            check_adapters(kept.get("lora"), Lora.of(overrides["lora"]))
        if isinstance(described.get("architecture"), str):
            check_base(path, described["architecture"])
        if not is_file and Path(path).suffix != ".ckpt":
            overrides = {**cls._limits(path, {**kept, **overrides}), **overrides}
        return super().load(path, device, freeze, **overrides)

    @classmethod
    def _limits(cls, path: str | Path, said: Mapping[str, Any]) -> dict[str, int]:
        """Lengths that a model has positions for, where none are said and it has fewer than our defaults ask for."""
        parameters = signature(cls).parameters
        positions = None if "max_seq_len" in said else num_positions(path)
        if positions is None or positions >= parameters["max_seq_len"].default:
            return {}
        completion_len = min(parameters["max_completion_len"].default, positions // 2)
        return {"max_seq_len": positions, "max_completion_len": said.get("max_completion_len", completion_len)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; into a model with adapters, exactly its adapters."""
        if self.lora is not None and set(state_dict) != set(adapter_weights(self.state_dict())):
            raise DataError("the checkpoint's adapters are not those of this model; load it with its own lora")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    # ------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Learn from the data how prompts are written, or say that it does otherwise than this model."""
        module = getattr(self.trainer, "datamodule", None)
        for found in getattr(module, "found_templates", ()):  # one, if there is data
            if self.template is None and found is not None:
                rank_zero_info(f"template is that of the data: {found}")
                self._take_template(found)
            elif found != self.template:
                written = found or "a format that no template here writes"
                rank_zero_warn(f"the model was made for template {self.template}, but the data is written in {written}")
        if getattr(module, "hparams", {}).get("packing"):
            check_packing(self.generator)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | dict[str, Tensor], labels: Tensor, **packed: Tensor
    ) -> Tensor:
        """Return the mean cross entropy of the tokens of completions and their EOS; 0 where there are none.

        Args:
            input_ids: int64 (B, L)
            attention_mask: 1 where input_ids is no padding, (B, L); or what may attend to what, (B, 1, L, L),
                or that for each type of layer
            labels: int64 (B, L), -100 on all but completions
            packed: position_ids of rows that hold several examples, int64 (B, L)
        """
        trained = (labels != IGNORE_INDEX).any(dim=0).nonzero()
        if not len(trained):
            return input_ids.new_zeros((), dtype=torch.float32)
        # the output layer is for what is predicted alone: from one place before the first label
        first = max(1, int(trained[0]))
        num_kept = labels.shape[1] - first + 1
        model = self._compiled[0] if self._compiled and self.training else self.generator
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "logits_to_keep": num_kept, **packed}
        logits: Tensor = model(**inputs, use_cache=False).logits
        return cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, first:].flatten(), ignore_index=IGNORE_INDEX
        )

    def _loss(self, batch: InstructBatch) -> tuple[Tensor, int]:
        labels, packed = batch["labels"], {}
        mask: Tensor | dict[str, Tensor] = batch["attention_mask"]
        if "segment_ids" in batch:
            rows = cast(PackedBatch, batch)
            mask = packed_masks(self.generator, rows["segment_ids"])
            packed = {"position_ids": rows["position_ids"]}
        num_tokens = int((labels[:, 1:] != IGNORE_INDEX).sum())
        return self(batch["input_ids"], mask, labels, **packed), num_tokens

    # ------------------------------------------------------------------------------------ inference

    @property
    def _max_prompt_len(self) -> int:
        return self.max_seq_len - self.max_completion_len

    @property
    def _max_new_tokens(self) -> int:
        return self.max_completion_len

    def _decoding(self) -> Decoding:
        decoding = super()._decoding()
        stop = () if self.template is None else get_template(self.template).stop
        return Decoding(**{**vars(decoding), "stop": stop})

    def _parse(self, text: str) -> str | None:
        return text.strip() if self.template is None else get_template(self.template).parse(text)

    def _format(self, contexts: Sequence[Context]) -> list[str | None]:
        """The prompt of each state; None where not even the goal fits."""
        if self.template is None:
            return [self._whole_prompt(context.state) for context in contexts]
        template, prompts = get_template(self.template), list[str | None]()
        self._say_what_stays_empty(template)
        for context, premises in zip(contexts, self._retrieve(contexts), strict=True):
            place = (context.path, context.theorem_pos, self._max_prompt_len)
            before = "" if self.sources is None else self.sources.before(*place)
            fields = PromptFields(context.state, premises, before, context.theorem_full_name)
            try:
                fitted = template.fit(fields, self._max_prompt_len, self._encoder.count)
                self._count_shortened(int(fitted.num_cut_bytes > 0))
                prompts.append(fitted.text)
            except PromptTooLongError as error:
                warnings.warn(f"no candidates for one state: {error}", stacklevel=2)
                prompts.append(None)
        return prompts

    def _say_what_stays_empty(self, template: PromptTemplate) -> None:
        """Say once which places of its prompts `generate` has nothing for."""
        if self._empty_of == template.name:
            return
        self._empty_of = template.name
        if "context" in template.fields and self.sources is None:
            rank_zero_info(f"template {template.name} tells file context, but there is no sources_path; it stays empty")
        if "proof" in template.fields:
            rank_zero_info(f"template {template.name}: provers do not tell the proof so far; it stays empty")

    def _whole_prompt(self, prompt: str) -> str | None:
        """A prompt of no template, which nothing may be added to or taken from; None if it is too long."""
        if self.premise_source is not None or self.sources is not None:
            raise ConfigError("ret_ckpt_path and sources_path need a template, which has places for what they add")
        if (num_tokens := self._encoder.count(prompt)) <= self._max_prompt_len:
            return prompt
        limit = f"{num_tokens:,} tokens, and max_seq_len leaves {self._max_prompt_len:,} for prompts"
        warnings.warn(
            f"no candidates for one prompt: it has {limit}; without a template it is not shortened", stacklevel=2
        )
        return None


def _check_positions(config: Any, max_seq_len: int) -> None:
    """Raise ConfigError if the model knows fewer positions."""
    limit = positions_of(config)
    if limit is not None and max_seq_len > limit:
        raise ConfigError(f"max_seq_len is {max_seq_len}, but the model has {limit} positions; lower max_seq_len")


def _compare_templates(trained: str | None, called: str | None) -> None:
    if trained is not None and called is not None and get_template(called).name != trained:
        rank_zero_warn(f"the model was trained with template {trained}, but is used with {called}")
