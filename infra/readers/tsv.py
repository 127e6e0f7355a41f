"""Tab-separated values, plain or compressed by its suffix; see `infra.readers._delimited` for headers and columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.readers import Block, _delimited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from data_catalog.nouns import Schema

SUFFIXES = (".tsv", ".tsv.gz", ".tsv.bz2", ".tsv.zst")


def read(path: Path, record: Schema, block_rows: int) -> Iterator[Block]:
    """The file's records; see the family's contract."""
    return _delimited.read(path, record, block_rows, "\t")


def pieces(path: Path, record: Schema, block_rows: int) -> Iterator[Callable[[], Block]]:
    """The same, the making of numbers left to the caller's threads."""
    return _delimited.pieces(path, record, block_rows, "\t")


def companions(uri: str, record: Schema) -> tuple[str, ...]:
    """None: labels are a column."""
    return ()


def write_example(path: Path, x: NDArray[np.generic], labels: NDArray[np.str_] | None) -> Schema:
    """A file with `x` (n, values) and perhaps a label column, and its schema."""
    return _delimited.write_example(path, x, labels, "\t")
