"""How fast are samples of a program writer? Ours against transformers.generate, which copies the input for each sample.

    python tests/benchmarks/domain_sampling.py                         # 100 specifications, 100 samples of each, CPU
    python tests/benchmarks/domain_sampling.py --num_specs 8 --rounds 1    # a try
    python tests/benchmarks/domain_sampling.py --ckpt_path runs/rectangle/version_0/checkpoints/last.ckpt

Without a checkpoint the model has the architecture of configs/generator/rectangle.yaml and random weights, so that
nearly every sample has all its tokens. Before anything is timed, the log-probabilities of our samples are compared with
those that transformers computes for them, and the first tokens of both sides with the model's own distribution
(chi-squared). Then the sides take turns; seconds are those of the processor, which others on the machine change little.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import torch
import yaml

from generator.decoding import sample
from generator.decoding.settings import Decoding, Sampling
from generator.domains import make_domain
from generator.model import RetrievalAugmentedGenerator

CONFIG = Path(__file__).parents[2] / "configs" / "generator" / "rectangle.yaml"
SIDES = ("native", "transformers")
NUM_TOKENS = 10


def main() -> None:
    """Compares and times the two sides; prints a Markdown row, then one JSON line."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    model = build(args)
    domain = make_domain("rectangle")
    specs = [problem.spec for problem in domain.problems(0, "test", args.num_specs)]
    check_log_probs(model, specs[:4])
    check_distribution(model, specs[0])
    best: dict[str, float] = {}
    for _ in range(args.rounds):
        for side in SIDES:
            start = time.process_time()
            RUN[side](model, specs, args.budget, args)
            best[side] = min(best.get(side, float("inf")), time.process_time() - start)
    rates = {side: args.num_specs * args.budget / seconds for side, seconds in best.items()}
    ratio = rates["native"] / rates["transformers"]
    print("| specs x samples | native | transformers | ratio |\n|---|--:|--:|--:|")
    cells = " | ".join(f"{rates[side]:,.0f} /s" for side in SIDES)
    print(f"| {args.num_specs} x {args.budget} | {cells} | {ratio:.1f}x |")
    row = {"num_specs": args.num_specs, "budget": args.budget, "samples_per_s": rates, "threads": args.threads}
    print(json.dumps({"benchmark": "domain_sampling", **row, **machine.facts()}))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt_path", default="")
    parser.add_argument("--num_specs", type=int, default=100)
    parser.add_argument("--budget", type=int, default=100, help="samples of each")
    parser.add_argument("--batch_size", type=int, default=8, help="specifications in a call of transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def build(args: argparse.Namespace) -> Any:
    """The model, in evaluation mode."""
    if args.ckpt_path:
        return RetrievalAugmentedGenerator.load(args.ckpt_path).eval()
    torch.manual_seed(0)
    architecture = yaml.safe_load(CONFIG.read_text())["model"]["model_name"]
    return RetrievalAugmentedGenerator(architecture, max_inp_seq_len=64, max_oup_seq_len=NUM_TOKENS).eval()


def native(model: Any, specs: Sequence[str], budget: int, args: argparse.Namespace) -> Any:
    """Our engine, as a SampleWriter asks it."""
    return model.engine.propose(list(specs), budget, Decoding(NUM_TOKENS, sampling=Sampling()))


@torch.no_grad()
def reference(model: Any, specs: Sequence[str], budget: int, args: argparse.Namespace) -> Any:
    """The same by transformers.generate, several specifications of similar length at a time."""
    ordered, found = sorted(specs, key=len), []
    for start in range(0, len(ordered), args.batch_size):
        inputs = model.tokenizer(ordered[start : start + args.batch_size], padding="longest", return_tensors="pt")
        found.append(
            model.generator.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=1.0,
                top_k=0,
                num_return_sequences=budget,
                max_new_tokens=NUM_TOKENS,
            )
        )
    return found


RUN = {"native": native, "transformers": reference}


@torch.no_grad()
def check_log_probs(model: Any, specs: Sequence[str]) -> None:
    """Stops unless transformers gives our samples the log-probabilities that we say."""
    for spec in specs:
        inputs = model.tokenizer([spec], return_tensors="pt")
        found = sample(model.generator, **inputs, num_samples=20, max_new_tokens=NUM_TOKENS)
        tokens = found.sequences[0]
        rows = {name: value.expand(len(tokens), -1) for name, value in inputs.items()}
        logits = model.generator(**rows, labels=tokens).logits.log_softmax(-1)
        has_ended = (tokens == 1).cumsum(-1) - (tokens == 1).long() > 0  # a random model writes padding too
        expected = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).masked_fill(has_ended, 0.0).sum(-1)
        torch.testing.assert_close(found.log_probs[0], expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def check_distribution(model: Any, spec: str, num_samples: int = 1000, num_calls: int = 8) -> None:
    """Stops unless the first tokens of both sides are distributed as the model says."""
    inputs = model.tokenizer([spec], return_tensors="pt")
    start = torch.tensor([[0]])
    share = model.generator(**inputs, decoder_input_ids=start).logits[0, 0].double().softmax(-1)
    common = share > 5 / (num_samples * num_calls)
    for side in SIDES:
        counts = torch.zeros_like(share)
        for call in range(num_calls):
            counts += torch.bincount(first_tokens(model, spec, num_samples, side, call), minlength=len(share))
        expected = share * counts.sum()
        grouped = torch.cat([counts[common], counts[~common].sum()[None]])
        grouped_expected = torch.cat([expected[common], expected[~common].sum()[None]]).clamp(min=1e-9)
        statistic = float(((grouped - grouped_expected) ** 2 / grouped_expected)[grouped_expected > 1].sum())
        degrees = max(1, int((grouped_expected > 1).sum()) - 1)
        limit = degrees + 5 * (2 * degrees) ** 0.5  # five standard deviations above the mean
        assert statistic < limit, f"{side}: chi-squared {statistic:.1f} with {degrees} degrees of freedom"


def first_tokens(model: Any, spec: str, num_samples: int, side: str, call: int) -> torch.Tensor:
    """The first token of each of many samples, int64 (num_samples,)."""
    if side == "native":
        inputs = model.tokenizer([spec], return_tensors="pt")
        found = sample(
            model.generator,
            inputs["input_ids"],
            inputs["attention_mask"],
            num_samples=num_samples,
            max_new_tokens=1,
            generator=torch.Generator().manual_seed(call),
        )
        return found.sequences[0, :, 0].cpu()
    torch.manual_seed(call)
    inputs = model.tokenizer([spec], return_tensors="pt")
    rows = model.generator.generate(
        **inputs, do_sample=True, top_k=0, num_return_sequences=num_samples, max_new_tokens=1
    )
    return rows[:, 1].cpu()


if __name__ == "__main__":
    main()
