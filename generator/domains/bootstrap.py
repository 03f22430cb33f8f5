"""The command `bootstrap`: a model learns from few pairs, then from those of its own programs that the checker accepts.

Each round draws programs for specifications whose own program it never sees, keeps what holds, trains on all pairs so
far, and is measured. `round-<r>/` of the output folder holds `pairs.jsonl`, `model.ckpt` and, at last, `metrics.json`:
a command that was interrupted goes on with the round that lacks it, and ends as if it had not been.

Source: expert iteration, Anthony et al. 2017 (arXiv:1705.08439); STaR, Zelikman et al. 2022 (arXiv:2203.14465).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from common import ConfigError, DataError, check_positive
from generator.causal import CausalGenerator
from generator.domains.base import Domain, Problem
from generator.domains.choices import DomainChoice
from generator.domains.datamodule import DomainDataModule
from generator.domains.model_writer import MAX_BLOCK, SampleWriter
from generator.domains.problem_files import read_problems
from generator.domains.writers import stable_seed
from generator.model import RetrievalAugmentedGenerator
from retrieval.training.checkpoint_files import WholeFileCheckpointIO
from retrieval.training.checkpoints import class_path, read_checkpoint
from retrieval.training.datamodule import Split
from retrieval.training.files import one_at_a_time, write_json, writing_file
from retrieval.training.options import flat_options, options_of
from retrieval.training.tensorboard import TensorBoard

FORMAT_VERSION = 1
_MODELS = {class_path(kind): kind for kind in (RetrievalAugmentedGenerator, CausalGenerator)}
_SETTINGS = "bootstrap.json"
_GROUP = 64  # specifications that are drawn for together


@dataclass(frozen=True)
class RoundOptions:
    """What a round is.

    Attributes:
        num_pairs: specifications with programs to begin with
        num_rounds: after the first, which has these pairs alone
        num_specs: specifications that each round draws programs for, always new ones
        num_samples: programs that are drawn for each
        max_kept: different programs of a specification that are kept, those drawn first
        num_steps: optimizer steps of a round
        from_scratch: begin each round with new weights, instead of those of the round before
        num_val: problems that each round is measured on
        num_proposals: programs that are drawn for each of them
        seed: of problems, programs and weights
        device: cpu, gpu or auto
    """

    num_pairs: int = 200
    num_rounds: int = 5
    num_specs: int = 2000
    num_samples: int = 8
    max_kept: int = 2
    num_steps: int = 400
    from_scratch: bool = False
    num_val: int = 300
    num_proposals: int = 20
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        names = ("num_pairs", "num_specs", "max_kept", "num_steps", "num_val")
        check_positive(**{name: getattr(self, name) for name in names})
        check_positive(MAX_BLOCK, num_samples=self.num_samples, num_proposals=self.num_proposals)
        if self.num_rounds < 0:
            raise ConfigError(f"num_rounds is {self.num_rounds}; it must be at least 0")


@flat_options
def bootstrap(
    output_dir: Path,
    model: dict[str, Any],
    data: dict[str, Any],
    choice: DomainChoice = DomainChoice(),
    rounds: RoundOptions = RoundOptions(),
) -> None:
    """Teach a model by its own programs, of which the checker says which hold; a table of the rounds is printed.

    Run again after an interruption, it goes on where it stopped; with more rounds, it adds them. The rounds are in
    TensorBoard too, and their checkpoints are those of any model here.

    Args:
        output_dir: folder to write to
        model: as in a YAML of generator.main, class_path and init_args or the options alone
        data: options of DomainDataModule, such as batch_size and the limits on lengths
        choice: which domain
        rounds: what a round is
    """
    with one_at_a_time(output_dir):
        run = _Run(output_dir, model, data, choice, rounds)
        print(_HEADER, flush=True)
        logger = TensorBoard(output_dir, name="", version="tensorboard", default_hp_metric=False)
        for number in range(rounds.num_rounds + 1):
            metrics = run.round(number)
            logger.log_metrics({name: value for name, value in metrics.items() if name not in _NO_CURVES}, step=number)
            print(_row(metrics), flush=True)
        logger.finalize("success")


_NO_CURVES = ("format_version", "round")
_HEADER = (
    "| round | pairs | new | accepted | solved@1 | solved@10 | valid syntax | loss |\n|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def _row(metrics: Mapping[str, Any]) -> str:
    accepted = f"{metrics['accepted']:.1%}" if "accepted" in metrics else ""
    solved = [f"{metrics[name]:.3f}" if name in metrics else "" for name in ("solved@1", "solved@10", "valid_syntax")]
    cells = [f"{metrics['round']}", f"{metrics['num_pairs']:,}", f"{metrics['num_new']:,}", accepted, *solved]
    return f"| {' | '.join(cells)} | {metrics['loss']:.4f} |"


class _Pairs(DomainDataModule):
    """Trains on pairs that are given."""

    pairs: Sequence[Problem] = ()

    def _read(self, split: Split, count: int | None) -> list[Problem]:
        return list(self.pairs) if split == "train" else super()._read(split, count)


class _Run:
    """A folder of rounds."""

    def __init__(
        self,
        folder: Path,
        model: Mapping[str, Any],
        data: Mapping[str, Any],
        choice: DomainChoice,
        rounds: RoundOptions,
    ) -> None:
        self.folder, self.choice, self.options = folder, choice, rounds
        self.kind, self.model_options = _class_and_options(model)
        self.data_options = dict(data)
        self.domain: Domain[Any, Any] = choice.make()
        self.data()  # refuses what it cannot use before anything is written
        self._check_settings({"model": dict(model), "data": dict(data), **asdict(choice), **asdict(rounds)})

    def _check_settings(self, settings: dict[str, Any]) -> None:
        """Keep the settings with the folder, or raise ConfigError if its rounds were made with others."""
        path = self.folder / _SETTINGS
        settings = {**{k: v for k, v in settings.items() if k not in ("num_rounds", "device")}}
        settings = json.loads(json.dumps({"format_version": FORMAT_VERSION, **settings}))
        if not path.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ConfigError(f"output_dir {self.folder} holds something else; give a new folder")
            write_json(path, settings)
            return
        found = _read_json(path)
        if other := [name for name, value in settings.items() if found.get(name) != value]:
            raise ConfigError(
                f"output_dir {self.folder} was begun with {', '.join(f'{name} {found.get(name)}' for name in other)}, "
                f"and now {', '.join(f'{name} is {settings[name]}' for name in other)}; give another folder"
            )

    def data(self, pairs: Sequence[Problem] = ()) -> _Pairs:
        """The data module of a round."""
        taken = (
            "domain",
            "domain_options",
            "model_name",
            "data_path",
            "fresh",
            "num_train",
            "num_val",
            "num_proposals",
        )
        for name in self.data_options:
            known = sorted(set(options_of(DomainDataModule)) - set(taken) - {"shared"})
            if name not in known:
                raise ConfigError(f"data has no option {name!r} here; it takes {', '.join(known)}")
        made = _Pairs(
            self.choice.domain,
            self.model_options["model_name"],
            domain_options=self.choice.domain_options,
            fresh=False,
            num_val=self.options.num_val,
            num_proposals=self.options.num_proposals,
            **{"seed": self.options.seed, **self.data_options},
        )
        made.pairs = pairs
        return made

    def round(self, number: int) -> dict[str, Any]:
        """Return the metrics of a round, made now or before."""
        folder = self.folder / f"round-{number}"
        done = folder / "metrics.json"
        if done.is_file():
            return _read_json(done)
        torch.manual_seed(stable_seed("bootstrap", self.options.seed, number))
        model, pairs, found = self._model(number), self._pairs(number), dict[str, float]()
        if number == 0:
            new = self.domain.problems(self.options.seed, "train", self.options.num_pairs)
        else:
            new, found = self._draw(model, number, pairs)
        pairs = [*pairs, *new]
        _write_pairs(folder / "pairs.jsonl", pairs)
        if self.options.from_scratch and number:
            model = self._new_model()
        metrics = {
            "format_version": FORMAT_VERSION,
            "round": number,
            "num_pairs": len(pairs),
            "num_new": len(new),
            **found,
            **self._train(model, self.data(pairs), folder),
        }
        write_json(done, metrics)
        return metrics

    def _new_model(self) -> Any:
        lengths = {
            name: value for name, value in self.data_options.items() if name in options_of(self.kind) and name != "seed"
        }
        return self.kind(**{**lengths, **self.model_options})

    def _model(self, number: int) -> Any:
        """The model as the round before left it."""
        model = self._new_model()
        if number:
            model.load_state_dict(read_checkpoint(self.folder / f"round-{number - 1}" / "model.ckpt")["state_dict"])
        return model

    def _pairs(self, number: int) -> list[Problem]:
        """The pairs of the round before."""
        path = self.folder / f"round-{number - 1}" / "pairs.jsonl"
        return list(read_problems(path, self.domain)) if number else []

    def _draw(self, model: Any, number: int, known: Sequence[Problem]) -> tuple[list[Problem], dict[str, float]]:
        """Programs of the model that hold, for specifications of this round, and how many did."""
        options = self.options
        seen, new, num_holding = {(each.spec, each.program) for each in known}, list[Problem](), 0
        specs = self._specs(number)
        writer = SampleWriter(model.to(_device(options.device)).eval(), block_size=options.num_samples)
        for start in range(0, len(specs), _GROUP):
            group = specs[start : start + _GROUP]
            for spec, proposals in zip(group, writer.draw_all(group, block=number), strict=True):
                programs = [program for program, _ in proposals]
                verdicts = self.domain.check_all([(spec, program) for program in programs])
                holding = [program for program, verdict in zip(programs, verdicts, strict=True) if verdict.holds]
                num_holding += len(holding)
                kept = [each for each in dict.fromkeys(holding) if (spec, each) not in seen][: options.max_kept]
                seen.update((spec, program) for program in kept)
                new += [Problem(spec, program) for program in kept]
        return new, {"accepted": num_holding / (len(specs) * options.num_samples)}

    def _specs(self, number: int) -> list[str]:
        """Specifications of this round; their own programs are thrown away. Epoch 0 is that of the pairs."""
        numbers = range(self.options.num_specs)
        return [self.domain.problem(self.options.seed, "train", index, epoch=number).spec for index in numbers]

    def _train(self, model: Any, data: _Pairs, folder: Path) -> dict[str, float]:
        """Train and measure a model, and save it."""
        trainer = pl.Trainer(
            accelerator=self.options.device,
            devices=1,
            max_steps=self.options.num_steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            gradient_clip_val=1.0,
            default_root_dir=folder,
            plugins=[WholeFileCheckpointIO()],
        )
        trainer.fit(model.train(), data)  # it was in evaluation mode to draw, and Lightning trains in what it finds
        trainer.save_checkpoint(folder / "model.ckpt")
        judge = pl.Trainer(
            accelerator=self.options.device,
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        judge.validate(model, data, verbose=False)
        return {name.removesuffix("_val"): float(value) for name, value in judge.callback_metrics.items()}


def _class_and_options(model: Mapping[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    """The class and the options that a mapping names, as in the YAML of generator.main.

    Raises:
        ConfigError: if it is none
    """
    name, options = class_path(RetrievalAugmentedGenerator), dict(model)
    if "class_path" in model:
        name, options = str(model["class_path"]), dict(model.get("init_args") or {})
    if name not in _MODELS:
        raise ConfigError(f"model.class_path is {name!r}; choose one of {', '.join(_MODELS)}")
    kind = _MODELS[name]
    known = options_of(kind)
    for option in options:
        if option not in known:
            raise ConfigError(f"model has no option {option!r}; {kind.__name__} takes {', '.join(sorted(known))}")
    if "model_name" not in options:
        raise ConfigError("model has no model_name; give an architecture, a folder or a hub id")
    return kind, options


def _device(name: str) -> str:
    return "cuda" if name in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"


def _write_pairs(path: Path, pairs: Sequence[Problem]) -> None:
    def lines() -> Iterator[str]:
        for pair in pairs:
            yield json.dumps(asdict(pair), ensure_ascii=False) + "\n"

    with writing_file(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(lines())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"it is not of format version {FORMAT_VERSION}")
    except (OSError, RecursionError, ValueError) as error:
        raise DataError(f"{path} is broken ({error}); remove the folder and begin again") from error
    return found
