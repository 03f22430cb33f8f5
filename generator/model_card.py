"""The README.md of an exported model: what it is, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Library = Literal["transformers", "ctranslate2"]

_STATE = r"p q : Prop\nh : p ∧ q\n⊢ q ∧ p"

_TRANSFORMERS = """from transformers import AutoTokenizer, {auto}

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = {auto}.from_pretrained("{name}")

state = "{state}"
inputs = tokenizer(state, return_tensors="pt", max_length={max_length}, truncation=True)
steps = model.generate(**inputs, {settings})
for step in tokenizer.batch_decode(steps, skip_special_tokens=True):
    print(step)
"""

_CTRANSLATE2 = """import ctranslate2
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = ctranslate2.Translator("{name}")

state = "{state}"
tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(state))
(found,) = model.translate_batch([tokens], beam_size=8, num_hypotheses=8, length_penalty=0, max_input_length=0)
for hypothesis in found.hypotheses:
    print(tokenizer.decode(tokenizer.convert_tokens_to_ids(hypothesis)))
"""


def model_card(
    name: str,
    config: Any,
    *,
    origin: str,
    num_parameters: int,
    weights: str,
    library: Library,
    options: Mapping[str, Any],
) -> str:
    """Return the Markdown text.

    Args:
        name: of the folder
        config: the model's
        origin: name of the checkpoint or model that it was made from
        num_parameters: of the model
        weights: their type
        library: what loads it
        options: the generator's decoding settings, as far as they are known
    """
    kind = "encoder-decoder" if config.is_encoder_decoder else "decoder-only model"
    auto = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
    num_beams = options.get("num_beams", 8)
    settings = f"num_beams={num_beams}, num_return_sequences={num_beams}, length_penalty=0.0, max_new_tokens=64"
    usage = (_TRANSFORMERS if library == "transformers" else _CTRANSLATE2).format(
        name=name,
        auto=auto,
        state=_STATE,
        max_length=options.get("max_inp_seq_len", 2300),
        settings=settings if num_beams > 1 else "max_new_tokens=64",
    )
    return f"""---
library_name: {library}
tags: [nextstep, theorem-proving]
---

# {name}

A {config.model_type} {kind} of {num_parameters:,} parameters that writes the next formal step for a state.
Exported by nextstep from `{origin}`; weights in {weights}.

```python
{usage}```
"""
