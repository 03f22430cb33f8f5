"""What every generator shares, whatever its model: how it is trained, judged, watched, saved and asked.

A batch holds texts and provenance as lists: `state`, what the model reads, and `tactic`, what it should write.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from common import Candidate, ConfigError, Context, Premise, check_positive, format_state, load_tokenizer
from generator.decoding.settings import Sampling as Sampling  # an option of every model
from generator.engines import Decoding, Engine, make_engine
from generator.interface.tactic_generator import TacticGenerator, merge_candidates
from generator.training.accelerated import Accelerated
from generator.training.metrics import TopkAccuracy
from generator.training.outcomes import TacticOutcomes, tactic_charts
from generator.training.premise_source import RetrieverOptions
from generator.training.texts import example_card
from generator.training.token_loss import Smoothing
from retrieval.leandojo.provenance import provenances_of
from retrieval.retriever import Retriever
from retrieval.training.acceleration import Acceleration, is_sharded
from retrieval.training.architectures import checkpoint_activations, num_token_ids
from retrieval.training.attention_kernels import varying_shapes
from retrieval.training.batches import target_tokens_per_batch
from retrieval.training.charts import Chart
from retrieval.training.checkpoints import Restorable
from retrieval.training.monitoring import log_text
from retrieval.training.optimizers import Optimization, configure
from retrieval.training.options import flat, flat_options, save_options

_NUM_SHOWN = 3  # examples of an evaluation, as text
_MAX_CURVES = 10  # of top-k in one chart


@dataclass(frozen=True)
class CandidateOptions:
    """Which candidates a model finds; evaluation may choose others than training did.

    Attributes:
        num_beams: beams, and so candidates, in validation, test and predict
        length_penalty: candidates rank by log-probability / length ** this; 0 is their probability
        sampling: draw candidates instead of searching for the best ones
    """

    num_beams: int = 8
    length_penalty: float = 0.0
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        check_positive(num_beams=self.num_beams)
        if not abs(self.length_penalty) <= 100:  # NaN neither; the power of a length would have no end
            raise ConfigError(
                f"length_penalty is {self.length_penalty}; it must be from -100 to 100, and is mostly 0 or 1"
            )
        sampling: Any = self.sampling
        if isinstance(sampling, Mapping):  # of a checkpoint
            object.__setattr__(self, "sampling", Sampling(**sampling))


class NextStepGenerator(TacticGenerator, Accelerated, Restorable):
    """A model that writes tactics, as a Lightning module.

    A subclass builds its network and hands it to `take_network`, and gives the loss of a batch (`loss_of`) and the
    model's input for a state (`write_inputs`). The attribute `engine` is what finds candidates in validation, test,
    prediction and `generate` alike.

    Attributes:
        optimization: how it is trained
        candidates: which candidates evaluation finds
        premise_source: where `generate` gets premises from, if it does; data brings its own
        smoothing: of the targets in training, if there is any
        num_shortened: states over the limit that `generate` has met; waiting goals or oldest hypotheses were left out
    """

    checkpoint_key: ClassVar[str] = "generator"
    engine: Engine

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        optimization: Optimization = Optimization(),
        acceleration: Acceleration = Acceleration(),
        candidates: CandidateOptions = CandidateOptions(),
        retriever: RetrieverOptions = RetrieverOptions(),
        engine: str = "native",
        engine_options: dict[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        label_smoothing: float = 0.0,
        log_text_every_n_steps: int = 500,
    ) -> None:
        """Keep the options and load the tokenizer.

        Args:
            model_name: see the subclass
            optimization: how it is trained
            acceleration: how training uses a GPU
            candidates: which candidates evaluation finds
            retriever: which premises `generate` retrieves
            engine: what decodes: "native", "transformers", for encoder-decoders "ctranslate2", for decoder-only models
                "vllm"; see generator.engines
            engine_options: what the engine's constructor takes, such as compute_type: int8 of "ctranslate2",
                cuda_graphs: false or max_graph_share: 0.3 of "native", or gpu_memory_utilization of "vllm"
            gradient_checkpointing: recompute activations in the backward pass; less memory, a third slower
            label_smoothing: share of each target, from 0 to below 1, that is spread over all tokens alike in training;
                loss_train has it in it, loss_val has not
            log_text_every_n_steps: how often an input and its target are logged as text in training
        """
        super().__init__()
        check_positive(log_text_every_n_steps=log_text_every_n_steps)
        # what evaluation may choose otherwise than training did is no hyper-parameter
        if not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing is {label_smoothing}; it must be at least 0 and below 1, and is mostly 0 or 0.1"
            )
        training = {"gradient_checkpointing": gradient_checkpointing, "label_smoothing": label_smoothing}
        save_options(self, flat(optimization, acceleration, model_name=model_name, **training))
        self.model_name = model_name
        self.name = model_name if isinstance(model_name, str) else ""
        self.optimization, self.acceleration, self.candidates = optimization, acceleration, candidates
        self.premise_source = retriever.source()
        self.reads_theorem = self.premise_source is not None
        self.log_text_every_n_steps = log_text_every_n_steps
        self.num_shortened = 0
        self.tokenizer = load_tokenizer(model_name)
        self.smoothing = Smoothing(label_smoothing, num_token_ids(self.tokenizer)) if label_smoothing else None
        self.topk_val = TopkAccuracy(candidates.num_beams)
        self.topk_test = TopkAccuracy(candidates.num_beams)
        self.outcomes_val = TacticOutcomes(candidates.num_beams)
        self.outcomes_test = TacticOutcomes(candidates.num_beams)
        self._engine = engine, engine_options or {}
        self._checkpoints_activations = gradient_checkpointing
        self._tokens_per_batch: float | None = None  # target tokens, over an epoch

    def take_network(self, network: Any, max_inp_seq_len: int) -> None:
        """Train and decode with a network of transformers.

        Args:
            network: with a language-modelling head
            max_inp_seq_len: tokens of an input, at most
        """
        self.generator = network.train()  # transformers loads in evaluation mode, and Lightning trains in what it finds
        if self._checkpoints_activations:
            checkpoint_activations(network)
        self._accelerate(network, max_inp_seq_len, self._checkpoints_activations)
        name, options = self._engine
        self.engine = make_engine(name, network, self.tokenizer, max_inp_seq_len=max_inp_seq_len, **options)

    @abstractmethod
    def loss_of(self, batch: Any, smoothing: Smoothing | None = None) -> tuple[Tensor, int]:
        """Return the mean cross entropy of a batch's target tokens, and how many they are.

        Args:
            batch: as the data gives it, or as `prepare_batch` lays it out
            smoothing: of the targets; training asks for it, what measures does not
        """

    @abstractmethod
    def write_inputs(self, contexts: Sequence[Context]) -> Sequence[str | None]:
        """Return the model's input for each state; None where no input can hold it, for which there are no tactics."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """Tokens of a candidate, EOS included."""

    def parse(self, text: str) -> str | None:
        """Return the tactic that the model's text holds, None if it holds none."""
        return text

    def decoding(self) -> Decoding:
        """How the engine is to find candidates."""
        asked = self.candidates
        return Decoding(self.max_new_tokens, length_penalty=asked.length_penalty, sampling=asked.sampling)

    @torch.no_grad()
    def decode(self, inputs: Sequence[str | None], num_candidates: int) -> list[list[Candidate]]:
        """Return at most num_candidates candidates for each input, best first, each once; none for no input.

        Args:
            inputs: whole, as data writes them (`state` of its examples) and `propose` does
            num_candidates: for each
        """
        asked = [text for text in inputs if text]
        found = self.engine.propose(asked, num_candidates, self.decoding()) if asked else []
        parsed = [[(self.parse(text), log_prob) for text, log_prob in texts] for texts in found]
        merged = (merge_candidates((tactic, p) for tactic, p in texts if tactic is not None) for texts in parsed)
        return [next(merged) if text else [] for text in inputs]

    def kept_options(self) -> dict[str, Any]:
        """See `Restorable`: the settings of formatting and decoding, as plain values."""
        return flat(self.candidates)

    # ------------------------------------------------------------------------------------- training

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See Restorable; what was learnt is held against what the data says now."""
        super().on_load_checkpoint(checkpoint)
        datamodule: Any = getattr(self._trainer, "datamodule", None)
        if hasattr(datamodule, "compare_targets"):
            datamodule.compare_targets(checkpoint.get(datamodule.CHECKPOINT_HYPER_PARAMS_KEY, {}))

    def on_train_start(self) -> None:
        """Ask how many target tokens a batch has on average; compile the layers."""
        self._compile()
        self._tokens_per_batch = target_tokens_per_batch(self.trainer.train_dataloader, self.trainer.world_size)

    def on_fit_start(self) -> None:
        """Refuse engines that would validate with the weights of some earlier step."""
        if not self.engine.is_live:
            raise ConfigError(
                f"engine {self.engine.name} reads a converted copy of the weights, which training would leave behind; "
                "train with engine native or transformers, and choose it for validate, test, predict and generate"
            )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step; the loss is averaged over an epoch by target tokens."""
        loss, num_tokens = self.loss_of(batch, self.smoothing)
        self.log(
            "loss_train",
            loss,
            on_step=True,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=num_tokens,
        )
        if self.global_step % self.log_text_every_n_steps == 0 and batch_idx % self._accumulated() == 0:
            self._log_io_texts("train", batch)
        return loss * self._weight(num_tokens)

    def _weight(self, num_tokens: int) -> float:
        """Return the factor of a batch's loss: its share of target tokens, or 1 where a step has one batch alone.

        The gradients of the batches and ranks that make a step together are averaged, each batch alike. With this
        factor each target token counts alike instead, whether its batch has many or few of them.
        """
        if self._accumulated() * self.trainer.world_size == 1 or self._tokens_per_batch is None:
            return 1.0
        return num_tokens / self._tokens_per_batch

    def _accumulated(self) -> int:
        return int(self.trainer.accumulate_grad_batches)

    def configure_optimizers(self) -> Any:
        """As the options say; the command line's `--optimizer` replaces it."""
        return configure(self, self.optimization)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer says; under FSDP by the norm over all shards, which Lightning leaves to the module."""
        if isinstance(self.trainer.strategy, FSDPStrategy) and gradient_clip_val and gradient_clip_algorithm != "value":
            self.trainer.model.clip_grad_norm_(gradient_clip_val)  # type: ignore[union-attr, operator]
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # ----------------------------------------------------------------------------------- evaluation

    @property
    def is_sharded(self) -> bool:
        """Whether no rank has whole weights to decode with, and ranks would have to take equally many steps."""
        return is_sharded(self)

    def on_validation_start(self) -> None:
        """Say what is missing where weights are sharded."""
        if self.is_sharded:
            rank_zero_info("weights are sharded, so only the loss is validated; `validate` the checkpoint for top-k")

    def on_predict_start(self) -> None:
        """Refuse what cannot be decoded."""
        if self.is_sharded:
            raise ConfigError("predict needs whole weights, and this strategy shards them; use ddp, or one device")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss, and beam search as in inference."""
        self._evaluate("val", self.topk_val, self.outcomes_val, batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """As in validation."""
        self._evaluate("test", self.topk_test, self.outcomes_test, batch, batch_idx)

    def _evaluate(self, split: str, topk: TopkAccuracy, outcomes: TacticOutcomes, batch: Any, batch_idx: int) -> None:
        with varying_shapes():
            loss, num_tokens = self.loss_of(batch)
        self.log(f"loss_{split}", loss, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=num_tokens)
        if self.is_sharded:
            return
        candidates = self.decode(batch["state"], self.candidates.num_beams)
        topk.update([[tactic for tactic, _ in proposed] for proposed in candidates], batch["tactic"])
        outcomes.observe(candidates, batch["tactic"], batch.get("proof_state", batch["state"]))
        if batch_idx == 0:
            self._log_io_texts(split, batch, candidates)

    def on_validation_epoch_end(self) -> None:
        """Log top-k accuracy for every k."""
        self._log_topk("val", self.topk_val)
        self.outcomes_val.reset()

    def on_validation_end(self) -> None:
        """Leave the memory that decoding keeps to training; behind other evaluations the model leaves the device."""
        self.engine.release()

    on_test_end = on_predict_end = on_validation_end

    def on_test_epoch_end(self) -> None:
        """Log top-k accuracy for every k."""
        self._log_topk("test", self.topk_test)
        self.outcomes_test.reset()

    def scalar_charts(self) -> dict[str, list[str]]:
        """See `Charted`."""
        k = self.topk_val.k
        shown = range(1, k + 1) if k <= _MAX_CURVES else [*(i for i in (1, 2, 3, 5, 10, 20, 50, 100) if i < k), k]
        return {"top-k accuracy on val": [f"top{i}_acc_val" for i in shown]}

    def charts(self, split: str) -> dict[str, Chart]:
        """See `Charted`."""
        if self.is_sharded:
            return {}
        return tactic_charts((self.outcomes_val if split == "val" else self.outcomes_test).counts())

    def _log_topk(self, split: str, topk: TopkAccuracy) -> None:
        if self.is_sharded:
            return
        for k, accuracy in enumerate(topk.curve(), start=1):
            # already reduced over ranks
            self.log(f"top{k}_acc_{split}", accuracy, prog_bar=k in (1, topk.k), rank_zero_only=False)
        topk.reset()

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return a record for each example: where it is from, its tactic, and the candidates."""
        candidates = self.decode(batch["state"], self.candidates.num_beams)
        provenances = provenances_of(batch)
        return [
            {
                **provenances[i].to_record(),
                "state": batch["state"][i],
                "tactic": batch["tactic"][i],
                "candidates": [{"tactic": t, "log_prob": log_prob} for t, log_prob in proposed],
            }
            for i, proposed in enumerate(candidates)
        ]

    def _log_io_texts(self, split: str, batch: Any, candidates: Sequence[Sequence[Candidate]] | None = None) -> None:
        """Log an input and its target as text, or, where there are candidates, some with the right one marked."""
        for i in range(min(_NUM_SHOWN if candidates is not None else 1, len(batch["state"]))):
            card = example_card(batch["state"][i], batch["tactic"][i], None if candidates is None else candidates[i])
            log_text(self, f"examples_{split}/{i}", card)

    # ------------------------------------------------------------------------------------ inference

    def initialize(self) -> None:
        """Load the retriever, if there is one, and its index; else the first `generate` does."""
        if self.premise_source is not None:
            self.premise_source.load(self.device)

    @property
    def retriever(self) -> Retriever | None:
        """See `TacticGenerator`; the first access loads it and its corpus, and embeds nothing."""
        return None if self.premise_source is None else self.premise_source.retriever(self.device)

    def _retrieve(self, contexts: Sequence[Context]) -> list[list[Premise]]:
        """Premises for each context, best first; none without a retriever."""
        if self.premise_source is None:
            return [[] for _ in contexts]
        return self.premise_source.retrieve(contexts, self.device)

    def _count_shortened(self, num_shortened: int) -> None:
        """Count inputs that lost something to the limit; say so at the first."""
        if num_shortened and not self.num_shortened:
            warnings.warn(
                f"a state is over the limit and was shortened; {self.name or 'the model'}.num_shortened counts",
                stacklevel=4,
            )
        self.num_shortened += num_shortened

    @torch.no_grad()
    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`."""
        formatted = [replace(context, state=format_state(context.state)) for context in contexts]
        return self.decode(self.write_inputs(formatted), num_candidates)
