"""What every generator must do; see `infra.generators` for the contract."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.generators import Generator


def written(generator: Generator, rows: int, seed: int) -> bytes:
    """The bytes of one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{generator.SUFFIX}"
        generator.write(path, rows, seed)
        assert [file.name for file in Path(folder).iterdir()] == [path.name]
        return path.read_bytes()


def check_its_suffix_is_one(generator: Generator) -> None:
    """It names what the file is."""
    assert generator.SUFFIX.startswith(".")
    assert generator.SUFFIX.lower() == generator.SUFFIX


def check_the_same_rows_and_seed_give_the_same_bytes(generator: Generator) -> None:
    """So a run that is started again finds what it has computed."""
    assert written(generator, 300, 5) == written(generator, 300, 5)


def check_another_seed_gives_other_data(generator: Generator) -> None:
    """So sites do not hold the same records."""
    assert written(generator, 300, 5) != written(generator, 300, 6)


def check_more_rows_are_more_bytes(generator: Generator) -> None:
    """One row is possible, and rows are what is counted."""
    sizes = [len(written(generator, rows, 5)) for rows in (1, 40, 400)]
    assert sizes == sorted(set(sizes))


CHECKS = (
    check_its_suffix_is_one,
    check_the_same_rows_and_seed_give_the_same_bytes,
    check_another_seed_gives_other_data,
    check_more_rows_are_more_bytes,
)
