"""Where a state comes up, as provers tell it: lists of states, files, names and positions."""

from __future__ import annotations

from collections.abc import Sequence

from common import ConfigError, Context, DataError, FilePath, Pos


def contexts_of(
    states: Sequence[str],
    file_paths: Sequence[FilePath],
    theorem_full_names: Sequence[str],
    theorem_positions: Sequence[object],
) -> list[Context]:
    """Return the contexts that provers pass as four lists, one entry for each state.

    Raises:
        ConfigError: if the lists differ in length
        DataError: if a position is none, see `theorem_pos`
    """
    lengths = [len(states), len(file_paths), len(theorem_full_names), len(theorem_positions)]
    if len(set(lengths)) != 1:
        raise ConfigError(
            "states, file_paths, theorem_full_names and theorem_positions must have one entry for each state, "
            f"but have {lengths}"
        )
    rows = zip(states, file_paths, theorem_full_names, theorem_positions, strict=True)
    return [Context(str(path), name, theorem_pos(position), state) for state, path, name, position in rows]


def theorem_pos(value: object) -> Pos | None:
    """Return where a theorem starts: what `Pos.of` reads; None for None and (0, 0), by which provers say nothing.

    Raises:
        DataError: for anything else
    """
    pair = value if isinstance(value, tuple | list) else (getattr(value, "line_nb", 1), getattr(value, "column_nb", 1))
    if value is None or (len(pair) == 2 and all(type(number) is int and number == 0 for number in pair)):
        return None
    return Pos.of(value)


def place_of(context: Context) -> tuple[str, Pos]:
    """Return file and position of the theorem, for who has to know them.

    Raises:
        DataError: if the prover gave no position
    """
    if context.theorem_pos is None:
        raise DataError(
            f"theorem_pos of {context.theorem_full_name or 'the theorem'} is not given (None or (0, 0)), and what may "
            "be cited or told there depends on it; give line and column of the theorem, both from 1"
        )
    return context.path, context.theorem_pos
