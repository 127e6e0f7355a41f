"""Generators: made-up data that looks like the real thing, where no real data may be shipped. A module here each.

The contract: `write(path, rows, seed)` writes one file of the module's `SUFFIX` with that many rows; the same rows
and seed give the same bytes on one version of NumPy, another seed gives other data. Nothing is fetched. Values are
rounded to whole numbers, so that the last bits of floating point do not show.

A source names one as `generated://<generator>/<file><SUFFIX>?rows=<n>&seed=<n>`, and its dataset's name begins with
`synthetic-`, so that nobody takes it for measurements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlsplit

from data_catalog.errors import CatalogError
from infra.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

MOST_ROWS = 1 << 32


class Generator(Protocol):
    """What a generator module offers."""

    SUFFIX: str

    def write(self, path: Path, rows: int, seed: int) -> None:
        """Write a file of `rows` rows."""
        ...


GENERATORS: Registry[Generator] = Registry(__name__, "generator")


def generate(uri: str, folder: Path) -> Path:
    """The file that a `generated://` URI names, written on first use; whole or not at all.

    Args:
        uri: as above.
        folder: of this URI alone.

    Raises:
        UnknownName: there is no such generator.
        CatalogError: the URI is not of that form.
    """
    parts = urlsplit(uri)
    name = parts.path.strip("/")
    generator = GENERATORS.get(parts.netloc, uri)
    settings = dict(parse_qsl(parts.query))
    rows, seed = (settings.get(key, "") for key in ("rows", "seed"))
    if (
        set(settings) != {"rows", "seed"} or not (rows.isdecimal() and seed.isdecimal()) or not 0 < int(rows) < MOST_ROWS
        or "/" in name or not name.endswith(generator.SUFFIX) or name == generator.SUFFIX
    ):  # fmt: skip
        raise CatalogError(f"{uri}: write generated://{parts.netloc}/<name>{generator.SUFFIX}?rows=<n>&seed=<n>")
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{name}.tmp"
        generator.write(unfinished, int(rows), int(seed))
        unfinished.rename(path)
    return path
