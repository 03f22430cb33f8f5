"""Bodies of decoder-only models between new input and output layers, and which of their parts are trained.

A parameter has a role: the norms, positions, attention and feed-forward layers of a body are told apart for any
decoder-only model of transformers, by the classes and names of its modules. A freeze policy names the roles that are
trained. The policies of "Pretrained Transformers as Universal Computation Engines" (arXiv:2103.05247) are
[norms, positions], and with attention or feed_forward beside them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from common import ConfigError, check_choice, check_positive, read_architecture
from generator.architectures.decoder_only import SPECIAL_TOKENS, architecture_config, load_causal, load_config
from retrieval.training.architectures import architecture_errors, check_sizes

Group = Literal["norms", "positions", "attention", "feed_forward", "other", "all"]
Role = Literal["input", "norms", "positions", "attention", "feed_forward", "other", "output"]
ROLES: tuple[Role, ...] = get_args(Role)
_OF_THE_BODY = ROLES[1:-1]

_POSITIONS = re.compile(r"(^|[._])w?pos|wpe\b|position")
_ATTENTION = re.compile(r"attn|attention")
_FEED_FORWARD = re.compile(r"mlp|ffn?\b|feed_?forward|\bfc\d|experts|moe")


# ------------------------------------------------------------------------------------------------
# The policy


@dataclass(frozen=True)
class FreezePolicy:
    """Which parts of a model are trained; the others stay as they are, and no optimizer sees them.

    Attributes:
        trained_groups: of the body: norms, positions (learned ones, where there are any), attention, feed_forward,
            other (what is none of these); or all
        train_input: the new input layer too
        train_output: the new output layer too
    """

    trained_groups: list[Group] = field(default_factory=lambda: ["norms", "positions"])
    train_input: bool = True
    train_output: bool = True

    def __post_init__(self) -> None:
        groups: Any = self.trained_groups
        if isinstance(groups, str) or not isinstance(groups, list | tuple):
            raise ConfigError(f"trained_groups is {groups!r}; give a list such as [norms, positions], or []")
        for group in groups:
            check_choice("trained_groups", group, get_args(Group))
        object.__setattr__(self, "trained_groups", list(groups))

    def trains(self, role: Role) -> bool:
        """Whether parameters of a role are trained."""
        if role in ("input", "output"):
            return self.train_input if role == "input" else self.train_output
        return role in self.trained_groups or "all" in self.trained_groups


def freeze(model: nn.Module, roles: Mapping[str, Role], policy: FreezePolicy) -> None:
    """Let gradients reach what a policy trains, and nothing else.

    Args:
        model: whose parameters to freeze
        roles: of each parameter, by name
        policy: which roles are trained

    Raises:
        ConfigError: if nothing would be trained, or a group that is named has no parameters
    """
    found = set(roles.values())
    for group in policy.trained_groups:
        # rotary positions have nothing to train, and the default names positions
        if group not in found and group not in ("all", "positions"):
            raise ConfigError(
                f"trained_groups names {group}, but this model has no such parameters; it has "
                f"{', '.join(role for role in _OF_THE_BODY if role in found)}"
            )
    if not any(policy.trains(role) for role in found):
        raise ConfigError("no parameter would be trained; name groups in trained_groups, or set train_output")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(policy.trains(roles[name]))


def roles_of(model: PreTrainedModel) -> dict[str, Role]:
    """Return the role of each parameter of a decoder-only model, or of its body, by name.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=3))
    >>> roles = roles_of(model)
    >>> roles["transformer.wpe.weight"], roles["transformer.h.0.mlp.c_fc.bias"], roles["transformer.ln_f.weight"]
    ('positions', 'feed_forward', 'norms')
    """
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    roles: dict[str, Role] = {}
    for path, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            full = f"{path}.{name}" if path else name
            role: Role = "input" if module is inputs else "output" if module is outputs else _role(path, module)
            roles[full] = role
    return {name: roles[name] for name, _ in model.named_parameters()}  # of tied ones, the first name


def _role(path: str, module: nn.Module) -> Role:
    if "norm" in type(module).__name__.lower():
        return "norms"
    if isinstance(module, nn.Embedding) and _POSITIONS.search(path):
        return "positions"
    # the innermost name that tells: GPT-Neo keeps its layers under attn.attention, some MoE their experts under mlp
    for part in reversed(path.split(".")):
        if _ATTENTION.search(part):
            return "attention"
        if _FEED_FORWARD.search(part):
            return "feed_forward"
    return "other"


# ------------------------------------------------------------------------------------------------
# The table


@dataclass(frozen=True)
class GroupSize:
    """How many parameters of a role there are, and how many of them are trained."""

    role: str
    num_parameters: int
    num_trained: int


def group_sizes(model: nn.Module, roles: Mapping[str, Role]) -> list[GroupSize]:
    """Return the sizes of the roles that a model has, from input to output, and behind them those of the whole.

    Args:
        model: frozen already
        roles: of its parameters, by name
    """
    counts = {role: [0, 0] for role in ROLES if role in set(roles.values())}
    for name, parameter in model.named_parameters():
        counts[roles[name]][0] += parameter.numel()
        counts[roles[name]][1] += parameter.numel() * parameter.requires_grad
    sizes = [GroupSize(role, *count) for role, count in counts.items()]
    return [*sizes, GroupSize("all", *(sum(count[i] for count in counts.values()) for i in (0, 1)))]


def table_of(sizes: list[GroupSize]) -> str:
    """Return sizes as a table in Markdown, readable as plain text too."""
    rows = [("group", "parameters", "trained")]
    rows += [(size.role, f"{size.num_parameters:,}", f"{size.num_trained:,}") for size in sizes]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"| {a:<{widths[0]}} | {b:>{widths[1]}} | {c:>{widths[2]}} |" for a, b, c in rows]
    rule = f"|{'-' * (widths[0] + 2)}|{'-' * (widths[1] + 1)}:|{'-' * (widths[2] + 1)}:|"
    return "\n".join([lines[0], rule, *lines[1:]])


# ------------------------------------------------------------------------------------------------
# The body


@dataclass(frozen=True)
class BodyOptions:
    """What is taken of a model as the body of another.

    Attributes:
        pretrained: with its weights; else they are drawn, in the same shape
        num_layers: its first layers alone; None is all
        body_dropout: of the body in training, wherever it has dropout; None is what its configuration says (0.1 in
            GPT-2, 0 in Llama)
    """

    pretrained: bool = True
    num_layers: int | None = None
    body_dropout: float | None = None

    def __post_init__(self) -> None:
        check_positive(num_layers=self.num_layers)
        if self.body_dropout is not None and not 0 <= self.body_dropout < 1:
            raise ConfigError(f"body_dropout is {self.body_dropout}; it must be at least 0 and below 1")


def build_network(
    body: str | Path | Mapping[str, Any],
    defaults: Mapping[str, Any],
    options: BodyOptions = BodyOptions(),
    output_bias: bool = True,
) -> PreTrainedModel:
    """Return a decoder-only model whose input embedding and output layer are new, and not tied.

    New weights are drawn from torch's global generator as transformers draws them; of a pretrained body, the new
    embeddings are as large as those that they replace.

    Args:
        body: a hub id, a folder or a .gguf file; or an architecture, a mapping or YAML file, whose weights are drawn;
            or what `describe` returned of such a network
        defaults: vocab_size and special tokens, see `tokenizer_values`
        options: what is taken of it
        output_bias: give the output layer a bias

    Raises:
        ConfigError: if there is no such model, or an option does not fit it
    """
    architecture = read_architecture(body)
    if architecture is not None:
        with architecture_errors():
            return _new_network(architecture_config(architecture, defaults), options, output_bias)
    config = _with_vocabulary(load_config(str(body)), defaults)
    with architecture_errors():
        network = _new_network(config, options, output_bias)
    if options.pretrained:
        _take_weights(network, load_causal(str(body)))
    return network


def build_body(body: str | Path | Mapping[str, Any], options: BodyOptions = BodyOptions()) -> PreTrainedModel:
    """Return the body alone: it reads `inputs_embeds` (B, L, D) and gives `last_hidden_state`, and embeds no tokens.

    Args:
        body: see `build_network`
        options: what is taken of it
    """
    network = build_network(body, {"vocab_size": 1, **dict.fromkeys(SPECIAL_TOKENS)}, options)
    alone: Any = network.base_model
    if alone is network:
        raise ConfigError(f"body {body!r}: a {type(network).__name__} keeps its body and its output layer in one")
    alone.set_input_embeddings(nn.Identity())
    found: PreTrainedModel = alone
    return found


def _new_network(config: PreTrainedConfig, options: BodyOptions, output_bias: bool) -> PreTrainedModel:
    """A network of a configuration, with drawn weights."""
    _shape(config, options)
    config.tie_word_embeddings = False
    network: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    head = network.get_output_embeddings()
    if not isinstance(head, nn.Linear) or network.get_input_embeddings() is None:
        raise ConfigError(f"a {type(network).__name__} has no input embedding and output layer that can be replaced")
    if not output_bias:
        head.register_parameter("bias", None)
    elif getattr(head, "bias", None) is None:
        head.register_parameter("bias", nn.Parameter(torch.zeros(head.out_features)))
    return network


def _with_vocabulary(config: PreTrainedConfig, values: Mapping[str, Any]) -> PreTrainedConfig:
    """A configuration with another vocabulary."""
    if config.is_encoder_decoder:
        raise ConfigError(f"a {config.model_type} is an encoder-decoder; give a decoder-only model as the body")
    if config.get_text_config(decoder=True) is not config:
        raise ConfigError(f"a {config.model_type} reads more than text; give a decoder-only language model as the body")
    config = copy.deepcopy(config)
    for name, value in values.items():
        setattr(config, name, value)
    return config


def _shape(config: PreTrainedConfig, options: BodyOptions) -> None:
    """Leave out layers, and set dropout."""
    total = config.num_hidden_layers
    if options.num_layers is not None:
        if options.num_layers > total:
            raise ConfigError(f"num_layers is {options.num_layers}, but the body has {total} layers")
        for name, value in vars(config).items():
            # one entry for each layer
            if isinstance(value, list) and len(value) == total and "token" not in name and name != "architectures":
                setattr(config, name, value[: options.num_layers])
        config.num_hidden_layers = options.num_layers
    if options.body_dropout is not None:
        for name, value in vars(config).items():
            if "drop" in name and isinstance(value, int | float) and not isinstance(value, bool):
                setattr(config, name, options.body_dropout)
    check_sizes(config)


@torch.no_grad()
def _take_weights(network: PreTrainedModel, trained: PreTrainedModel) -> None:
    """Give a network the body of another; its input and output layers stay new."""
    own, given = network.state_dict(), trained.state_dict()
    new = {name for name, role in roles_of(network).items() if role in ("input", "output")}
    body = {name: value for name, value in given.items() if name in own and name not in new}
    missing = sorted(set(own) - set(body) - new)
    if missing:
        raise ConfigError(f"the body's weights have other names than its configuration says; it lacks {missing[0]}")
    network.load_state_dict(body, strict=False, assign=True)
    old: Any = trained.get_input_embeddings()
    inputs: Any = network.get_input_embeddings()
    inputs.weight.normal_(std=float(old.weight.std()))
