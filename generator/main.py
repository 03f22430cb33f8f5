"""Command line of every generator: `python -m generator.main fit --config configs/quickstart.yaml`."""

from __future__ import annotations

from pytorch_lightning.cli import ArgsType, LightningArgumentParser

from generator.data.dataset import InputLimits
from generator.data.inputs import InputParts, PremiseParts
from generator.data.instruct_dataset import PromptFormat
from generator.datamodule import GeneratorDataModule
from generator.frozen import FrozenTransformerGenerator as FrozenTransformerGenerator  # known by its short name
from generator.model import RetrievalAugmentedGenerator
from generator.search.validation import ProofSearch, report_proof
from generator.training.prediction_writer import CandidateWriter
from generator.training.report import report_fit
from retrieval.training.cli import BaseCLI, start
from retrieval.training.commands import run
from retrieval.training.options import names_of


class GeneratorCLI(BaseCLI):
    """Model and data of any class, with the encoder-decoder on LeanDojo data as the defaults."""

    default_model = RetrievalAugmentedGenerator
    default_data = GeneratorDataModule
    linked = (*names_of(InputLimits, InputParts, PremiseParts, PromptFormat), "domain")
    monitor = "top1_acc_val"
    run_name = "generator"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what only generators do: proofs are searched, if an environment is named."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(ProofSearch, "proof_search")

    def after_fit(self) -> None:
        """Say what came out of the run."""
        if not self.trainer.interrupted:
            report_fit(self.trainer, self.model, self.datamodule)
            report_proof(self.trainer)


def main(args: ArgsType = None) -> GeneratorCLI:
    """Run the command line; see `retrieval.training.cli.start`."""
    return start(GeneratorCLI, [CandidateWriter()], args)


def cli() -> None:
    """Run the console script."""
    run(main)


if __name__ == "__main__":
    cli()
