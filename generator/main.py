"""Command line of every generator: `python -m generator.main fit --config configs/quickstart.yaml`."""

from __future__ import annotations

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import ArgsType, LightningArgumentParser

from generator.datamodule import GeneratorDataModule
from generator.model import RetrievalAugmentedGenerator
from generator.prediction_writer import CandidateWriter
from generator.report import report_fit
from retrieval.cli import BaseCLI, run, start

_MODEL = f"{RetrievalAugmentedGenerator.__module__}.{RetrievalAugmentedGenerator.__qualname__}"
_DATA = f"{GeneratorDataModule.__module__}.{GeneratorDataModule.__qualname__}"


class GeneratorCLI(BaseCLI):
    """Model and data of any class, with the encoder-decoder on LeanDojo data as the defaults."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link what model and data must agree on, and set the defaults of every run."""
        parser.set_defaults({"model": _MODEL, "data": _DATA})
        parser.link_arguments("model.init_args.model_name", "data.init_args.model_name")
        for name in ("max_inp_seq_len", "max_oup_seq_len", "max_seq_len", "max_completion_len", "template"):
            parser.link_arguments(f"data.init_args.{name}", f"model.init_args.{name}")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "top1_acc_val",
                "checkpoint.mode": "max",
                "checkpoint.filename": "{step}-{top1_acc_val:.4f}",
                "trainer.logger": {
                    "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": "runs", "name": "generator", "default_hp_metric": False},
                },
            }
        )

    def after_fit(self) -> None:
        """Say what came out of the run."""
        if not self.trainer.interrupted:
            report_fit(self.trainer, self.model, self.datamodule)


def main(args: ArgsType = None) -> GeneratorCLI:
    """Run the command line; `args` replaces it in tests and notebooks.

    Raises:
        NextstepError: for what is wrong with the data or an option
        SystemExit: for a command line or YAML that does not parse
    """
    return start(GeneratorCLI, [CandidateWriter()], args)


def cli() -> None:
    """Run the console script."""
    run(main)


if __name__ == "__main__":
    cli()
