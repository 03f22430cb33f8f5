"""A tiny CausalGenerator, and data as it reads it."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from generator.causal import CausalGenerator
from generator.instruct_datamodule import InstructDataModule

GPT2 = {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 400}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SIZES = {"max_seq_len": 192, "max_completion_len": 48}


def build(architecture: Any = GPT2, **options: Any) -> CausalGenerator:
    torch.manual_seed(0)
    return CausalGenerator(architecture, **{"num_beams": 3, "template": "llmstep", **SIZES, **options})


def save_bpe(folder: Path, adds_bos: bool = False) -> Any:
    """Write a byte-level BPE of 300 tokens whose EOS is 2 and whose BOS, 1, it may add; and return it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<fill>", "<begin>", "<end>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(
        ["[GOAL]p q : Prop\nh : p ∧ q\n⊢ q ∧ p[PROOFSTEP]exact ⟨h.2, h.1⟩ rcases h with"] * 9, trainer
    )
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing("<begin> $A", special_tokens=[("<begin>", 1)])
    names = {"eos_token": "<end>", "bos_token": "<begin>", "pad_token": "<fill>"}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    made.save_pretrained(folder)
    return made


def data(path: Any, **options: Any) -> InstructDataModule:
    return InstructDataModule(str(path), GPT2, **{"template": "llmstep", "batch_size": 8, **SIZES, **options})


def first_batch(module: InstructDataModule, stage: str = "fit") -> dict[str, Any]:
    """Of the training data, or of the validation data where the stage is another."""
    module.setup(stage)
    return next(iter(module.train_dataloader() if stage == "fit" else module.val_dataloader()))
