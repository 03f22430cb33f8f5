"""Options declared once: dataclasses whose fields are options of the constructors that take them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
import pytorch_lightning as pl

from common import ConfigError, DataError, check_positive
from generator.causal import CausalGenerator
from generator.datamodule import GeneratorDataModule
from generator.instruct_datamodule import InstructDataModule
from generator.model import RetrievalAugmentedGenerator
from generator.training.next_step_generator import CandidateOptions
from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from retrieval.training.options import check_types, flat, flat_options, names_of, options_of, save_options


@dataclass(frozen=True)
class Speed:
    """How fast.

    Attributes:
        limit: metres a second,
            at most
        unit: what is shown
    """

    limit: float = 10.0
    unit: str = "m/s"

    def __post_init__(self) -> None:
        check_positive(limit=self.limit)


class Car(pl.LightningModule):
    @flat_options
    def __init__(self, name: str, *, speed: Speed = Speed(), doors: int = 4) -> None:
        """Build a car.

        Args:
            name: on its plate
            speed: how fast it goes
            doors: to get in
        """
        super().__init__()
        self.name, self.speed, self.doors = name, speed, doors
        save_options(self, flat(speed, name=name, doors=doors))


class Racer(Car):
    @flat_options
    def __init__(self, name: str, *, speed: Speed = Speed(limit=90.0), wing: bool = True, **shared: object) -> None:
        """Build a fast car.

        Args:
            name: of the team
            speed: how fast it goes
            wing: whether it has one
            **shared: see Car
        """
        super().__init__(name, speed=speed, **shared)
        self.wing = wing


def test_fields_are_options_like_any_other() -> None:
    car = Car("a", limit=5.0, doors=2)
    assert (car.speed, car.doors) == (Speed(5.0), 2)
    assert Car("a", speed=Speed(7.0)).speed == Speed(7.0)
    assert Car("a", speed=Speed(7.0), unit="km/h").speed == Speed(7.0, "km/h"), "single fields change a whole"
    with pytest.raises(ConfigError, match=r"limit is -1"):
        Car("a", limit=-1)
    with pytest.raises(TypeError, match="wheels"):
        Car("a", wheels=4)


def test_a_subclass_passes_options_on_and_changes_a_default_by_naming_it() -> None:
    racer = Racer("b", doors=0)
    assert (racer.speed, racer.doors, racer.wing) == (Speed(90.0), 0, True)
    assert Racer("b", unit="mph").speed == Speed(90.0, "mph")


def test_signatures_tell_every_option_with_its_default() -> None:
    own = "(name: str, *, limit: float = 10.0, unit: str = 'm/s', doors: int = 4)"
    assert str(inspect.signature(Car)).startswith(own)
    assert set(options_of(Racer)) == {"name", "limit", "unit", "doors", "wing"}
    assert options_of(Racer)["limit"].default == 90.0 and options_of(Car)["limit"].default == 10.0


def test_help_has_the_descriptions_of_fields() -> None:
    assert "    limit: metres a second,\n        at most\n    unit: what is shown" in (Racer.__init__.__doc__ or "")


@dataclass(frozen=True)
class Flight(Speed):
    """How far up.

    Attributes:
        height: metres
    """

    height: float = 100.0


@flat_options
def fly(where: str, flight: Flight = Flight(limit=5.0)) -> None:
    """Fly.

    Args:
        where: to
        flight: how
    """
    flown.append((where, flight))


flown: list[tuple[str, Flight]] = []


def test_a_function_takes_fields_as_options_too_and_those_of_a_parent_are_described() -> None:
    fly("home", height=3.0)
    assert flown.pop() == ("home", Flight(limit=5.0, height=3.0))
    assert list(inspect.signature(fly).parameters) == ["where", "limit", "unit", "height"]
    for described in ("limit: metres a second", "unit: what is shown", "height: metres"):
        assert described in (fly.__doc__ or "")


def test_saved_options_are_plain_and_load_again() -> None:
    racer = Racer("b", limit=3.0)
    assert dict(racer.hparams) == {"limit": 3.0, "unit": "m/s", "name": "b", "doors": 4}
    again = Racer(**racer.hparams)
    assert again.speed == racer.speed and names_of(Speed) == ("limit", "unit")


@pytest.mark.parametrize(
    "kind",
    [
        RetrievalAugmentedGenerator,
        CausalGenerator,
        PremiseRetriever,
        GeneratorDataModule,
        InstructDataModule,
        RetrievalDataModule,
    ],
)
def test_every_option_of_ours_is_described_once_and_has_a_type(kind: type) -> None:
    described = "".join(inspect.getdoc(parent.__init__) or "" for parent in kind.__mro__)
    for name, option in options_of(kind).items():
        assert option.annotation is not inspect.Parameter.empty, name
        assert f"\n    {name}: " in described, f"{name} is not described"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_beams", "4"), ("num_beams", True), ("num_beams", 4.0), ("num_beams", None), ("length_penalty", "x"),
        ("length_penalty", float("inf")), ("length_penalty", float("nan")), ("template", ["ntp-st"]), ("sampling", 5),
        ("sampling", {"temperature": "hot"}), ("sampling", {"x": 1}), ("lora", {"r": "8"}), ("optimizer", "adam"),
    ],
)  # fmt: skip
def test_options_of_a_file_have_the_types_of_their_parameters(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"nextstep.json: option {name} is .*; it must be of type"):
        check_types(CausalGenerator, {name: value}, "nextstep.json")


def test_options_of_a_file_that_fit_are_taken() -> None:
    good = {"num_beams": 4, "length_penalty": 0, "template": None, "sampling": {"temperature": 1, "seed": 3}}
    check_types(CausalGenerator, good | {"lora": {"r": 8, "target_modules": ["q"]}, "of_a_newer_version": []}, "x")
    check_types(CandidateOptions, {"num_beams": 4, "sampling": None}, "x")
    with pytest.raises(DataError, match="num_beams"):
        check_types(CandidateOptions, {"num_beams": "4"}, "x")
    for penalty in (1e30, float("nan")):
        with pytest.raises(ConfigError, match="it must be from -100 to 100"):
            CandidateOptions(length_penalty=penalty)
