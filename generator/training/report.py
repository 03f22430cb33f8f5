"""What a training run says at its end: metrics, where things are, and what the model now suggests."""

from __future__ import annotations

import textwrap
from typing import Any

import pytorch_lightning as pl

from generator.training.next_step_generator import NextStepGenerator
from generator.training.texts import candidate_row
from retrieval.training.run_folder import run_folder
from retrieval.training.run_summary import best_checkpoint, evaluation_metrics, last_checkpoint, why_not_validated
from retrieval.training.shown import shown

_NUM_EXAMPLES = 3
_NUM_SUGGESTIONS = 4


def report_fit(trainer: pl.Trainer, model: Any, datamodule: Any) -> None:
    """Print, on rank 0, the validation metrics, paths, and suggestions of the best checkpoint for some states.

    Without a validation the last checkpoint is the best.
    """
    folder = run_folder(trainer)
    if not trainer.is_global_zero:
        return
    checkpoint = best_checkpoint(trainer) or last_checkpoint(trainer)
    metrics = evaluation_metrics(trainer)
    topk = {name: value for name, value in metrics.items() if name.startswith("top")}
    print()
    if topk:
        print("validation: " + "  ".join(f"{name.split('_')[0]} {value:.1%}" for name, value in topk.items()))
    elif metrics and not isinstance(model, NextStepGenerator):
        print("validation: " + "  ".join(f"{name.removesuffix('_val')} {value:.4f}" for name, value in metrics.items()))
    elif "loss_val" in metrics:
        print("validation: the loss alone, as weights are sharded")
    else:
        print(f"validation: none: {why_not_validated(trainer)}")
    if "loss_val" in metrics and isinstance(model, NextStepGenerator):
        print(f"loss:       {metrics['loss_val']:.4f} a token, of the targets in validation")
    print(f"metrics:    {folder / 'metrics.json'}")
    print(f"checkpoint: {checkpoint or 'none was kept, or it is gone'}")
    print(f"logs:       tensorboard --logdir {folder}")
    dataset = getattr(datamodule, "datasets", {}).get("val", [])
    if not len(dataset) or not checkpoint or not isinstance(model, NextStepGenerator):
        return
    best = type(model).load(checkpoint, device=trainer.strategy.root_device, engine=model.engine.name)
    print("\nWhat it suggests for states it has not seen:")
    for i in range(0, len(dataset), -(-len(dataset) // _NUM_EXAMPLES)):
        example = dataset[i]
        [candidates] = best.decode([example["state"]], _NUM_SUGGESTIONS)
        state = example.get("proof_state") or example["state"]
        print("\n" + "\n".join(f"    {line}" for line in shown(state).split("\n")))
        if not candidates:
            print("  no suggestions")
        for tactic, log_prob in candidates:
            mark = "  <- the proof's" if tactic == example["tactic"] else ""
            print(textwrap.indent(candidate_row(tactic, log_prob), "  ") + mark)
