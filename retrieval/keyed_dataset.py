"""What the datasets of all models have in common: examples that depend on (seed, epoch, index) alone."""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import TypeVar, overload

from torch.utils.data import Dataset

from common import ExampleKey

_T = TypeVar("_T")


class KeyedDataset(Dataset[_T]):
    """Examples by key, the same whenever and wherever they are read.

    `dataset[index]` is an example as it is in epoch 0, `dataset[epoch, index]` in another one, and a list of either
    gives a list.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def example(self, epoch: int, index: int) -> _T:
        """Return an example as it is in an epoch; `index` counts from 0."""

    @overload
    def __getitem__(self, key: int | ExampleKey) -> _T: ...
    @overload
    def __getitem__(self, key: list[int] | list[ExampleKey]) -> list[_T]: ...
    def __getitem__(self, key: int | ExampleKey | list[int] | list[ExampleKey]) -> _T | list[_T]:
        if isinstance(key, list):
            return [self[k] for k in key]
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.example(epoch, range(len(self))[operator.index(index)])
