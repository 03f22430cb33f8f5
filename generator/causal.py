"""Neural next-step prediction: a decoder-only model goes on from a prompt with the next tactic.

Shape legend: B rows, L padded length.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from common import IGNORE_INDEX, ConfigError, Context, DataError
from generator.architectures.adapters import Lora, adapter_weights, add_lora, check_adapters, check_base, plain
from generator.architectures.decoder_only import build_causal, num_positions
from generator.architectures.encoder_decoder import describe
from generator.architectures.traits import positions_of
from generator.data.completion_encoding import CompletionEncoder
from generator.data.inputs import HeadingWriter, InputParts
from generator.data.instruct_batch import InstructBatch, PackedBatch
from generator.data.instruct_dataset import PromptFormat
from generator.engines import Decoding
from generator.instruct_datamodule import InstructDataModule, check_heading
from generator.prompts.fields import PromptFields, PromptTooLongError
from generator.prompts.source_files import SourceFiles
from generator.prompts.templates import PromptTemplate, get_template
from generator.training.flat_batches import flat_instructions
from generator.training.next_step_generator import NextStepGenerator
from generator.training.packed_attention import (
    check_packing,
    packed_blocks,
    packed_masks,
    reason_against_blocks,
    take_block_masks,
)
from generator.training.token_loss import Smoothing, mean_loss
from retrieval.contexts import place_of
from retrieval.training.checkpoints import absolute, check_class, read_checkpoint, read_settings
from retrieval.training.gguf_files import is_gguf
from retrieval.training.optimizers import Optimization
from retrieval.training.options import flat, flat_options, names_of


class CausalGenerator(NextStepGenerator):
    """A decoder-only model that writes tactics, fine-tuned on prompts and completions.

    Source: ntp-toolkit and the tutorial on neural theorem proving behind it (arXiv:2408.03350, section 3); instruction
    data as in arXiv:2310.18457 (llmstep).
    """

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        optimization: Optimization = Optimization(lr=1e-5, warmup_steps=100),
        format: PromptFormat = PromptFormat(),
        parts: InputParts = InputParts(),
        lora: Lora | None = None,
        sources_path: str | None = None,
        **shared: Any,
    ) -> None:
        """Build the model.

        Args:
            model_name: hub id, Hugging Face folder or .gguf file to fine-tune; or, to train from scratch, an
                architecture: a mapping or YAML file with transformers' `model_type` and its configuration's keys
            optimization: how it is trained
            format: how prompts are written and how long they may be. Without a template, `generate` takes whole prompts
                and returns whole completions
            parts: what prompts tell beside states and premises; the template has to have a place for it
            lora: train low-rank adapters instead of the whole model
            sources_path: folder in which the file paths of requests begin; the prompt tells what stands in the file
                before the theorem, as far as it fits. Models published for ntp-ctx saw the file up to the tactic,
                which no prover tells
            **shared: see NextStepGenerator
        """
        model_name = absolute(model_name)
        super().__init__(model_name, optimization=optimization, **shared)
        self.max_seq_len, self.max_completion_len = format.max_seq_len, format.max_completion_len
        self.sources = None if sources_path is None else SourceFiles(sources_path)
        self._max_prompt_len = format.max_prompt_len
        self.parts, self.write_headings = parts, HeadingWriter(parts, format.max_prompt_len)
        self._empty_of = ""  # the template of which was said what stays empty
        self._take_template(format.template)
        self.lora = Lora.of(lora)
        self._encoder = CompletionEncoder(self.tokenizer)
        network = self._build(model_name)
        _check_positions(network.config, format.max_seq_len)
        if self.lora is not None:
            if not isinstance(model_name, str) or model_name.endswith((".yaml", ".yml")):
                raise ConfigError("lora adapts a trained model; set model_name to a hub id, a folder or a .gguf file")
            network = add_lora(network, self.lora)
            self.strict_loading = False  # a checkpoint holds the adapters alone
        self.take_network(network, self._max_prompt_len)

    def _build(self, model_name: str | dict[str, Any]) -> Any:
        """The network, before adapters are added."""
        return build_causal(model_name, self.tokenizer, torch.float32 if self.lora is None else "auto")

    def _take_template(self, name: str | None) -> None:
        """Use a template, which must have places for what prompts are to tell."""
        template = None if name is None else get_template(name)
        self.template = None if template is None else template.name
        self.reads_theorem = self.premise_source is not None or self.sources is not None or self.parts.reads_theorem
        if template is None:
            return
        check_heading(self.parts, template)
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
        template = {name: getattr(self, name) for name in names_of(PromptFormat)}
        return {**super().kept_options(), **template, **flat(self.parts), "lora": plain(self.lora)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what `load` needs; of a model with adapters, which model it was, and the adapters."""
        super().on_save_checkpoint(checkpoint)
        if self.lora is not None:
            checkpoint["generator"]["architecture"] = self.model_name
            checkpoint["state_dict"] = adapter_weights(checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another class or other adapters; say if it was trained with another template."""
        check_class(checkpoint, type(self), "the checkpoint", self.checkpoint_key)
        kept = checkpoint["generator"]["options"]
        check_adapters(kept.get("lora"), self.lora)  # before all weights of the other kind are listed as missing
        super().on_load_checkpoint(checkpoint)
        _compare_templates(kept.get("template"), self.template)

    @classmethod
    def load(cls, path: str | Path, device: Any = "cpu", freeze: bool = True, **overrides: Any) -> Self:
        """See `Restorable.load`; another template than that of the checkpoint is used, and said.

        Of a folder or hub id that says nothing of lengths, `max_seq_len` is at most the positions of the model.
        """
        is_file = Path(path).is_file() and not is_gguf(path)
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
        defaults = PromptFormat()
        positions = None if "max_seq_len" in said else num_positions(path)
        if positions is None or positions >= defaults.max_seq_len:
            return {}
        completion_len = min(defaults.max_completion_len, positions // 2)
        return {"max_seq_len": positions, "max_completion_len": said.get("max_completion_len", completion_len)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; into a model with adapters, exactly its adapters."""
        if self.lora is not None and set(state_dict) != set(adapter_weights(self.state_dict())):
            raise DataError("the checkpoint's adapters are not those of this model; load it with its own lora")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    # ------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Learn from the data how prompts are written, or say that it does otherwise than this model."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, InstructDataModule):
            return
        for found in data.found_templates:  # one, if there is data
            if self.template is None and found is not None:
                rank_zero_info(f"template is that of the data: {found}")
                self._take_template(found)
            elif found != self.template:
                written = found or "a format that no template here writes"
                rank_zero_warn(f"the model was made for template {self.template}, but the data is written in {written}")
        if data.packing:
            check_packing(self.generator)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | dict[str, Tensor],
        labels: Tensor,
        smoothing: Smoothing | None = None,
        **packed: Tensor,
    ) -> Tensor:
        """Return the mean cross entropy of the tokens of completions and their EOS; 0 where there are none.

        Prompts, which are most of a batch, get no logits.

        Args:
            input_ids: int64 (B, L)
            attention_mask: 1 where input_ids is no padding, (B, L); or what may attend to what, (B, 1, L, L),
                or that for each type of layer
            labels: int64 (B, L), -100 on all but completions
            smoothing: of the targets
            packed: position_ids of rows that hold several examples, int64 (B, L)
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **packed}
        is_read = F.pad(labels[:, 1:] != IGNORE_INDEX, (0, 1))  # by the head: each position predicts the next token
        targets = labels[:, 1:][is_read[:, :-1]]
        states = None if self.is_sharded else self._halves.read(**inputs)
        if states is not None:
            return mean_loss(self._halves.logits, states[is_read], targets, self._halves.num_classes, smoothing)
        columns = is_read.any(dim=0).nonzero()[:, 0]
        logits = self.network(**inputs, logits_to_keep=columns, use_cache=False).logits[is_read[:, columns]]
        return mean_loss(lambda some: some, logits, targets, self._halves.num_classes, smoothing)

    def reason_against_flex(self, network: Any) -> str | None:
        return reason_against_blocks(network)

    def laid_out(self, batch: InstructBatch) -> dict[str, Any]:
        if not self.uses_flex:
            return {**batch, "num_targets": int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())}
        take_block_masks()
        return flat_instructions(batch, self._encoder.pad_id)

    def _loss_of_row(self, batch: Mapping[str, Any], smoothing: Smoothing | None) -> Tensor:
        """The mean cross entropy of a batch of `flat_instructions`."""
        masks = packed_blocks(self.generator, batch["segment_ids"])
        inputs = {"input_ids": batch["input_ids"], "attention_mask": masks, "position_ids": batch["position_ids"]}
        places, targets, num_classes = batch["trained_at"], batch["targets"], self._halves.num_classes
        states = self._halves.read(**inputs)
        if states is not None:
            return mean_loss(self._halves.logits, states[0].index_select(0, places), targets, num_classes, smoothing)
        logits = self.network(**inputs, logits_to_keep=places, use_cache=False).logits[0]
        return mean_loss(lambda some: some, logits, targets, num_classes, smoothing)

    def loss_of(self, batch: Any, smoothing: Smoothing | None = None) -> tuple[Tensor, int]:
        if "trained_at" in batch:
            return self._loss_of_row(batch, smoothing), batch["num_targets"]
        labels, packed = batch["labels"], {}
        mask: Tensor | dict[str, Tensor] = batch["attention_mask"]
        if "segment_ids" in batch:
            rows = cast(PackedBatch, batch)
            mask = packed_masks(self.generator, rows["segment_ids"])
            packed = {"position_ids": rows["position_ids"]}
        loss = self(batch["input_ids"], mask, labels, smoothing, **packed)
        return loss, batch["num_targets"] if "num_targets" in batch else int((labels[:, 1:] != IGNORE_INDEX).sum())

    # ------------------------------------------------------------------------------------ inference

    @property
    def max_new_tokens(self) -> int:
        return self.max_completion_len

    def decoding(self) -> Decoding:
        decoding = super().decoding()
        stop = () if self.template is None else get_template(self.template).stop
        return Decoding(**{**vars(decoding), "stop": stop})

    def parse(self, text: str) -> str | None:
        return text.strip() if self.template is None else get_template(self.template).parse(text)

    def write_inputs(self, contexts: Sequence[Context]) -> list[str | None]:
        """The prompt of each state; None where not even the goal fits."""
        if self.template is None:
            return [self._whole_prompt(context.state) for context in contexts]
        template, prompts = get_template(self.template), list[str | None]()
        self._say_what_stays_empty(template)
        headings = self.write_headings(contexts)
        for context, heading, premises in zip(contexts, headings, self._retrieve(contexts), strict=True):
            before = "" if self.sources is None else self.sources.before(*place_of(context), self._max_prompt_len)
            fields = PromptFields(context.state, premises, before, context.theorem_full_name, heading=heading)
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
        if self.premise_source is not None or self.sources is not None or self.parts.reads_theorem:
            raise ConfigError(
                "ret_ckpt_path, sources_path, nearest_path and tell_theorem need a template, which has places "
                "for what they add"
            )
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
