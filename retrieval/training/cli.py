"""What the command lines of retrievers and generators share."""

from __future__ import annotations

import logging
import sys
import warnings
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
from pytorch_lightning.utilities import rank_zero_info

from common import NextstepError
from retrieval.training.checkpoints import Restorable, check_class, class_path, read_checkpoint
from retrieval.training.monitoring import (
    LAST,
    GradientNorm,
    LastCheckpoint,
    RunSummary,
    ThroughputMonitor,
    as_code,
    log_text,
)
from retrieval.training.optimizers import Optimization, with_schedule
from retrieval.training.parser import Parser
from retrieval.training.progress import TimeLeft
from retrieval.training.threads import ThreadAdvice

_CHECKPOINT_WORDS = ("best", "last", "hpc")  # Lightning finds these by itself


class SaveConfig(SaveConfigCallback):
    """Keeps the resolved configuration as config.yaml in the run folder and as text in the logger."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Log the configuration."""
        log_text(pl_module, "config", as_code(self.parser.dump(self.config, skip_none=False)))


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
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": self.monitor,
                "checkpoint.mode": "max",
                "checkpoint.filename": f"{{step}}-{{{self.monitor}:.4f}}",
                "trainer.logger": {
                    "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
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
        chosen = trainer.get("callbacks") or []
        kinds = {type(c) for c in (chosen if isinstance(chosen, list) else [chosen])} - {ModelCheckpoint}
        always = [c for c in self.trainer_defaults["callbacks"] if type(c) not in kinds]
        self.trainer_defaults["callbacks"] = [c for c in always if not isinstance(c, refused)]
        return self._instantiate_trainer(trainer, [c for c in extra if not isinstance(c, refused)])

    @staticmethod
    def configure_optimizers(lightning_module: Any, optimizer: Any, lr_scheduler: Any = None) -> Any:
        """With `--optimizer` and no `--lr_scheduler`, keep the model's warm-up and decay."""
        optimization = getattr(lightning_module, "optimization", None)
        if lr_scheduler is None and isinstance(optimization, Optimization):
            return with_schedule(lightning_module, optimizer, optimization.warmup_steps, optimization.lr_decay)
        return LightningCLI.configure_optimizers(lightning_module, optimizer, lr_scheduler)

    def _parse_ckpt_path(self) -> None:
        """Take the architecture from the checkpoint, and nothing else.

        Lightning would let every saved hyper-parameter win over the command line in silence; here what
        is written in the configuration holds, except the architecture, which the weights decide.
        """
        if not self.config.get("subcommand"):
            return
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if not path or str(path) in _CHECKPOINT_WORDS or str(path).startswith("registry"):
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
            self.config = self.parser.parse_object({self.config.subcommand: {"model": model}}, self.config)


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
    _silence_remarks()
    always = [
        TQDMProgressBar(refresh_rate=10),
        LearningRateMonitor(logging_interval="step"),
        ThroughputMonitor(),
        TimeLeft(),
        ThreadAdvice(),
        GradientNorm(),
        RunSummary(),
        *callbacks,
        LastCheckpoint(),  # for a crash or Ctrl-C also every ten minutes
        ModelCheckpoint(filename=LAST, enable_version_counter=False, train_time_interval=timedelta(minutes=10)),
    ]
    try:
        return cli(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
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


def _silence_remarks() -> None:
    """Do not print Lightning's warnings about its own code, nor its tips to use other products."""
    warnings.filterwarnings("ignore", message=".*(LeafSpec|skip_none|does not have many workers).*")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
