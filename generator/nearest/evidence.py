"""What tells how near a known step is: its state, what is to be proved there, their shapes, its theorem, its file.

Shape legend: N steps, K of them the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import Context
from generator.nearest.shapes import OF_SHAPES, goal_shape, state_shape
from generator.nearest.steps import StateText, Steps
from retrieval.ngram_index import NgramIndex, NgramOptions, largest

# What each kind of evidence counts where the K nearest steps are chosen. Of 500 val states of Coq's library, votes by
# this sum are right in 23.4% (32.4% among 8), without shapes in 21.8% (30.4%), by the state alone in 18.8% (29.6%).
GOAL_WEIGHT, NAME_WEIGHT, FILE_WEIGHT, SHAPE_WEIGHT = 0.5, 0.5, 0.25, 1.0
_GOAL = StateText(part="goal")

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Evidence:
    """The K nearest steps of a state, and how near they are in each way.

    Attributes:
        numbers: of the steps, by falling `near`, int64 (K,)
        near: the weighted sum of the others, float32 (K,)
        state: similarity of the states, float32 (K,)
        goal: of what is to be proved, float32 (K,)
        shape: of the shapes of what is to be proved, see `goal_shape`, float32 (K,)
        whole: of those with hypotheses, see `state_shape`, float32 (K,)
        name: of the last parts of the theorems' names, float32 (K,)
        same_file: whether they stand in the theorem's file, float32 (K,)
        same_folder: or in a file beside it, float32 (K,)
    """

    numbers: npt.NDArray[np.int64]
    near: _Floats
    state: _Floats
    goal: _Floats
    shape: _Floats
    whole: _Floats
    name: _Floats
    same_file: _Floats
    same_folder: _Floats


class EvidenceIndex:
    """Finds the nearest of N steps by all that tells how near they are.

    Attributes:
        goals: n-grams of what is to be proved in each distinct state
        shapes: of its shape
        wholes: of the shape of the whole state
        names: of the last part of each theorem's name
    """

    def __init__(
        self,
        steps: Steps,
        states: NgramIndex,
        goals: NgramIndex,
        shapes: NgramIndex,
        wholes: NgramIndex,
        names: NgramIndex,
    ) -> None:
        """Join the indexes of the steps; users call `of`."""
        self._steps, self._states, self.goals, self.names = steps, states, goals, names
        self.shapes, self.wholes = shapes, wholes
        folders = [_folder(path) for path in steps.paths]
        self._folders = {folder: number for number, folder in enumerate(dict.fromkeys(folders))}
        numbers = np.array([self._folders[folder] for folder in folders], dtype=np.int64)
        self._folder_of_step = numbers[steps.file_of_step] if len(steps) else np.zeros(0, dtype=np.int64)

    @classmethod
    def of(cls, steps: Steps, states: NgramIndex, *, progress: bool = False) -> EvidenceIndex:
        """Index goals, shapes and names; what the index of states says of n-grams holds for goals too."""
        texts = [steps.text(number) for number in range(steps.num_texts)]
        names = [last_part(steps.name(number)) for number in range(steps.num_theorems)]
        shapes, wholes = ([read(text) for text in texts] for read in (goal_shape, state_shape))
        to_index = (
            ([_GOAL(text) for text in texts], states.options),
            (shapes, OF_SHAPES),
            (wholes, OF_SHAPES),
            (names, NgramOptions(max_share=1.0)),
        )
        bar = tqdm(to_index, desc="goals, shapes, names", unit="index", disable=not progress)
        made = [NgramIndex.of(of, options) for of, options in bar]
        return cls(steps, states, *made)

    def nearest(self, context: Context, text: str, may_look_up: npt.NDArray[np.bool_], number: int) -> Evidence:
        """Return the nearest steps; of equally near ones the first. None that shares nothing with the state.

        Args:
            context: the theorem and the state
            text: what is compared of the state
            may_look_up: which steps may be found, bool (N,)
            number: K
        """
        steps = self._steps
        state = self._states.scores(text)[steps.text_of]
        goal = self.goals.scores(_GOAL(text))[steps.text_of]
        shape = self.shapes.scores(goal_shape(text))[steps.text_of]
        whole = self.wholes.scores(state_shape(text))[steps.text_of]
        name = self.names.scores(last_part(context.theorem_full_name))[steps.theorem_of]
        same_file = (steps.file_of_step == steps.file_number(context.path)).astype(np.float32)
        near = state + GOAL_WEIGHT * goal + SHAPE_WEIGHT * (shape + whole)
        near += NAME_WEIGHT * name + FILE_WEIGHT * same_file
        near[~may_look_up | ((state <= 0) & (goal <= 0))] = 0
        found = largest(near, number)
        folder = self._folders.get(_folder(context.path), -1)
        same_folder = (self._folder_of_step[found] == folder).astype(np.float32)
        return Evidence(
            found,
            near[found],
            state[found],
            goal[found],
            shape[found],
            whole[found],
            name[found],
            same_file[found],
            same_folder,
        )


def last_part(full_name: str) -> str:
    """Return the name of a theorem without the modules that it stands in.

    >>> last_part("Coq.ZArith.BinInt.Z.add_comm")
    'add_comm'
    """
    return full_name.rsplit(".", 1)[-1]


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)
