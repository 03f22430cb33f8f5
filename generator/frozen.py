"""Frozen pretrained transformers: the body of a trained model between new layers, which write another language.

A language of few words, such as symbolic mathematics in prefix notation, gets an input embedding and an output layer of
its own; of the body, the groups of parameters that a policy names are trained. As a prefix language model it reads
`problem <sep> answer <eos>`, and the loss falls on the answer, whose first word is written after the whole problem was
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.utilities import rank_zero_info

from common import ConfigError, read_architecture
from generator.architectures.decoder_only import check_vocabulary, end_with, tokenizer_values
from generator.architectures.frozen import (
    BodyOptions,
    FreezePolicy,
    Role,
    build_network,
    freeze,
    group_sizes,
    roles_of,
    table_of,
)
from generator.causal import CausalGenerator
from retrieval.training.monitoring import log_text
from retrieval.training.options import flat, flat_options, names_of, save_options


class FrozenTransformerGenerator(CausalGenerator):
    """A decoder-only model whose body stays frozen but for some groups of its parameters.

    Its checkpoints hold all weights, the frozen ones too, so that they load anywhere without the body.

    Source: "Pretrained Transformers as Universal Computation Engines" (arXiv:2103.05247).

    Attributes:
        policy: which groups of parameters are trained
        body: what was taken of which model as the body
    """

    @flat_options
    def __init__(
        self,
        model_name: str | dict[str, Any],
        *,
        policy: FreezePolicy = FreezePolicy(),
        body: BodyOptions = BodyOptions(),
        output_bias: bool = True,
        **shared: Any,
    ) -> None:
        """Build the model.

        Args:
            model_name: the body and the words between which it stands, such as {body: gpt2, tokenizer: symbolic}: a hub
                id, a Hugging Face folder or a .gguf file, and a tokenizer (see `common.load_tokenizer`); or an
                architecture with a tokenizer, a mapping or YAML file with transformers' `model_type` and its
                configuration's keys, for a body that is drawn; or the body alone, which keeps its own tokenizer
            policy: which parts are trained
            body: what is taken of the body
            output_bias: give the new output layer a bias, as the slides do. Such a model is none of transformers' own,
                and cannot be exported
            **shared: see CausalGenerator; `lora` is for models without frozen groups
        """
        # before the parent builds the network
        self.policy, self.body, self.output_bias = policy, body, output_bias
        if shared.get("lora") is not None:
            raise ConfigError(
                "lora trains adapters beside a model, and this one trains groups of its parameters; use "
                "trained_groups, or generator.causal.CausalGenerator"
            )
        super().__init__(model_name, **shared)
        save_options(self, flat(policy, body, output_bias=output_bias))

    def _build(self, model_name: str | dict[str, Any]) -> Any:
        network = build_network(
            _body_of(model_name), tokenizer_values(self.tokenizer), self.body, output_bias=self.output_bias
        )
        check_vocabulary(network, self.tokenizer)
        end_with(network, self.tokenizer.eos_token_id)
        self.roles: dict[str, Role] = roles_of(network)
        freeze(network, self.roles, self.policy)
        return network

    def table(self) -> str:
        """How many parameters each group has, and how many of them are trained, as a table in Markdown."""
        return table_of(group_sizes(self.generator, self.roles))

    def on_fit_start(self) -> None:
        """Say what is trained, in the terminal and the log."""
        super().on_fit_start()
        table = self.table()
        rank_zero_info(table)
        log_text(self, "parameters", table)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `CausalGenerator`; refuse to resume with another policy, which the optimizer's state would not fit."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is None or not self.trainer.training:
            return
        saved = checkpoint.get("hyper_parameters", {})
        for name in names_of(FreezePolicy):
            if name in saved and saved[name] != getattr(self.policy, name):
                raise ConfigError(
                    f"{name} is {getattr(self.policy, name)}, but the checkpoint was trained with {saved[name]}, and "
                    "its optimizer knows no other parameters; resume with that"
                )


def _body_of(model_name: str | dict[str, Any]) -> str | Mapping[str, Any]:
    """The body that a model name gives: its hub id or path, or an architecture."""
    architecture = read_architecture(model_name)
    if architecture is None or "body" not in architecture:
        return model_name
    if further := sorted(set(architecture) - {"body", "tokenizer"}):
        raise ConfigError(
            f"model_name names the body {architecture['body']!r} and also {further[0]}; beside body stands tokenizer "
            "alone. num_layers and body_dropout are options of the model"
        )
    body: str | Mapping[str, Any] = architecture["body"]
    return body
