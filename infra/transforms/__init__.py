"""Transforms: one preprocessing step, run where the data is born. A module here, of one of four kinds.

The contract. Every transform has a `VERSION`, raised whenever its output changes: name, version and settings are
part of the preprocessing digest, hence of every result's name. It is pure, leaves its input as it is, and raises
`ValueError` for settings or values that it cannot use. What it offers says which kind it is:

- **row by row**: `apply(x, **settings)` takes records of shape (n, ...) and returns an array with the same first
  axis; the answer for a row does not depend on its neighbours.
- **fitted**: `apply` as above, and `fit(blocks, **settings)`, which makes the statistics that `apply` needs, as a
  JSON object, in one pass over blocks of records in bounded memory; however the records are cut into blocks, the
  statistics agree to seven digits. They are a setting, `statistics`: whoever writes it into the YAML pins it; else
  it is fitted once on the training split of the model's dataset and kept in the store (`infra.fitting`).
- **regrouping**: `regroup(x, labels, **settings)` makes records out of runs of rows, windows of a time series for
  example. It sees consecutive rows that begin where a record may begin, and says how many rows are done with; the
  rest comes again in front of the next block, so blocks of any size give the same records. A dataset has at most
  one. A made record bears the id of its first row, and its split follows from its own content.
- **for training only**: `augment(x, seeds, **settings)` returns another view of each record, of the same shape and
  dtype, a function of the record and its seed alone. The views join the training split when a model is trained;
  no batch of a run ever goes through it, so it is part of the model's version and not of a result's name.

Scaling belongs into the model (a Rescaling layer), so that shards keep the smallest dtype; `normalise` can give
`uint8` where values are wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from infra.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray


class TransformPlugin(Protocol):
    """What every transform module has, and the functions of which it has those of its kind.

    `EXAMPLE_SHAPE` is only there where a record of the suite should not be (64,).
    """

    VERSION: int
    EXAMPLE: dict[str, Any]  # settings for the conformance suite, which feeds uint8 records
    EXAMPLE_SHAPE: tuple[int, ...]

    def apply(self, x: NDArray[np.generic], **settings: Any) -> NDArray[np.generic]:
        """The transformed records: row by row, and fitted."""
        ...

    def fit(self, blocks: Iterable[NDArray[np.generic]], **settings: Any) -> dict[str, Any]:
        """The statistics of all records: fitted."""
        ...

    def regroup(self, x: NDArray[np.generic], labels: NDArray[np.str_] | None, **settings: Any) -> Regrouped:
        """Records made of consecutive rows: regrouping."""
        ...

    def augment(self, x: NDArray[np.generic], seeds: NDArray[np.uint64], **settings: Any) -> NDArray[np.generic]:
        """Another view of each record: for training only."""
        ...


@dataclass(frozen=True, slots=True)
class Regrouped:
    """What a regrouping transform made of some rows.

    `x` (k, ...) are the records, `labels` (k,) theirs or None, `first` (k,) the positions of their first rows among
    those it saw, `used` how many rows it is done with: it may be more than it saw, then those that come are skipped.
    `overlapping` says that a row can be in two records; a dataset with splits refuses that, because a model would be
    judged on rows that it has seen.
    """

    x: NDArray[np.generic]
    labels: NDArray[np.str_] | None
    first: NDArray[np.intp]
    used: int
    overlapping: bool


KINDS = ("fit", "regroup", "augment", "apply")  # by the function that tells it, the telling one first
TRANSFORMS: Registry[TransformPlugin] = Registry(__name__, "transform")


def kind(transform: TransformPlugin) -> str:
    """Which of `KINDS` a transform is."""
    return next(name for name in KINDS if hasattr(transform, name))
