"""A store for tests that need no server."""

from __future__ import annotations

from uuid import uuid4

from data_catalog.errors import ObjectMissing
from infra import storage


class FolderStore(storage.Store):
    """Objects as files: the same keys, the same bytes, without a server."""

    def __init__(self, folder) -> None:
        super().__init__("folder")
        self.folder = folder

    def get(self, key):
        if not (self.folder / key).exists():
            raise ObjectMissing(key)
        return (self.folder / key).read_bytes()

    def put(self, key, data):
        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder.parent / f"{uuid4().hex}.put"  # as S3, whole or not there
        unfinished.write_bytes(data)
        unfinished.rename(self.folder / key)

    def get_file(self, key, path):
        path.write_bytes(self.get(key))

    def put_file(self, key, path):
        self.put(key, path.read_bytes())

    def keys(self, prefix):
        return sorted(
            path.relative_to(self.folder).as_posix() for path in (self.folder / prefix).rglob("*") if path.is_file()
        )

    def exists(self, key):
        return (self.folder / key).is_file()

    def delete(self, key):
        (self.folder / key).unlink()
