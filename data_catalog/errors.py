"""Every error that cloudedge raises on purpose.

They live at the bottom layer, beside the nouns, because every layer speaks of failures in the same words::

    CloudEdgeError                what went wrong, with which value, and what to do; exit code 1
    ├── BadInput                  the user can mend it: exit code 2
    │   ├── CatalogError          a YAML file of the catalog: file, key, remedy
    │   ├── UnknownName           a dataset, model, site or plug-in that is not there, with the nearest names
    │   ├── SettingError          an environment variable or a flag
    │   ├── BadRecord             a record of a source: file, row, what is wrong with it
    │   ├── StoreRefused          the store knows the key or the bucket not, or denies it
    │   └── AccessDenied          the policy does not let this user do that with those data
    ├── StoreError                the S3 store failed
    │   ├── ObjectMissing         an object that should be there is not
    │   ├── StoreUnreachable      no answer
    │   └── StoreFull             no space left, in the store or on this disk
    ├── Conflict                  another one was there first; nothing of theirs was written over
    ├── CorruptObject             bytes that are not what their name promises
    ├── KeyMissing                a site has not the key to what it should read
    ├── StackError                a local server did not come up, or went away
    ├── OrderRefused              a site obeys no such order: forged, altered, another's, expired or replayed
    ├── ModelRefused              a variant that failed its gate or cannot be loaded
    ├── PlanError                 no placement satisfies the constraints
    ├── SiteFailed                a site could not finish its work order
    └── LedgerMismatch            missing, duplicate or extra rows, by name
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class CloudEdgeError(Exception):
    """Base of all errors raised on purpose; its message is one line that says what to do."""

    exit_code = 1


class BadInput(CloudEdgeError):
    """Something the user gave is wrong and can be mended by them."""

    exit_code = 2


class CatalogError(BadInput):
    """A YAML file of the catalog cannot be read or does not describe what it should."""


class UnknownName(BadInput):
    """A name that nothing in the catalog or a registry answers to."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], where: str = "") -> UnknownName:
        """Build the message with the nearest known names.

        Args:
            kind: what the name should be, e.g. `dataset`.
            name: the name that was asked for.
            known: the names that exist.
            where: which file or flag named it, for the message.
        """
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
        place = f" (named in {where})" if where else ""
        return cls(f"no {kind} is called {name!r}{place}; {hint}")


class SettingError(BadInput):
    """An environment variable or a flag holds a value that cannot be used."""


class BadRecord(BadInput):
    """A record of a source does not fit the dataset's schema."""


class StoreRefused(BadInput):
    """The store refused the credentials, or the bucket does not exist."""


class AccessDenied(BadInput):
    """The policy does not let who runs this do that with those data."""


class StoreError(CloudEdgeError):
    """The object store failed."""


class ObjectMissing(StoreError):
    """An object that should be in the store is not there."""


class StoreUnreachable(StoreError):
    """The store gave no answer."""


class StoreFull(StoreError):
    """No space is left in the store or on the disk."""


class Conflict(CloudEdgeError):
    """Another one wrote what was to be written, or does so now; nothing of theirs was written over."""


class CorruptObject(CloudEdgeError):
    """The bytes of an object are not those that its name or its index entry promises."""


class KeyMissing(CloudEdgeError):
    """A site has not the key that opens an encrypted object."""


class StackError(CloudEdgeError):
    """A server that the program started did not come up, or went away."""


class OrderRefused(CloudEdgeError):
    """A site does not obey: the order is forged, altered, for another site, expired or replayed."""


class ModelRefused(CloudEdgeError):
    """A model variant did not pass its gate, or cannot be loaded by its runtime."""


class PlanError(CloudEdgeError):
    """No placement satisfies all constraints."""


class SiteFailed(CloudEdgeError):
    """A site could not finish its work order."""


class LedgerMismatch(CloudEdgeError):
    """The results do not hold every row exactly once."""
