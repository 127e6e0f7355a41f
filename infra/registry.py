"""Find plug-ins: a family is a folder, a plug-in is a file in it, and the file's stem is its name.

A stem that begins with `_` is shared code, not a plug-in.

Listing a family imports nothing, so a plug-in with a missing dependency hurts only those who ask for it.
Outside packages join a family through the entry point group `cloudedge.<family>`; a file here wins over
an entry point of the same name.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from data_catalog.errors import BadInput, UnknownName

Contract = TypeVar("Contract")
EXTRAS = {"tensorflow": "cloud", "tf_keras": "cloud", "imagecodecs": "codecs", "pydicom": "dicom"}  # what installs them


class Registry(Generic[Contract]):
    """The plug-ins of one family: modules that satisfy the family's contract."""

    def __init__(self, package: str, kind: str) -> None:
        """Serve the modules of `package`; `kind` is the noun for messages, e.g. `codec`."""
        self.package = package
        self.kind = kind
        self._loaded: dict[str, Contract] = {}  # asked for once a shard; looking through the entry points takes 25 ms

    def names(self) -> list[str]:
        """All names, sorted; imports no plug-in."""
        return sorted({*self._inside(), *(point.name for point in self._entry_points())})

    def get(self, name: str, where: str = "") -> Contract:
        """The plug-in of that name.

        Args:
            name: the stem of its file.
            where: which file or flag named it, for the error.

        Raises:
            UnknownName: there is none.
            BadInput: it needs a package that is not installed; says which.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name, where)
        return self._loaded[name]

    def _load(self, name: str, where: str) -> Contract:
        if name in self._inside():
            path = f"{self.package}.{name}"
        else:
            outside = {point.name: point.value for point in self._entry_points()}
            if name not in outside:
                raise UnknownName.among(self.kind, name, self.names(), where)
            path = outside[name]
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            extra = f"'cloudedge[{EXTRAS[error.name]}]'" if error.name in EXTRAS else error.name
            raise BadInput(f"the {self.kind} {name!r} needs the package {error.name!r}; pip install {extra}") from error
        return cast("Contract", module)

    def _inside(self) -> list[str]:
        folder = importlib.import_module(self.package).__path__
        return [module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_")]

    def _entry_points(self) -> list[importlib.metadata.EntryPoint]:
        return list(entry_points(group=f"cloudedge.{self.package.rpartition('.')[2]}"))
