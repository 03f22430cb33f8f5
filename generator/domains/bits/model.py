"""`BitModel`: new input and output layers on a body that was trained for language, or on none that was trained at all.

Shape legend: B batch, T symbols of a specification, n bits of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from common import ByteTokenizer, Candidate, ConfigError, Context, check_choice
from generator.architectures.encoder_decoder import describe
from generator.architectures.frozen import (
    BodyOptions,
    FreezePolicy,
    Role,
    build_body,
    freeze,
    group_sizes,
    roles_of,
    table_of,
)
from generator.decoding.settings import Decoding
from generator.domains import make_domain
from generator.domains.bits.datamodule import BitBatch, BitDataModule, tensors_of
from generator.domains.bits.engine import BitEngine
from generator.domains.bits.network import BitNetwork, LayerOptions
from generator.domains.bits.proposals import log_probs_of
from generator.domains.bits.stopping import OnlineAccuracy, Stopping, StopWhenLearnt
from generator.domains.bits.tasks import BitTask
from generator.domains.datamodule import DomainDataModule
from generator.interface.tactic_generator import TacticGenerator
from retrieval.leandojo.provenance import provenances_of
from retrieval.training.charts import Chart, Heatmap
from retrieval.training.checkpoints import Restorable, absolute
from retrieval.training.monitoring import log_text
from retrieval.training.optimizers import Optimization, configure
from retrieval.training.options import flat, flat_options, save_options

_NUM_FOR_ATTENTION = 64  # problems whose attention is shown, on average
_MAX_POSITIONS_SHOWN = 256
_NUM_READ = 64  # fresh problems together


class BitModel(TacticGenerator, Restorable):
    """Answers a bit task at the end of one pass through a body, each bit on its own.

    As a `TacticGenerator` it proposes the most probable strings, exactly. Accuracies are shares of bits, but for
    `solved@1`, the share of answers that are right as a whole. `online_acc` is that of training batches, before they
    were trained on, on average over the last `window`.

    Source: Lu et al. 2021 (arXiv:2103.05247).

    Attributes:
        task: what it is for
        network: the layers
        roles: of the network's parameters, by name
        online: the accuracy of training, and how much there was of it
    """

    checkpoint_key: ClassVar[str] = "generator"
    reads_theorem = False

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        domain: str = "bit_xor",
        optimization: Optimization = Optimization(lr=1e-3, warmup_steps=0),
        body: BodyOptions = BodyOptions(),
        policy: FreezePolicy = FreezePolicy(),
        layers: LayerOptions = LayerOptions(),
        stopping: Stopping = Stopping(),
        engine: str = "native",
    ) -> None:
        """Build the model.

        Args:
            model_name: the body: hub id, Hugging Face folder or .gguf file of a decoder-only model; or an architecture,
                a mapping or YAML file with transformers' `model_type` and its configuration's keys, whose weights are
                drawn
            domain: bit_xor or bit_memory; that of the data
            optimization: how it is trained
            body: what is taken of it
            policy: which parts are trained. A linear probe, whose output layer alone is trained, has trained_groups []
                and train_input false
            layers: the new layers
            stopping: when training ends
            engine: there is "native" alone

        Raises:
            ConfigError: if there is no such body, or an option does not fit it
        """
        super().__init__()
        check_choice("engine", engine, (BitEngine.name,))
        model_name = absolute(model_name)
        task = make_domain(domain)
        if not isinstance(task, BitTask):
            raise ConfigError(f"domain is {domain!r}; BitModel is for bit_xor and bit_memory")
        save_options(self, flat(optimization, body, policy, layers, stopping, model_name=model_name, domain=domain))
        self.model_name, self.task = model_name, task
        self.name = model_name if isinstance(model_name, str) else ""
        self.tokenizer = ByteTokenizer(0)  # of the texts that checkpoints and prompts hold; the model reads numbers
        self.optimization, self.stopping = optimization, stopping
        self.network = BitNetwork(build_body(model_name, body), task, layers)
        self.roles = self._roles()
        freeze(self.network, self.roles, policy)
        self.online = OnlineAccuracy(stopping.window)
        self.engine = BitEngine(self.read)
        self._attention: Tensor | None = None  # of the last evaluation, (L, L)

    def _roles(self) -> dict[str, Role]:
        own: dict[str, Role] = {"input_layer": "input", "head": "output"}
        of_body = {f"body.{name}": role for name, role in roles_of(self.network.body).items()}
        return {name: of_body.get(name) or own[name.split(".")[0]] for name, _ in self.network.named_parameters()}

    # ---------------------------------------------------------------------------------- checkpoints

    def architecture(self) -> dict[str, Any]:
        """See `Restorable`."""
        return describe(self.network.body)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what `load` needs, and how far training has come."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["online_accuracy"] = self.online.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `Restorable`."""
        super().on_load_checkpoint(checkpoint)
        self.online.load_state_dict(checkpoint["online_accuracy"])

    # ------------------------------------------------------------------------------------- training

    def configure_callbacks(self) -> list[pl.Callback]:
        """Bring what ends the run."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
        has_one = any(isinstance(callback, StopWhenLearnt) for callback in callbacks)
        return [*super().configure_callbacks(), *([] if has_one else [StopWhenLearnt(self.stopping)])]

    def configure_optimizers(self) -> Any:
        """As the options say; frozen parameters are in no optimizer."""
        return configure(self, self.optimization)

    def setup(self, stage: str) -> None:
        """Refuse data of another kind, and bits that do not fit the body."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, DomainDataModule) and not isinstance(data, BitDataModule):
            raise ConfigError(
                "BitModel reads numbers; set data.class_path to generator.domains.bits.datamodule.BitDataModule"
            )
        if isinstance(data, BitDataModule) and data.problems.data_path is None:
            task: Any = data.domain
            self.network.check_length(task.num_symbols_drawn, task.options.n)

    def on_fit_start(self) -> None:
        """Say what is trained."""
        table = table_of(group_sizes(self.network, self.roles))
        rank_zero_info(table)
        log_text(self, "parameters", table)

    def on_train_start(self) -> None:
        """Start the clock."""
        self.online.start()

    def forward(self, inputs: Tensor, num_bits: int) -> Tensor:
        """Return float32 logits of 0 and of 1 for each bit of the answer, (B, n, 2).

        Args:
            inputs: symbols of specifications by their numbers, int64 (B, T)
            num_bits: n
        """
        logits: Tensor = self.network(inputs, num_bits).float()
        return logits

    def _loss_and_hits(self, batch: BitBatch) -> tuple[Tensor, Tensor]:
        """The mean cross entropy of a batch's bits, and which of them are right, bool (B, n)."""
        targets = batch["targets"]
        logits = self(batch["inputs"], targets.shape[1])
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), logits.argmax(dim=-1) == targets

    def loss_of(self, batch: BitBatch) -> tuple[Tensor, int]:
        """Return the mean cross entropy of a batch's bits, and how many they are."""
        return self._loss_and_hits(batch)[0], batch["targets"].numel()

    def training_step(self, batch: BitBatch, batch_idx: int) -> Tensor:
        """One step; the accuracy is that of the answers that the step learns from."""
        loss, hits = self._loss_and_hits(batch)
        accuracy, num_samples = hits.float().mean(), hits.shape[0]
        if self.trainer.world_size > 1:
            accuracy, num_samples = self.trainer.strategy.reduce(accuracy), num_samples * self.trainer.world_size
        self.online.observe(float(accuracy), num_samples)
        self.log("loss_train", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(hits))
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Count what the step is made of."""
        self.online.step()
        self.log("online_acc", self.online.value, prog_bar=True, rank_zero_only=True)
        self.log("num_samples", float(self.online.num_samples), rank_zero_only=True)

    # ----------------------------------------------------------------------------------- evaluation

    def validation_step(self, batch: BitBatch, batch_idx: int) -> None:
        """Loss, share of bits and share of answers that are right."""
        self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: BitBatch, batch_idx: int) -> None:
        """As in validation."""
        self._evaluate("test", batch, batch_idx)

    def _evaluate(self, split: str, batch: BitBatch, batch_idx: int) -> None:
        loss, hits = self._loss_and_hits(batch)
        options: dict[str, Any] = {"on_epoch": True, "sync_dist": True, "batch_size": len(hits)}
        self.log(f"loss_{split}", loss, prog_bar=True, **options)
        self.log(f"acc_{split}", hits.float().mean(), prog_bar=True, **options)
        self.log(f"solved@1_{split}", hits.all(dim=1).float().mean(), **options)
        if batch_idx == 0:
            inputs = batch["inputs"][:_NUM_FOR_ATTENTION]
            self._attention = self.network.first_attention(inputs, hits.shape[1])

    @torch.no_grad()
    def fresh_accuracy(self, num_bits: int) -> float:
        """Return the share of bits that are right, of about so many in problems of val that nothing else draws.

        They follow from the data's seed and from the step, so that each time they are others.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        options = data.domain.options
        seed = data.batching.seed
        problems = [
            data.domain.problem(seed, "val", index, 1 + self.global_step) for index in range(-(-num_bits // options.n))
        ]
        num_right, was_training = 0, self.network.training
        self.network.eval()
        for start in range(0, len(problems), _NUM_READ):
            some = problems[start : start + _NUM_READ]
            answers = self.read([problem.spec for problem in some]).argmax(axis=2)
            right = np.stack([self.task.symbol_ids(problem.program) for problem in some])
            num_right += int((answers == right).sum())
        self.network.train(was_training)
        return num_right / (len(problems) * int(options.n))

    def scalar_charts(self) -> dict[str, list[str]]:
        """See `Charted`."""
        return {"share of bits that are right": ["online_acc", "acc_val"], "answers": ["solved@1_val"]}

    def charts(self, split: str) -> dict[str, Chart]:
        """See `Charted`: where the first layer looks."""
        if self._attention is None or len(self._attention) > _MAX_POSITIONS_SHOWN:
            return {}
        rows = tuple(map(tuple, self._attention.cpu().tolist()))
        title = "Attention of the first layer"
        return {"attention": Heatmap(title, "positions", "looks at position", "position", rows)}

    def run_facts(self) -> dict[str, Any]:
        """Return what metrics.json tells of the run beside its metrics: see `StopWhenLearnt` too."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
        learnt = next((each.learnt for each in callbacks if isinstance(each, StopWhenLearnt)), {})
        sizes = group_sizes(self.network, self.roles)
        return {
            "num_samples": self.online.num_samples,
            "train_seconds": round(self.online.seconds, 1),
            "online_acc": self.online.value,
            **learnt,
            "num_parameters": sizes[-1].num_parameters,
            "num_trained": sizes[-1].num_trained,
        }

    # ------------------------------------------------------------------------------------ inference

    @torch.no_grad()
    def read(self, specs: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return log-probabilities of 0 and of 1 at each place of the answers, float64 (B, n, 2).

        Args:
            specs: texts with equally many strings of one length

        Raises:
            SpecError: if one is no specification of the task
        """
        lengths = {len(self.task.read_spec(spec)[0]) for spec in specs}
        inputs = torch.from_numpy(np.stack([self.task.symbol_ids(spec) for spec in specs])).to(self.device)
        return log_probs_of(self(inputs, lengths.pop()))

    def _best(self, specs: Sequence[str]) -> list[Candidate]:
        return [candidates[0] for candidates in self.engine.propose(specs, 1, self.decoding())]

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """See `TacticGenerator.propose`: the most probable strings of bits, exactly."""
        return self.engine.propose(self.write_inputs(contexts), num_candidates, self.decoding())

    def write_inputs(self, contexts: Sequence[Context]) -> list[str]:
        """Return the specifications, which are read as they are."""
        return [context.state for context in contexts]

    def decoding(self) -> Decoding:
        """Return how candidates are found: the best ones."""
        return Decoding()

    def parse(self, text: str) -> str | None:
        """Return the answer that a candidate is."""
        return text

    def batch_of(self, text: str, program: str) -> Mapping[str, Any]:
        """Return a batch of one problem."""
        return tensors_of(self.task, [text], [program])

    def predict_step(self, batch: BitBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return a record for each example: where it is from, its answer, and the most probable one."""
        found = self._best(batch["state"])
        return [
            {
                **place.to_record(),
                "state": batch["state"][i],
                "tactic": batch["tactic"][i],
                "candidates": [{"tactic": found[i][0], "log_prob": found[i][1]}],
            }
            for i, place in enumerate(provenances_of(batch))
        ]
