"""NumPy's `.npy`: one array of records, read through a memory map; labels in `<stem>.labels.npy` beside it.

Pickled arrays are refused: loading one would run code from the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import BadRecord
from data_catalog.nouns import Schema
from infra.readers import Block, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The array's records; see the family's contract.

    Raises:
        BadRecord: not an `.npy` file, a wrong shape, labels of another length, or a bad value.
    """
    array = _mapped(path)
    if array.shape[1:] != record.shape:
        raise BadRecord(f"{path}: records of shape {array.shape[1:]} where the schema says {record.shape}; correct one")
    labels = None
    if record.label is not None:
        labels = _mapped(path.with_suffix(".labels.npy"))
        if labels.shape != (len(array),):
            raise BadRecord(f"{path.with_suffix('.labels.npy')}: {labels.shape} labels for {len(array)} records")
    for start in range(0, len(array), block_rows):
        part = slice(start, start + block_rows)
        x = checked(np.asarray(array[part]), record, path, start)
        yield Block(start, x, None if labels is None else np.asarray(labels[part]).astype(np.str_))


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """The file of the labels, if the schema says that there are any."""
    return () if record.label is None else (uri.removesuffix(".npy") + ".labels.npy",)


def _mapped(path: Path) -> NDArray[np.generic]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadRecord(f"{path}: not a readable .npy file ({error}); correct the file") from error
    if not isinstance(array, np.ndarray) or array.ndim < 1:
        raise BadRecord(f"{path}: holds no array of records; save one with numpy.save")
    return array


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, ...) and perhaps its labels, and its schema."""
    with path.open("wb") as file:
        np.save(file, x)
    if labels is not None:
        with path.with_suffix(".labels.npy").open("wb") as file:
            np.save(file, labels)
    return Schema(shape=x.shape[1:], dtype=x.dtype.name, label=None if labels is None else "labels")
