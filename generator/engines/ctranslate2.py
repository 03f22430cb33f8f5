"""The engine "ctranslate2": a converted copy of a T5-family model, in float32 or with quantised weights.

Needs the extra `ctranslate2`. The converted folder is an ordinary CTranslate2 model whose vocabulary holds the
tokenizer's own tokens, so that other programs can use it.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from common import ByteTokenizer, Candidate, ConfigError, DataError, check_choice
from generator.decoding.protocol import SpecialTokens
from generator.decoding.settings import Decoding
from generator.decoding.t5_decoder import check_model
from generator.decoding.t5_stack import output_scale
from generator.engines.engine import Input, TokenEngine, best_first, input_seed, weights_version
from retrieval.training.extras import import_extra

COMPUTE_TYPES = (
    "float32",
    "float16",
    "bfloat16",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
)  # of weights and arithmetic

VOCABULARY_FILE = "shared_vocabulary.json"
_LOADERS = {"t5": "T5Loader", "mt5": "MT5Loader", "umt5": "UMT5Loader"}

# CTranslate2 ends a search when so many times the wanted candidates are finished, not when no better one can come:
# with 1 it missed 28 of 2,016 candidates of the exact search on tiny random models, with 2 none.
_PATIENCE = 2
_NONE = -1e30  # what a hypothesis that does not exist scores, or less


class CTranslate2Engine(TokenEngine):
    """Decodes with CTranslate2, from a conversion of the live model or from a converted folder.

    The live model is converted at the first call, and again when its weights have changed since. The same call gives
    the same samples, but those of an input depend on what is asked beside it. Each call of sampling loads the converted
    model anew (ByT5-small: int8 0.6 s, float32 5.7 s on one busy core), because CTranslate2 takes a seed only when its
    threads start: ask for many inputs at once.
    """

    name: ClassVar[str] = "ctranslate2"
    is_live: ClassVar[bool] = False
    copies_inputs: ClassVar[bool] = True
    samples_alone: ClassVar[bool] = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_inp_seq_len: int,
        *,
        compute_type: str = "float32",
        device: str | None = None,
    ) -> None:
        """Keep the model; nothing of it is changed, and nothing is converted yet.

        Args:
            model: T5ForConditionalGeneration, or its MT5 or UMT5 relative
            tokenizer: its tokenizer
            max_inp_seq_len: tokens of an input, EOS included; a longer one is cut
            compute_type: one of COMPUTE_TYPES
            device: "cpu" or "cuda"; None is where the model is

        Raises:
            ConfigError: if ctranslate2 is not installed, or the model or the compute type cannot be used
        """
        super().__init__(tokenizer, max_inp_seq_len)
        import_ctranslate2()
        check_choice("compute_type", compute_type, COMPUTE_TYPES)
        check_convertible(getattr(model, "_orig_mod", model))
        self.model = getattr(model, "_orig_mod", model)
        self.compute_type, self.device = compute_type, device
        self._converted: _Converted | None = None
        self._weights: Any = None  # what they were at the last conversion
        self._sampler: Any = None  # the translator of a call of sampling

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        tokenizer: Any,
        max_inp_seq_len: int,
        *,
        compute_type: str | None = None,
        device: str = "auto",
    ) -> Self:
        """Return the engine of a converted folder, such as `python -m generator.export --format ctranslate2` writes.

        Args:
            folder: with model.bin and shared_vocabulary.json
            tokenizer: of the model
            max_inp_seq_len: tokens of an input, EOS included; a longer one is cut
            compute_type: None is what the folder was converted to
            device: "cpu", "cuda", or "auto"

        Raises:
            ConfigError: if ctranslate2 is not installed or the compute type is unknown
            DataError: if there is no converted model in the folder
        """
        import_ctranslate2()
        if compute_type is not None:
            check_choice("compute_type", compute_type, COMPUTE_TYPES)
        engine = cls.__new__(cls)
        TokenEngine.__init__(engine, tokenizer, max_inp_seq_len)
        engine.model, engine.compute_type, engine.device = None, compute_type or "default", device
        engine._converted = _Converted(Path(folder), engine.compute_type, device)
        engine._weights = engine._sampler = None
        return engine

    def propose(self, inputs: Sequence[str], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """See `Engine.propose`."""
        try:
            return super().propose(inputs, num_candidates, decoding)
        finally:
            self._sampler = None

    def _answer(self, inputs: list[Input], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        if decoding.stop:
            raise ConfigError("stop is for decoder-only models; what engine 'ctranslate2' decodes ends with EOS")
        converted = self._up_to_date()
        translator = converted.translator
        options: dict[str, Any] = {"max_decoding_length": decoding.max_new_tokens, "min_decoding_length": 0}
        sampling, length_penalty = decoding.sampling, 0.0
        if sampling is None:
            length_penalty = decoding.length_penalty
            options |= {"beam_size": decoding.rows_for(num_candidates), "patience": _PATIENCE}
            options |= {"num_hypotheses": _PATIENCE * num_candidates}
        else:
            if self._sampler is None:
                self._sampler = converted.load(input_seed(sampling.seed, inputs[0].text))
            translator = self._sampler
            options |= {"beam_size": 1, "num_hypotheses": num_candidates, "sampling_topk": sampling.top_k}
            options |= {"sampling_topp": sampling.top_p, "sampling_temperature": sampling.temperature}
        results = translator.translate_batch(
            [[converted.tokens[i] for i in _readable(one.ids.tolist())] for one in inputs],
            max_input_length=0,
            length_penalty=length_penalty,
            return_scores=True,
            return_end_token=True,
            **options,
        )
        # a score is the sum of the model's own log-probabilities / tokens ** length_penalty, EOS counted
        found = [
            [
                (self._text(hypothesis, converted), score * len(hypothesis) ** length_penalty)
                for hypothesis, score in zip(result.hypotheses, result.scores, strict=True)
                if score > _NONE  # of beams beyond what exists
            ]
            for result in results
        ]
        ordered = found if sampling is None else [best_first(each) for each in found]
        return [each[:num_candidates] for each in ordered]

    def _text(self, hypothesis: Sequence[str], converted: _Converted) -> str:
        text: str = self.tokenizer.decode([converted.numbers[token] for token in hypothesis], skip_special_tokens=True)
        return text

    def _up_to_date(self) -> _Converted:
        """The converted model, made of the live one where that has changed."""
        if self.model is not None:
            weights = weights_version(self.model)
            if self._converted is None or weights != self._weights:
                self._converted = None  # the old one's memory first
                device = self.device or str(next(self.model.parameters()).device)
                self._converted = _Converted.of(self.model, self.tokenizer, self.compute_type, device)
                self._weights = weights
        assert self._converted is not None
        return self._converted


def _readable(ids: list[int]) -> list[int]:
    """An input of EOS alone, which CTranslate2 skips, as two of it: without absolute positions they read the same."""
    return ids * 2 if len(ids) == 1 else ids


class _Converted:
    """A converted folder, and the translator that has loaded it."""

    def __init__(self, folder: Path, compute_type: str, device: str) -> None:
        self.folder, self.compute_type, self.device = folder, compute_type, device
        self.tokens = _read_vocabulary(folder)
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        self.translator = self.load()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def of(cls, model: Any, tokenizer: Any, compute_type: str, device: str) -> Self:
        """Convert a live model into a folder that lasts as long as this object."""
        temporary = tempfile.TemporaryDirectory(prefix="nextstep-ctranslate2-")
        convert(model, tokenizer, Path(temporary.name), compute_type)
        converted = cls(Path(temporary.name), compute_type, device)
        converted._temporary = temporary
        return converted

    def load(self, seed: int | None = None) -> Any:
        """Return a new translator; with a seed, its samples follow from it."""
        library = import_ctranslate2()
        device, _, number = self.device.partition(":")
        if seed is not None:
            library.set_random_seed(seed)
        try:
            return library.Translator(
                str(self.folder),
                device=device,
                device_index=int(number or 0),
                compute_type=self.compute_type,
                intra_threads=torch.get_num_threads(),
            )
        except ValueError as error:
            kinds = "" if device == "auto" else ", ".join(sorted(library.get_supported_compute_types(device)))
            raise ConfigError(
                f"compute_type {self.compute_type!r} cannot be used on {device}: {error} Choose one of {kinds}"
            ) from error


def convert(model: Any, tokenizer: Any, folder: Path, quantization: str = "float32") -> None:
    """Write a T5-family model as a CTranslate2 folder; the model itself is not changed.

    Args:
        model: see `check_convertible`
        tokenizer: gives the tokens of the vocabulary
        folder: is made, with its parents
        quantization: of the weights, one of COMPUTE_TYPES

    Raises:
        ConfigError: if ctranslate2 is not installed, or the model or the quantization cannot be used
    """
    import_ctranslate2()
    check_choice("quantization", quantization, COMPUTE_TYPES)
    check_convertible(model)
    special = SpecialTokens.of(model)
    if len(special.eos) != 1:
        raise ConfigError(f"eos_token_id is {list(special.eos)}: CTranslate2 converts models with one EOS token")
    loaders = import_ctranslate2("ctranslate2.converters.transformers")
    loader = getattr(loaders, _LOADERS[model.config.model_type])()
    source = copy.deepcopy(model).float().cpu()  # int8 conversion rounds the weights in place
    source.config.__dict__["tie_word_embeddings"] = False  # scales the output there, which is set below instead
    with torch.no_grad():
        specification = loader.get_model_spec(source)
        if (scale := output_scale(model.config)) != 1.0:
            specification.decoder.scale_outputs = scale
        tokens = vocabulary(tokenizer, source.get_input_embeddings().weight.shape[0])
        loader.set_vocabulary(specification, tokens)
        unknown = getattr(tokenizer, "unk_token_id", None)
        specification.config.bos_token = specification.config.decoder_start_token = tokens[special.start]
        specification.config.eos_token = tokens[special.eos[0]]
        specification.config.layer_norm_epsilon = float(model.config.layer_norm_epsilon)
        specification.config.unk_token = tokens[special.pad if unknown is None else unknown]
        specification.validate()
        specification.optimize(quantization=quantization)
        folder.mkdir(parents=True, exist_ok=True)
        specification.save(str(folder))


def check_convertible(model: Any) -> None:
    """Raise ConfigError unless a model is of the T5 family and CTranslate2 computes what it computes."""
    try:
        check_model(model)
    except TypeError as error:
        raise ConfigError(f"CTranslate2 cannot run this model here: {error}") from None
    loaders = import_ctranslate2("ctranslate2.converters.transformers")
    if not hasattr(loaders, _LOADERS[model.config.model_type]):
        raise ConfigError(
            f"the installed ctranslate2 does not convert {model.config.model_type} models; upgrade it, or choose "
            "engine 'native'"
        )


def vocabulary(tokenizer: Any, size: int) -> list[str]:
    """Return a string for each id, as the tokenizer writes it: CTranslate2 takes and gives tokens, not ids."""
    if isinstance(tokenizer, ByteTokenizer):  # the strings of transformers.ByT5Tokenizer
        sentinels = [f"<extra_id_{i}>" for i in range(tokenizer.extra_ids)]
        tokens = [tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, *map(chr, range(256)), *sentinels]
    else:
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [*tokens[:size], *(f"<unused_{i}>" for i in range(len(tokens), size))]


def _read_vocabulary(folder: Path) -> list[str]:
    path = folder / VOCABULARY_FILE
    if not (folder / "model.bin").is_file() or not path.is_file():
        raise DataError(
            f"{folder}: has no model.bin and {VOCABULARY_FILE}, so it is no converted T5 model; make one with "
            "python -m generator.export --format ctranslate2"
        )
    try:
        tokens: list[str] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError("it is no list of tokens")
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: is broken ({error}); convert the model again") from error
    return tokens


def import_ctranslate2(module: str = "ctranslate2") -> Any:
    """Return the library or one of its modules; raise ConfigError if it is not installed."""
    return import_extra(module, "ctranslate2", "engine 'ctranslate2'")
