"""Command line of premise retrievers: `python -m retrieval.main fit --config configs/retrieval/quickstart.yaml`."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.cli import ArgsType, LightningArgumentParser
from pytorch_lightning.utilities import rank_zero_only

from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from retrieval.premise_writer import PremiseWriter
from retrieval.training.cli import BaseCLI, start
from retrieval.training.commands import run
from retrieval.training.run_folder import run_folder
from retrieval.training.run_summary import best_checkpoint, evaluation_metrics, last_checkpoint, why_not_validated


class RetrievalCLI(BaseCLI):
    """Model and data of any class, with PremiseRetriever on LeanDojo data as the defaults."""

    default_model = PremiseRetriever
    default_data = RetrievalDataModule
    linked = ("max_seq_len", "premise_form")
    monitor = "Recall@10_val"
    run_name = "retriever"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where predictions go."""
        parser.add_argument(
            "--output_dir",
            type=str | None,
            default=None,
            help="folder that `predict` writes retrieved premises to; predictions/ of the run folder if not given",
        )
        super().add_arguments_to_parser(parser)

    def before_predict(self) -> None:
        """Tell the writer where to write."""
        output_dir = self._get(self.config, "output_dir")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PremiseWriter) and output_dir is not None:
                callback.output_dir = Path(output_dir)

    def after_fit(self) -> None:
        """Say what came out of the run."""
        if not self.trainer.interrupted:
            _report(self, run_folder(self.trainer))


@rank_zero_only
def _report(cli: RetrievalCLI, folder: Path) -> None:
    metrics = {name: value for name, value in evaluation_metrics(cli.trainer).items() if name.endswith("_val")}
    shown = "  ".join(f"{name.removesuffix('_val')} {value:.1%}" for name, value in metrics.items())
    print(f"\nvalidation: {shown or 'none: ' + why_not_validated(cli.trainer)}")
    print(f"metrics:    {folder / 'metrics.json'}")
    if checkpoint := best_checkpoint(cli.trainer) or last_checkpoint(cli.trainer):
        print(f"checkpoint: {checkpoint}")
        print("next:       python -m retrieval.main predict --config CONFIG --ckpt_path CHECKPOINT --output_dir FOLDER")
    print(f"logs:       tensorboard --logdir {folder}")


def main(args: ArgsType = None) -> RetrievalCLI:
    """Run the command line; see `retrieval.training.cli.start`."""
    return start(RetrievalCLI, [PremiseWriter()], args)


def cli() -> None:
    """Run the console script."""
    run(main)


if __name__ == "__main__":
    cli()
