"""A learnt ranking of the lookup's candidates: probabilities out of what `features` knows of them.

A candidate's score is a linear function of its features plus a small network's over them and the state's; one more
score, of the state alone, stands for all tactics that are not among the candidates. The softmax of all is the
distribution, so that what is left to 1 is the probability that none of the candidates is right.

Source: the loss is ListNet's top-one cross-entropy (Cao et al., 2007) with one right answer.

Shape legend: B states, C candidates, F features of a candidate, Q of a state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, gelu
from tqdm import tqdm

from common import Candidate, ConfigError, DataError
from generator.nearest.features import CANDIDATE, STATE, Table
from retrieval.training.files import writing_file

_HIDDEN, _HIDDEN_OF_STATE = 64, 16
_LIMIT = 5.0  # standard deviations: features beyond say no more
_NONE = -1  # the place of a tactic that is not among the candidates
_EPOCHS, _BATCH, _LR, _WEIGHT_DECAY, _DROPOUT = 8, 64, 1e-2, 1e-2, 0.1


class Ranking(nn.Module):
    """Scores candidates; see the module."""

    mean: Tensor
    deviation: Tensor
    state_mean: Tensor
    state_deviation: Tensor

    def __init__(self, candidate: Sequence[str] = CANDIDATE, of_state: Sequence[str] = STATE) -> None:
        """Start with scores that are all the same.

        Args:
            candidate: names of the features of a candidate, F
            of_state: of those of a state, Q
        """
        super().__init__()
        self._candidate, self._of_state = tuple(candidate), tuple(of_state)
        num, num_of_state = len(candidate), len(of_state)
        self.linear = nn.Linear(num, 1)
        self.inner, self.outer = nn.Linear(num + num_of_state, _HIDDEN), nn.Linear(_HIDDEN, 1)
        self.none_inner, self.none_outer = nn.Linear(num_of_state, _HIDDEN_OF_STATE), nn.Linear(_HIDDEN_OF_STATE, 1)
        for layer in (self.linear, self.outer):
            nn.init.zeros_(layer.weight)
        for name, size in (
            ("mean", num),
            ("deviation", num),
            ("state_mean", num_of_state),
            ("state_deviation", num_of_state),
        ):
            self.register_buffer(name, torch.zeros(size) if name.endswith("mean") else torch.ones(size))

    def forward(self, candidates: Tensor, state: Tensor, is_there: Tensor) -> Tensor:
        """Return the logarithms of probabilities; the last column is that of none being right.

        Args:
            candidates: float (B, C, F)
            state: float (B, Q)
            is_there: bool (B, C), False for padding

        Returns:
            float (B, C + 1)
        """
        of_state = ((state - self.state_mean) / self.state_deviation).clamp(-_LIMIT, _LIMIT)
        found = ((candidates - self.mean) / self.deviation).clamp(-_LIMIT, _LIMIT)
        both = torch.cat([found, of_state[:, None].expand(-1, found.shape[1], -1)], dim=-1)
        hidden = dropout(gelu(self.inner(both)), _DROPOUT, self.training)
        scores = (self.linear(found) + self.outer(hidden))[..., 0].masked_fill(~is_there, -torch.inf)
        return torch.cat([scores, self.none_outer(gelu(self.none_inner(of_state)))], dim=1).log_softmax(dim=1)

    @torch.no_grad()
    def rank(self, table: Table) -> list[Candidate]:
        """Return the candidates of a state with their log-probabilities, best first."""
        candidates, state = torch.from_numpy(table.candidates)[None], torch.from_numpy(table.state)[None]
        found = self(candidates, state, torch.ones(candidates.shape[:2], dtype=torch.bool))[0, :-1]
        order = found.argsort(descending=True, stable=True)
        return [
            (table.tactics[place], log_prob)
            for place, log_prob in zip(order.tolist(), found[order].tolist(), strict=True)
        ]

    # -------------------------------------------------------------------------------------------- files

    def save(self, path: Path) -> None:
        """Write one safetensors file.

        Raises:
            DataError: if the system refuses to write
        """
        # one entry, since several come in an order that differs from process to process
        about = {"candidate": self._candidate, "state": self._of_state}
        with writing_file(path) as part:
            save_file(self.state_dict(), part, {"nextstep": json.dumps(about)})

    @classmethod
    def load(cls, path: Path, candidate: Sequence[str] = CANDIDATE, of_state: Sequence[str] = STATE) -> Ranking:
        """Read what `save` wrote, of a ranking by these features; see the constructor.

        Raises:
            DataError: if the file is missing, broken, or made with other features
        """
        ranking = cls(candidate, of_state)
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["nextstep"])
            if about != {"candidate": [*candidate], "state": [*of_state]}:
                raise ValueError("made with other features")
            ranking.load_state_dict(load_file(path))
            _check(ranking.state_dict())
        except (KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
            what = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
            raise DataError(f"{path}: is no ranking of this program ({what}); make the folder again") from error
        return ranking.eval()


def learn(
    tables: Sequence[tuple[Table, str]],
    seed: int = 0,
    *,
    candidate: Sequence[str] = CANDIDATE,
    of_state: Sequence[str] = STATE,
    progress: bool = False,
) -> Ranking:
    """Return the ranking that makes right tactics the most probable, by AdamW; the same for the same tables and seed.

    Args:
        tables: of held-out steps, each with the right tactic, whether it is among the candidates or not
        seed: of the first weights and the order of the steps
        candidate: names of the features of a candidate
        of_state: of those of a state
        progress: show a progress bar

    Raises:
        ConfigError: if no table has the right tactic
    """
    right = [table.tactics.index(tactic) if tactic in table.tactics else _NONE for table, tactic in tables]
    if all(place == _NONE for place in right):
        raise ConfigError("no right tactic is among the candidates of held-out steps; hold out more of them")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ranking = Ranking(candidate, of_state)
        _standardize(ranking, [table for table, _ in tables])
        optimizer = torch.optim.AdamW(ranking.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
        per_epoch = -(-len(tables) // _BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=max(_EPOCHS * per_epoch, 10))
        for _ in tqdm(range(_EPOCHS), desc="learn to rank", unit="epoch", disable=not progress):
            for batch in torch.randperm(len(tables)).split(_BATCH):
                numbers = batch.tolist()
                candidates, state, is_there = _padded([tables[number][0] for number in numbers])
                width = candidates.shape[1]
                places = torch.tensor([width if right[number] == _NONE else right[number] for number in numbers])
                loss = cross_entropy(ranking(candidates, state, is_there), places)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return ranking.eval()


def _check(found: dict[str, Tensor]) -> None:
    """Raise ValueError for numbers that no learning gives."""
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has values that are no numbers")
        if name.endswith("deviation") and not (tensor > 0).all():
            raise ValueError(f"{name} is not above 0")


def _padded(tables: Sequence[Table]) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `Ranking.forward`; C is the most candidates that one of these tables has."""
    num = torch.tensor([len(table.tactics) for table in tables])
    candidates = torch.zeros(len(tables), int(num.max()), tables[0].candidates.shape[1])
    for row, table in enumerate(tables):
        candidates[row, : len(table.tactics)] = torch.from_numpy(table.candidates)
    state = torch.from_numpy(np.stack([table.state for table in tables]))
    return candidates, state, torch.arange(candidates.shape[1]) < num[:, None]


def _standardize(ranking: Ranking, tables: Sequence[Table]) -> None:
    number = sum(len(table.tactics) for table in tables)
    mean = sum(table.candidates.sum(axis=0, dtype=np.float64) for table in tables) / number
    squares = sum(np.square(table.candidates - mean).sum(axis=0) for table in tables)
    states = np.stack([table.state for table in tables]).astype(np.float64)
    for of_mean, of_deviation, found, deviation in (
        (ranking.mean, ranking.deviation, mean, np.sqrt(squares / number)),
        (ranking.state_mean, ranking.state_deviation, states.mean(axis=0), states.std(axis=0)),
    ):
        of_mean.copy_(torch.from_numpy(np.asarray(found)))
        of_deviation.copy_(torch.from_numpy(np.where(deviation > 1e-6, deviation, 1.0)))
