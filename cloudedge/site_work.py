"""The process of one site: what it does for each kind of letter. Prefect's server is never called from here."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from data_catalog.errors import StoreError
from data_catalog.orders import Compressed, CompressOrder, DeliverOrder, Prepared, PrepareOrder, ProbeOrder
from infra import agent, links, membership, settings
from infra.backlog import BacklogStore
from infra.premises import SiteStore
from infra.security import pairs
from infra.stack import servers
from infra.storage import open_store, stand_in
from infra.workspace import workspace
from tasks.compress_shards import compress_shards
from tasks.cut_shards import cut_shards
from tasks.infer_shards import infer_shards
from tasks.preprocess_source import preprocess_source
from tasks.probe_site import probe_site

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from data_catalog.nouns import Profile
    from data_catalog.orders import Kind, Letter


def work(site: str) -> None:
    """Be the process of a site until it is ended.

    Raises:
        SettingError: no store is set, and none runs in this home.
    """
    found = settings.read_settings()
    member = membership.read_membership(found.home, site)
    if not member and not found.bucket and (state := servers.read_state(found.home)):
        settings.export(servers.variables(state, found))
        found = settings.read_settings()
    # a site that joined has no credentials: it has what its signed orders let it touch
    beyond = membership.MemberStore(found.home, member) if member else open_store(found.required_bucket())
    waiting = BacklogStore(beyond, found.home / "sites" / site / "backlog")
    store = SiteStore(waiting, found.home / "sites" / site / "premises")
    stand_in(store)
    with suppress(StoreError):  # the link is down: another start will do
        if not member:  # who joined has sent its key; others seal for this site, and must not make its pair
            pairs.public_key(store, found.home, site)
    with workspace(found.home) as folder:
        _say(f"site {site} looks into its mailbox in bucket {store.bucket}")
        agent.work(site, store, letters(site, store, found.home, folder), _say)


def letters(site: str, store: SiteStore, home: Path, work: Path) -> Mapping[Kind, agent.Do]:
    """By kind of letter, what does it.

    Args:
        site: its name.
        store: as the site sees it; `open_store` must give it too.
        home: with the site's folder.
        work: for spools and downloads, as long as the process lives.
    """
    spools: dict[tuple[str, str], Path | None] = {}  # by fingerprint and source; of another process: made again

    def probe(letter: Letter) -> Profile:
        order = ProbeOrder.model_validate_json(store.get(letter.key))
        return probe_site(order.site, order.cards, home, store.bucket)

    def prepare(letter: Letter) -> Prepared:
        order = PrepareOrder.model_validate_json(store.get(letter.key))
        done = preprocess_source(order.dataset, order.source, work, store.bucket, order.threads)
        cut_shards(order.dataset, order.source, done.fingerprint, done.spool, work, store.bucket, done.lossy_error)
        spools[order.dataset.name, order.source] = done.spool
        return Prepared(fingerprint=done.fingerprint, quarantined_rows=done.quarantined_rows)

    def compress(letter: Letter) -> Compressed:
        order = CompressOrder.model_validate_json(store.get(letter.key))
        name = (order.dataset.name, order.source)
        if name not in spools:  # this process did not prepare it
            spools[name] = preprocess_source(order.dataset, order.source, work, store.bucket, order.threads).spool
        stay = [each for each in order.placements if order.on_premises and each.site == site]
        store.stay(placement.key for placement in stay)
        carried = store.carry_out(placement.key for placement in order.placements if placement not in stay)
        done = compress_shards(
            order.dataset, order.source, list(order.placements), spools[name], order.on_premises, store.bucket,
            order.threads,
        )  # fmt: skip
        spools.pop(name)
        return done.model_copy(update={"sending": done.sending or links.sending(carried)})

    def answer(letter: Letter) -> None:
        infer_shards(letter.key, home, store.bucket)

    def deliver(letter: Letter) -> None:  # its answer goes when all that waits has gone
        DeliverOrder.model_validate_json(store.get(letter.key))

    return {"probe": probe, "prepare": prepare, "compress": compress, "answer": answer, "deliver": deliver}


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()
