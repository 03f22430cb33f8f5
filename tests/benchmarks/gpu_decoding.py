"""What does decoding on a GPU gain? Steps replayed as CUDA graphs, against single operations and transformers.

    python tests/benchmarks/gpu_decoding.py --output build/gpu_decoding.md      # about two minutes on an H100
    python tests/benchmarks/gpu_decoding.py --device cpu --tiny                 # a try of the whole way, without a GPU

Three questions: a step of beam search with ByT5-small's sizes (2,300 bytes and 64 beams, 512 and 32); 32 candidates of
a 1,500-token prompt with a Llama of 135 million parameters; and a validation with ByT5-small's sizes under bf16-mixed
against float32, also as it was before (attention by cuDNN where torch prefers it, and no graphs). Weights are random
and no candidate ends, so that all sides take the same steps. Outputs are compared in float32 before anything is timed,
in bfloat16 roughly; then the sides take turns. A step is the difference of a long and a short search by the steps
between, each the best of its rounds. The floor is the arithmetic at the measured rate of a large product, or the bytes
of the weights at the measured rate of a copy, whichever is more.
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import decoding
import machine
import searches
import torch
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[2]))

from generator.decoding import Decoding, decode
from generator.engines import make_engine

SHORT = 8  # steps of a short search
CAUSAL = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
CAUSAL |= {"num_key_value_heads": 3, "vocab_size": 49152}
TINY_CAUSAL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY_CAUSAL |= {"num_key_value_heads": 2, "vocab_size": 384}
BYT5_SMALL = {"d_model": 1472, "d_kv": 64, "d_ff": 3584, "num_layers": 12, "num_decoder_layers": 4, "num_heads": 6}
TINY_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 3}
Side = Callable[[int], Any]


def main() -> None:
    """Runs the three parts; writes and prints Markdown, then prints one JSON line."""
    args = parse_arguments()
    if args.device == "cuda":
        torch.set_float32_matmul_precision("high")  # as commands do
    rows = [t5_row(*case, args) for case in ([(40, 4), (24, 3)] if args.tiny else [(2300, 64), (512, 32)])]
    rows.append(causal_row(*((50, 4) if args.tiny else (1500, 32)), args))
    validation = validation_row(args)
    text = report(rows, validation)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text, encoding="utf-8")
    print(text)
    table = {row["id"]: {"new": row["new"], "peer": row["peer"]} for row in [*rows, validation]}
    facts = {"benchmark": "gpu_decoding", **machine.facts(args.device)}
    print(json.dumps({**facts, "rows": rows, "validation": validation, "table": table}))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="file for the Markdown")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few steps, to try the way")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    args.steps = 12 if args.tiny else 40
    args.rounds = 1 if args.tiny else args.rounds
    return args


def t5_row(length: int, num_beams: int, args: argparse.Namespace) -> dict[str, Any]:
    """A step of beam search of one state with ByT5-small."""
    model = random_t5(TINY_T5 if args.tiny else BYT5_SMALL, args.device)
    ids = random_ids(length, decoding.VOCABULARY, args.device)
    row = searched(f"byt5-{length}x{num_beams}", model, ids, num_beams, args)
    config = model.config
    inner = config.num_heads * config.d_kv
    weights = config.num_decoder_layers * (6 * config.d_model * inner + 3 * config.d_model * config.d_ff)
    weights += config.d_model * decoding.VOCABULARY
    attention = config.num_decoder_layers * 2 * inner * (length + args.steps / 2)
    return with_floor(row, 2.0 * num_beams * (weights + attention), 2.0 * weights, args)


def causal_row(length: int, num_beams: int, args: argparse.Namespace) -> dict[str, Any]:
    """Candidates of one prompt with a decoder-only model."""
    model = random_llama(TINY_CAUSAL if args.tiny else CAUSAL, args.device)
    ids = random_ids(length, model.config.vocab_size, args.device)
    row = searched(f"causal-{length}x{num_beams}", model, ids, num_beams, args)
    weights = sum(parameter.numel() for name, parameter in model.named_parameters() if "embed" not in name)
    config = model.config
    attention = config.num_hidden_layers * 2 * config.hidden_size * (length + num_beams * args.steps / 4)
    return with_floor(row, 2.0 * num_beams * (weights + attention), 2.0 * weights, args)


def searched(name: str, model: Any, ids: torch.Tensor, num_beams: int, args: argparse.Namespace) -> dict[str, Any]:
    """Checks the sides on float32 weights, then times them on bfloat16."""
    given = 1 if model.config.is_encoder_decoder else ids.shape[1]
    sides = sides_of(model, ids, num_beams)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    expected = sides["transformers"](args.steps)
    for side in ("graphs", "single operations"):
        # kernels of a GPU differ in the last digits, and sums of 40 tokens reach 100
        searches.check_equal(sides[side](args.steps), expected, given, "float32", tolerance=1e-2, min_same=0.7)
    torch.set_float32_matmul_precision(precision)
    model = model.to(torch.bfloat16)
    sides = sides_of(model, ids, num_beams)
    for side in ("graphs", "single operations"):
        expected = sides["transformers"](args.steps)
        tolerance = 2.0 + 0.05 * float(expected.sequences_scores.abs().max())
        searches.check_equal(sides[side](args.steps), expected, given, "bfloat16", tolerance=tolerance)
    seconds: dict[str, dict[int, list[float]]] = {side: {SHORT: [], args.steps: []} for side in sides}
    for _ in range(args.rounds):
        for side, run in sides.items():
            for steps, times in seconds[side].items():
                machine.wait(args.device)
                times.append(machine.seconds(run, steps, device=args.device))
    steps_between = args.steps - SHORT
    step_s = {side: (min(of[args.steps]) - min(of[SHORT])) / steps_between for side, of in seconds.items()}
    call_s = {side: min(of[args.steps]) for side, of in seconds.items()}
    return {"id": name, "case": f"{name}, {args.steps} steps", "step_s": step_s, "call_s": call_s}


def sides_of(model: Any, ids: torch.Tensor, num_beams: int) -> dict[str, Side]:
    """Who searches, by name."""

    def ours(steps: int, cuda_graphs: bool) -> Any:
        asked = Decoding(steps, num_beams=num_beams)
        return decode(model, list(ids), num_beams, asked, cuda_graphs=cuda_graphs)

    return {
        "graphs": lambda steps: ours(steps, True),
        "single operations": lambda steps: ours(steps, False),
        "transformers": lambda steps: searches.reference(model, (ids, torch.ones_like(ids)), num_beams, steps),
    }


def with_floor(row: dict[str, Any], flops: float, num_bytes: float, args: argparse.Namespace) -> dict[str, Any]:
    """Adds the limit of a step, and the cells of the table."""
    args.dtype = "bfloat16"
    rate, copy_rate = machine.matmul_rate(args), bytes_per_second(args.device)
    step, call = row["step_s"], row["call_s"]
    row["floor_s"] = max(flops / rate, num_bytes / copy_rate)
    ratio = step["transformers"] / step["graphs"]
    calls = call["transformers"] / call["graphs"]
    row["new"] = f"{ms(step['graphs'])} a step, {calls:.1f}x transformers by the call and {ratio:.1f}x by the step"
    row["peer"] = f"transformers {ms(step['transformers'])}; arithmetic {ms(row['floor_s'])}"
    return row


def bytes_per_second(device: str) -> float:
    """Bytes read a second by a copy, the best of ten."""
    source = torch.zeros(2**26 if device == "cuda" else 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = min(machine.seconds(target.copy_, source, device=device) for _ in range(10))
    return 2 * source.numel() / best


def random_ids(length: int, vocabulary: int, device: str) -> torch.Tensor:
    """One input, (1, S)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, vocabulary, (1, length), generator=generator).to(device)


def random_t5(sizes: dict[str, int], device: str) -> Any:
    """See `decoding.random_byt5_small`, of any sizes."""
    torch.manual_seed(0)
    config = T5Config(
        **sizes,
        vocab_size=decoding.VOCABULARY,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    with torch.device(device):
        model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.05)
        model.shared.weight.mul_(0.05)
        model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_(std=2.0)
        decoding.make_end_unlikely(model)
    return model.to(device)


def random_llama(sizes: dict[str, int], device: str) -> Any:
    """A decoder-only model without EOS, whose hypotheses differ clearly."""
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, max_position_embeddings=4096, bos_token_id=None, eos_token_id=None, pad_token_id=0)
    with torch.device(device):
        model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.15)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(8.0)
    return model.to(device)


# --------------------------------------------------------------------------------------------- validation


def validation_row(args: argparse.Namespace) -> dict[str, Any]:
    """A validation of 64 states of mixed length under bf16-mixed and in float32, and as it was before."""
    with tempfile.TemporaryDirectory() as folder:
        write_states(Path(folder), 8 if args.tiny else 64, 100 if args.tiny else 1500)
        sides = {
            "bf16-mixed": lambda: validated(folder, "bf16-mixed", args),
            "float32": lambda: validated(folder, "32-true", args),
        }
        if args.device == "cuda":
            sides["bf16-mixed before"] = lambda: validated_as_before(folder, args)
        losses = {side: run()["loss_val"] for side, run in sides.items()}  # also warms up
        gap = abs(losses["bf16-mixed"] - losses["float32"])
        assert gap < 0.02 * abs(losses["float32"]), f"losses {losses}"
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(min(2, args.rounds)):
            for side, run in sides.items():
                times[side].append(run()["seconds"])
    best = {side: min(values) for side, values in times.items()}
    ratio = best["bf16-mixed"] / best["float32"]
    new = f"{best['bf16-mixed']:.2f} s, {ratio:.2f} times float32"
    peer = ", ".join(f"{side} {seconds:.2f} s" for side, seconds in best.items() if side != "bf16-mixed")
    return {"id": "validation", "call_s": best, "losses": losses, "new": new, "peer": peer}


def write_states(folder: Path, num_states: int, longest: int) -> None:
    """Splits of LeanDojo's format, a step each, of lengths up to `longest`."""
    from tests.fakes import write_splits

    steps = [("h : " + "x" * (20 + number * longest // num_states) + " ⊢ p", "exact h") for number in range(num_states)]
    write_splits(folder, steps)


def validated(folder: str, precision: Any, args: argparse.Namespace, **engine_options: Any) -> dict[str, float]:
    """Loss, and seconds of a validation in which everything was taken once already."""
    import pytorch_lightning as pl

    from generator.datamodule import GeneratorDataModule
    from generator.model import RetrievalAugmentedGenerator

    options = {"max_inp_seq_len": 2300, "max_oup_seq_len": 16 if args.tiny else 48}
    sizes = dict(TINY_T5 if args.tiny else BYT5_SMALL)
    if not _models:
        torch.manual_seed(0)
        with torch.device(args.device):
            made = RetrievalAugmentedGenerator(sizes, num_beams=4, **options)
        made.generator.config.eos_token_id = None  # all sides take the same steps
        _models.append(made)
    model = _models[0]
    model.engine = make_engine("native", model.generator, model.tokenizer, max_inp_seq_len=2300, **engine_options)
    data = GeneratorDataModule(folder, sizes, eval_batch_size=16, **options)
    trainer = pl.Trainer(
        accelerator="gpu" if args.device == "cuda" else "cpu",
        devices=1,
        precision=precision,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Any] = []
        seconds = machine.seconds(
            lambda: found.extend(trainer.validate(model, data, verbose=False)), device=args.device
        )
    return {"seconds": seconds, "loss_val": float(found[0]["loss_val"])}


_models: list[Any] = []  # the one of all validations, which takes long to build


def validated_as_before(folder: str, args: argparse.Namespace) -> dict[str, float]:
    """With cuDNN's attention wherever torch prefers it, and without graphs."""
    enable = torch.backends.cuda.enable_cudnn_sdp
    torch.backends.cuda.enable_cudnn_sdp = lambda enabled: None  # type: ignore[assignment]
    try:
        return validated(folder, "bf16-mixed", args, cuda_graphs=False)
    finally:
        torch.backends.cuda.enable_cudnn_sdp = enable


# ------------------------------------------------------------------------------------------------- report


def ms(seconds: float) -> str:
    """For a table."""
    return f"{seconds * 1e3:.2f} ms"


def report(rows: list[dict[str, Any]], validation: dict[str, Any]) -> str:
    """The parts as Markdown."""
    sides = list(rows[0]["step_s"])
    heads = ["input x beams", "floor of a step", *(f"step: {side}" for side in sides), "ratio"]
    heads += [*(f"call: {side}" for side in sides), "ratio"]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for row in rows:
        cells = [row["case"], ms(row["floor_s"])]
        for kind in ("step_s", "call_s"):
            cells += [ms(row[kind][side]) for side in sides]
            cells.append(f"{row[kind]['transformers'] / row[kind]['graphs']:.1f}x")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| a validation | seconds | loss |", "|---|--:|--:|"]
    for side, seconds in validation["call_s"].items():
        lines.append(f"| {side} | {seconds:.2f} | {validation['losses'][side]:.4f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
