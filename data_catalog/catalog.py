"""Load datasets, models, compression recipes and sites from YAML, and say clearly what is wrong with one that does not load.

A name is the stem of a file: `datasets/mnist-5k.yaml` is the dataset `mnist-5k`. The built-in folder is
searched last, so a user's own folder (`--catalog DIR` or `CLOUDEDGE_CATALOG`) can add to it or replace
an entry.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import ValidationError

from data_catalog.errors import CatalogError, UnknownName
from data_catalog.nouns import CompressionRecipe, Dataset, Model, Noun, Site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLOUD = "cloud"  # the site that joins a run that names none
BUILT_IN = Path(__file__).parent
Entry = TypeVar("Entry", bound=Noun)


class Catalog:
    """The datasets, models and sites found in a list of folders, the first of which wins."""

    def __init__(self, folders: Sequence[Path] = (), joined: Mapping[str, Site] | None = None) -> None:
        """Look in `folders` first, then in the built-in catalog.

        Args:
            folders: with `datasets`, `models`, `recipes` and `sites`.
            joined: sites by name whose machines joined; they win over a file.

        Raises:
            CatalogError: if one of `folders` does not exist.
        """
        for folder in folders:
            if not folder.is_dir():
                raise CatalogError(f"the catalog folder {folder} does not exist; create it or correct the path")
        self.folders = (*folders, BUILT_IN)
        self.joined = dict(joined or {})

    def _files(self, kind: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in reversed(self.folders):
            found |= {path.stem: path for path in sorted((folder / kind).glob("*.yaml"))}
        return found

    def _load(self, kind: str, noun: type[Entry], name: str, where: str) -> Entry:
        files = self._files(kind)
        if name not in files:
            raise UnknownName.among(kind.removesuffix("s"), name, files, where)
        return read_entry(files[name], noun)

    def dataset(self, name: str, where: str = "") -> Dataset:
        """The dataset of that name.

        Args:
            name: the stem of its file.
            where: which file or flag named it, for the error.

        Raises:
            UnknownName: no such file.
            CatalogError: the file is not a dataset; names the file and the key.
        """
        return self._load("datasets", Dataset, name, where)

    def model(self, name: str, where: str = "") -> Model:
        """The model of that name; raises as `dataset` does."""
        return self._load("models", Model, name, where)

    def recipe(self, name: str, where: str = "") -> CompressionRecipe:
        """The compression recipe of that name; raises as `dataset` does."""
        return self._load("recipes", CompressionRecipe, name, where)

    def site(self, name: str, where: str = "") -> Site:
        """The site of that name; raises as `dataset` does."""
        return self.joined.get(name) or self._load("sites", Site, name, where)

    def sites(self, names: Sequence[str], dataset: Dataset, where: str = "") -> list[Site]:
        """The sites of those names, each once; of no names: where the dataset is born, and the cloud.

        Raises as `dataset` does, and CatalogError if one of them is draining.
        """
        chosen = names or [*(source.site for source in dataset.sources), CLOUD]
        sites = [self.site(name, where) for name in dict.fromkeys(chosen)]
        if leaving := next((site.name for site in sites if site.draining), ""):
            raise CatalogError(
                f"site {leaving} is draining and gets no new work; leave it out, or `cloudedge site drain {leaving} --undo`"
            )
        return sites

    def names(self, kind: str) -> list[str]:
        """The names of all `datasets`, `models`, `recipes` or `sites`."""
        return sorted({*self._files(kind), *(self.joined if kind == "sites" else ())})


def read_entry(path: Path, noun: type[Entry]) -> Entry:
    """Read and check one YAML file.

    Raises:
        CatalogError: unreadable, not YAML, or not what `noun` describes; one line with file and key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path}: cannot be read ({error}); check the file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise CatalogError(f"{path}: broken YAML{line} ({problem}); correct that line") from error
    if not isinstance(data, dict):
        raise CatalogError(f"{path}: holds no keys; a {noun.__name__.lower()} is a YAML mapping")
    try:
        entry = noun.model_validate({"name": path.stem} | data)
    except ValidationError as error:
        raise CatalogError(f"{path}: {first_problem(error)}") from error
    if getattr(entry, "name", path.stem) != path.stem:
        raise CatalogError(f"{path}: key `name`: must be {path.stem!r}, the stem of the file; rename one of them")
    return entry


def first_problem(error: ValidationError) -> str:
    """One line for the first of pydantic's complaints: key, what is wrong, what is there."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
    if problem["type"] == "extra_forbidden":
        return f"key `{key}`: unknown; remove it or correct its spelling"
    if problem["type"] == "missing":
        return f"key `{key}`: missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    return f"key `{key}`: {message[:1].lower()}{message[1:]}; correct it"
