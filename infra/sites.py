"""What a site knows of itself: its machine, its cached models, and its profile in the store."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from data_catalog.errors import StoreFull
from data_catalog.nouns import Profile, VariantCard
from infra import keys, model_registry, self_test, shards
from infra.runtimes import RUNTIMES
from infra.settings import read_settings
from infra.storage import read_noun

if TYPE_CHECKING:
    from infra.storage import Store


def host_name() -> str:
    """The machine's name: sites of one host share its cores."""
    return read_settings().host or platform.node() or "localhost"


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_quota() -> float | None:
    """Cores' worth of time that this process's control group may use, as containers are limited; None: no limit."""
    try:
        groups = dict(line.strip().split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        own = next((path for names, path in groups.items() if "cpu" in names.split(",")), None)
        if own is not None:
            folder = Path("/sys/fs/cgroup/cpu" + own)
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        else:
            quota, period = Path(f"/sys/fs/cgroup{groups['']}/cpu.max").read_text().split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, KeyError):  # no Linux, no such controller, or `max`
        return None


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_free_bytes() -> int:
    """Memory that a program could take now: what is free, and what caches would give back."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) << 10


def disk_free_bytes(folder: Path) -> int:
    """Free space where the site keeps its spool and cache."""
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free


def read_profile(store: Store, site: str) -> Profile | None:
    """The site's profile, or None if it was never measured.

    Raises:
        CorruptObject: the object is not a profile.
    """
    key = keys.profile(site)
    return read_noun(store, key, Profile, "not a profile")


def profiles(store: Store) -> list[Profile]:
    """The profiles of all sites that were measured, by name.

    Raises:
        CorruptObject: an object is not a profile.
    """
    names = [key.split("/")[1] for key in store.keys("sites") if key.endswith("/profile.json")]
    found = [read_profile(store, name) for name in sorted(names)]
    return [profile for profile in found if profile]


def cached_model(store: Store, card: VariantCard, folder: Path) -> tuple[bytes, int]:
    """A variant's bytes, verified, from the site's disk or else from the store.

    What comes from the store is compared with its digest and has to pass its self-test on this machine before it
    is kept. Of a model of which the site has an earlier variant, a delta is fetched where the store has one.

    Args:
        store: where it comes from the first time.
        card: says its key and digest.
        folder: the site's own.

    Returns:
        The bytes, and how many of them crossed the link.

    Raises:
        CorruptObject: the object in the store is not what the card promises.
        ModelRefused: it fails its self-test here.
        StoreFull: the disk has no space for it.
    """
    path = folder / "models" / card.digest
    if path.is_file():
        model = path.read_bytes()
        if shards.digest(model) == card.digest:
            return model, 0
    model, crossed = model_registry.fetch(store, card, _on_disk(path.parent))
    crossed += examine(store, card, model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{card.digest}.{os.getpid()}")
        unfinished.write_bytes(model)
        unfinished.rename(path)
    except OSError as error:
        raise StoreFull(f"{path.parent} cannot be written ({error}); free some space and run again") from error
    return model, crossed


def examine(store: Store, card: VariantCard, model: bytes) -> int:
    """The self-test of a variant on this machine and the card's runtime; one without golden rows passes.

    Returns:
        Bytes that crossed the link.

    Raises:
        ModelRefused: it fails.
        CorruptObject: the golden rows are not what the card promises.
    """
    if not card.golden_digest:
        return 0
    golden, size = model_registry.read_golden(store, card)
    self_test.require(card, RUNTIMES.get(card.runtime).load(model, len(golden.x)), golden)
    return size


def _on_disk(folder: Path) -> dict[str, Path]:
    """By digest: the models that the site has."""
    return {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
