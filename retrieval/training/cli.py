"""What the command lines of retrievers and generators share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    TQDMProgressBar,
)
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_info

from common import ConfigError, NextstepError
from retrieval.training.best_checkpoint import BestCheckpoint, TimedCheckpoint
from retrieval.training.board import Board
from retrieval.training.checkpoint_files import WholeFileCheckpointIO
from retrieval.training.checkpoints import Restorable, check_class, class_path, read_checkpoint, unusable
from retrieval.training.compile_time import CompileTime
from retrieval.training.data_wait import DataWait
from retrieval.training.divergence import Divergence
from retrieval.training.find_checkpoint import WORDS, find_checkpoint, is_queued_again
from retrieval.training.interruption import Interruption, ended_by_signals
from retrieval.training.last_checkpoint import LAST, LastCheckpoint
from retrieval.training.markdown import as_code
from retrieval.training.monitoring import GradientNorm, ModelSize, ThroughputMonitor, log_text
from retrieval.training.optimizers import Optimization, with_schedule
from retrieval.training.parser import Parser
from retrieval.training.progress import TimeLeft
from retrieval.training.remarks import prepare
from retrieval.training.resume import ResumePoint
from retrieval.training.run_folder import new_run_folder, run_folder, write_config
from retrieval.training.run_summary import RunSummary
from retrieval.training.threads import ThreadAdvice


class SaveConfig(SaveConfigCallback):
    """Keeps the resolved configuration as config.yaml in the run folder and as text in the logger."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the file, beside one that is there already."""
        folder = run_folder(trainer)  # asked for by all ranks
        if trainer.is_global_zero and not self.already_saved:
            write_config(folder, self.parser.dump(self.config, skip_none=False))
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Log the configuration; TensorBoard, which sorts by name, shows it after the examples."""
        log_text(pl_module, "run_config", as_code(self.parser.dump(self.config, skip_none=False)))


class BaseCLI(LightningCLI):
    """Model and data of any class; evaluation takes nothing but the architecture from a checkpoint.

    Attributes:
        default_model: the model, if none is chosen
        default_data: the data, if none are chosen
        linked: options of the data that the model takes over
        monitor: metric of the best checkpoint; higher is better
        run_name: of the folder in runs/
    """

    default_model: ClassVar[type[pl.LightningModule]]
    default_data: ClassVar[type[pl.LightningDataModule]]
    linked: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]
    run_name: ClassVar[str]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what model and data must agree on, and set the defaults of every run."""
        parser.set_defaults({"model": class_path(self.default_model), "data": class_path(self.default_data)})
        parser.link_arguments("model.init_args.model_name", "data.init_args.model_name")
        for name in self.linked:
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": self.monitor,
                "checkpoint.mode": "max",
                "checkpoint.filename": f"{{step}}-{{{self.monitor}:.4f}}",
                "trainer.logger": {
                    "class_path": "retrieval.training.tensorboard.TensorBoard",
                    "init_args": {"save_dir": "runs", "name": self.run_name, "default_hp_metric": False},
                },
            }
        )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Leave out the callbacks that the chosen trainer refuses, or that the configuration has with other options."""
        trainer = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        switches = {
            "logger": LearningRateMonitor,
            "enable_progress_bar": ProgressBar,
            "enable_checkpointing": Checkpoint,
        }
        refused = tuple(kind for option, kind in switches.items() if trainer.get(option) is False)
        extra = [self._get(self.config_init, key) for key in self._parser(self.subcommand).callback_keys]
        if trainer.get("enable_model_summary") is None:
            trainer["enable_model_summary"] = False
            extra.append(ModelSize())
        chosen = trainer.get("callbacks") or []
        kinds = {type(c) for c in (chosen if isinstance(chosen, list) else [chosen])} - {ModelCheckpoint}
        always = [c for c in self.trainer_defaults["callbacks"] if type(c) not in kinds]
        self.trainer_defaults["callbacks"] = [c for c in always if not isinstance(c, refused)]
        if self.subcommand and (trainer.get("logger") is False or trainer.get("fast_dev_run")):
            trainer["default_root_dir"] = new_run_folder(Path(trainer.get("default_root_dir") or "runs"), self.run_name)
        made = self._instantiate_trainer(trainer, [c for c in extra if not isinstance(c, refused)])
        if type(made.strategy.checkpoint_io) is TorchCheckpointIO:
            made.strategy.checkpoint_io = WholeFileCheckpointIO()
        return made

    @staticmethod
    def configure_optimizers(lightning_module: Any, optimizer: Any, lr_scheduler: Any = None) -> Any:
        """With `--optimizer` and no `--lr_scheduler`, keep the model's warm-up and decay."""
        optimization = getattr(lightning_module, "optimization", None)
        if lr_scheduler is None and isinstance(optimization, Optimization):
            return with_schedule(lightning_module, optimizer, optimization.warmup_steps, optimization.lr_decay)
        return LightningCLI.configure_optimizers(lightning_module, optimizer, lr_scheduler)

    def _parse_ckpt_path(self) -> None:
        """Find and check the checkpoint, and take the architecture from it, and nothing else.

        Lightning would let every saved hyper-parameter win over the command line in silence; here what
        is written in the configuration holds, except the architecture, which the weights decide.
        """
        self._architecture_from = ""
        if not self.config.get("subcommand"):
            return
        config = self.config[self.config.subcommand]
        config["ckpt_path"] = path = self._find_checkpoint(config)
        if not path or path.startswith("registry"):
            return
        if Path(path).is_dir():  # a sharded checkpoint of FSDP or DeepSpeed
            return
        checkpoint = read_checkpoint(path)
        expected = _class_of(config.model)
        check_class(checkpoint, expected, path, expected.checkpoint_key)
        saved = checkpoint.get("hyper_parameters", {}).get("model_name")
        if saved is not None and saved != config.model.init_args.model_name:
            rank_zero_info(f"model_name is taken from {path}: {saved}")
            model = {"class_path": config.model.class_path, "init_args": {"model_name": saved}}
            if "data.init_args.model_name" in config:  # the old one, which a link put there
                del config["data.init_args.model_name"]
            self._architecture_from = path
            self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)

    def _find_checkpoint(self, config: Any) -> str | None:
        """The path that ckpt_path gives, or means by a word; or that of a job that SLURM has queued again."""
        word = None if config.get("ckpt_path") is None else str(config["ckpt_path"])
        if word is None and self.config.subcommand == "fit" and is_queued_again(config.trainer, self.run_name):
            word = "hpc"
        if word not in WORDS:
            return word
        try:
            path = str(find_checkpoint(word, config.trainer, self.run_name))
        except ConfigError as error:
            if word != "last" or self.config.subcommand != "fit":
                raise
            rank_zero_info(f"{error}. This is the first run of its name, and starts from the beginning")
            return None
        rank_zero_info(f"ckpt_path {word}: {path}")
        return path

    def instantiate_classes(self) -> None:
        """Say which checkpoint a model is from that cannot be made."""
        try:
            super().instantiate_classes()
        except (TypeError, AttributeError, KeyError, RuntimeError) as error:
            if not self._architecture_from:
                raise
            raise unusable(self._architecture_from, error) from error


def _class_of(config: Any) -> type[Restorable]:
    module, _, name = str(config.class_path).rpartition(".")
    found: type[Restorable] = getattr(sys.modules[module], name)
    return found


_CLI = TypeVar("_CLI", bound=BaseCLI)


def start(cli: type[_CLI], callbacks: Sequence[Callback], args: ArgsType, run: bool = True) -> _CLI:
    """Run a command line.

    Args:
        cli: which
        callbacks: of every run, beside those that all command lines have
        args: replaces the command line in tests and notebooks
        run: False only makes trainer, model and data; args are then without a subcommand

    Raises:
        NextstepError: for what is wrong with the data or an option
        SystemExit: for a command line or YAML that does not parse
    """
    prepare()
    always = [
        TQDMProgressBar(refresh_rate=10),
        LearningRateMonitor(logging_interval="step"),
        ThroughputMonitor(),
        DataWait(),
        CompileTime(),
        TimeLeft(),
        ThreadAdvice(),
        GradientNorm(),
        Divergence(),
        ResumePoint(),
        Interruption(),  # saves before the summary says what there is
        RunSummary(),
        Board(),
        *callbacks,
        LastCheckpoint(),  # for a crash also every ten minutes
        TimedCheckpoint(filename=LAST, enable_version_counter=False, train_time_interval=timedelta(minutes=10)),
    ]
    try:
        with ended_by_signals():
            return cli(
                pl.LightningModule,
                pl.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                parser_class=Parser,
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults={"callbacks": always},
                seed_everything_default=3407,
                # checkpoints hold plain hyper-parameters, so that they load without this command line
                load_from_checkpoint_support=False,
                args=args,
                run=run,
            )
    except ValueError as error:
        # jsonargparse wraps what a constructor raises into a list of types that did not fit
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, NextstepError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
