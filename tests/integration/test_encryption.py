"""A restricted dataset on a real S3 server, stage by stage without Prefect: what lies in the store, who can open it."""

from __future__ import annotations

import io
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_catalog.errors import CorruptObject, KeyMissing, StoreUnreachable, UnknownName
from data_catalog.nouns import Dataset, Profile, Site, VariantCard, VariantSpeed
from infra import keys, ledger, settlement, shards, storage
from infra.codecs import CODECS
from infra.runtimes import RUNTIMES
from infra.security import pairs, rotation, sealing
from infra.security.access import Keyring
from infra.settings import Settings
from infra.stack import servers
from tasks.compress_shards import compress_shards
from tasks.cut_shards import cut_shards
from tasks.infer_shards import infer_shards
from tasks.order_escalations import order_escalations
from tasks.order_sends import order_sends
from tasks.plan_placement import plan_placement
from tasks.preprocess_source import preprocess_source
from tasks.write_orders import write_orders
from tasks.write_report import _gallery
from tests.homes import Home

pytestmark = pytest.mark.integration

SITES = [
    Site(name="edge-1", tier="edge"),
    Site(name="edge-2", tier="edge"),
    Site(name="cloud", tier="cloud"),
]
PIXELS, CLASSES = 64, 3
BATCH = 16


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A real S3 server of its own, without Prefect; its variables."""
    home = tmp_path_factory.mktemp("s3")
    found = Settings(
        home=home,
        bucket=None,
        endpoint_url=None,
        prefect_api_url="none",
        dask_address=None,
        catalog_folders=(),
    )
    with servers.running(found) as running:
        running.wait()
        yield servers.variables(running.state, found)


@pytest.fixture(scope="module")
def made_before(tmp_path_factory) -> Path:
    """A home with the sites' private keys: making three takes a second."""
    home = tmp_path_factory.mktemp("pairs")
    for site in SITES:
        pairs.make(home, site.name, pairs.CURRENT)
    return home


@pytest.fixture
def linear(monkeypatch):
    """A runtime of one matrix, so that no model has to be trained."""

    def load(model, batch):
        weights = np.load(io.BytesIO(model))
        return lambda x: (x.reshape(len(x), -1).astype(np.float32) @ weights).astype(np.float32)

    monkeypatch.setitem(RUNTIMES._loaded, "linear", SimpleNamespace(load=load, version=lambda: "1"))


class Bench:
    """A dataset born at two sites, and a run of it."""

    def __init__(self, name: str, home: Path, store: storage.Store, tmp: Path, **more: object) -> None:
        self.home, self.store, self.tmp, self.runs = home, store, tmp, 0
        rng = np.random.default_rng(int(name, 16))  # results are named by content: no test finds another's
        self.x = rng.integers(0, 256, (90, PIXELS)).astype(np.uint8)
        np.save(tmp / "x.npy", self.x)
        sources = [
            {"site": site, "uri": str(tmp / "x.npy"), "rows": {"modulo": 2, "remainders": [i]}}
            for i, site in enumerate(("edge-1", "edge-2"))
        ]
        self.dataset = Dataset.model_validate(
            {
                "name": name, "description": "", "license": "", "format": "npy", "sources": sources, "shard_rows": 16,
                "record": {"shape": [PIXELS], "dtype": "uint8"}, "sensitivity": "restricted",
                "residency": "unsure-rows",
            } | more
        )  # fmt: skip
        self.cards = {tier: self.card(tier) for tier in ("edge", "cloud")}

    def card(self, tier: str) -> VariantCard:
        weights = np.random.default_rng(ord(tier[0])).normal(0, 0.001, (PIXELS, CLASSES))
        buffer = io.BytesIO()
        np.save(buffer, (weights - weights.mean(axis=0)).astype(np.float32))  # sure of some rows, unsure of others
        model = buffer.getvalue()
        key = keys.variant("m", "1", tier, "model.npy")
        self.store.put(key, model)
        return VariantCard(
            model="m", version="1", tier=tier, recipe="", runtime="linear", runtime_version="1", key=key,
            digest=shards.digest(model), bytes=len(model), classes=("a", "b", "c"), shape=(PIXELS,), dtype="uint8",
            temperature=1.0, validation_rows=4, accuracy=1, accuracy_interval=(0, 1), class_accuracy=(1, 1, 1),
            agreement=1, made_seconds=1,
        )  # fmt: skip

    def profile(self, site: Site) -> Profile:
        speed = VariantSpeed(rows_per_second=1000, batch=BATCH, startup_seconds=0)
        return Profile(
            site=site.name, host=site.name, cores=1, memory_bytes=1 << 30, disk_free_bytes=1 << 30, up_bytes_per_second=1e7,
            down_bytes_per_second=1e7, latency_seconds=0, dispatch_seconds=0, variants={self.cards[site.tier].digest: speed},
        )  # fmt: skip

    def run(self, threshold: float = 0.6):
        """All stages that touch records; the receipts of the edges, and the cloud's."""
        self.runs += 1
        for tier, prediction, confidence in (("edge", [1, 0], [0.1, threshold]), ("cloud", [0, 0], [1.0, 1.0])):
            answers = {
                "record_id": pa.array(["a", "b"]),
                "label": pa.array([0, 0], pa.int32()),
                "prediction": pa.array(prediction, pa.int32()),
                "confidence": pa.array(confidence, pa.float32()),
            }
            self.store.put(keys.answers("m", "1", tier, "validation"), ledger.parquet(pa.table(answers)))
        bucket, work = self.store.bucket, self.tmp / f"work-{self.runs}"
        work.mkdir()
        indexes, self.spools = [], {}
        for source in self.dataset.sources:
            done = preprocess_source(self.dataset, source.name, work, bucket)
            self.spools[source.name] = done.spool
            indexes.append(cut_shards(self.dataset, source.name, done.fingerprint, done.spool, work, bucket))
        profiles = [self.profile(site) for site in SITES]
        name, chosen = f"{self.dataset.name}-{self.runs}", {site.name: self.cards[site.tier] for site in SITES}
        self.plan = plan_placement(
            name, self.dataset, self.cards, chosen, SITES, profiles, indexes, 0.1, bucket, confidence=0
        )
        write_orders(self.plan, SITES, bucket, restricted=self.dataset.sensitivity == "restricted")
        self.stored = []
        for source in self.dataset.sources:
            mine = [p for p in self.plan.placements if p.shard.source == source.name]
            self.stored.append(
                compress_shards(self.dataset, source.name, mine, self.spools[source.name], True, bucket).bytes
            )
        working = sorted({p.site for p in self.plan.placements})
        receipts = [infer_shards(keys.run(name, "orders", f"{site}.json"), self.home, bucket) for site in working]
        unsure = order_escalations(self.plan, receipts, SITES[-1], bucket)
        answered = infer_shards(unsure, self.home, bucket) if unsure else None
        return receipts, answered

    def sealed(self, receipts) -> list[str]:
        """The encrypted objects of a run."""
        return [p.key for p in self.plan.placements] + [e.key for r in receipts for e in r.escalated]


@pytest.fixture
def bench(s3, linear, made_before, tmp_path, monkeypatch, request):
    """A fresh dataset and a fresh home of the sites."""
    for name, value in (s3 | {"CLOUDEDGE_HOME": str(tmp_path / "home")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(CODECS, "names", lambda: ["zstd"])  # else what is quickest today names the objects
    storage.open_store.cache_clear()
    store = storage.open_store()
    for key in store.keys("sites") + store.keys(keys.DATA_KEYS):
        store.delete(key)
    name = shards.digest(request.node.name.encode())[:16]

    def made(has_pairs: bool = True, **more: object) -> Bench:
        if has_pairs:
            shutil.copytree(made_before, tmp_path / "home")
        return Bench(name, tmp_path / "home", store, tmp_path, **more)

    yield made
    storage.open_store.cache_clear()


def opens(bench: Bench, site: str, key: str) -> bool:
    try:
        Keyring(bench.store, site, bench.home).open(key, bench.store.get(key))
    except KeyMissing:
        return False
    return True


def test_nothing_that_a_restricted_dataset_stores_shows_a_record(bench):
    bench = bench()
    receipts, answered = bench.run()
    assert sum(receipt.rows for receipt in receipts) == 90
    assert answered.rows > 0
    sealed = bench.sealed(receipts)
    assert all(key.endswith(".enc") for key in sealed)
    seen = 0
    objects = bench.store.keys(f"datasets/{bench.dataset.name}") + sealed + bench.store.keys("results")
    for key in [*objects, *bench.store.keys(f"runs/{bench.plan.run_id}")]:
        data = bench.store.get(key)
        seen += 1
        for part in (row.tobytes() for row in bench.x):
            assert part[:16] not in data, key
        if key.endswith(".enc"):
            assert data.startswith(sealing.MAGIC)
            assert b"record_id" not in data
            assert b"edge-" not in data
            assert b"\x28\xb5\x2f\xfd" not in data[:200], "the magic of Zstandard"
            assert b"\xff\xff\xff\xff" not in data[: 8 + 32], "the beginning of an Arrow stream"
    assert seen > 20


def test_a_site_can_open_what_it_is_planned_for_and_nothing_else(bench):
    bench = bench(has_pairs=False)
    receipts, _ = bench.run()
    for placement in bench.plan.placements:
        assert {site.name for site in SITES if opens(bench, site.name, placement.key)} == {placement.shard.origin}
    escalated = [(receipt.site, e.key) for receipt in receipts for e in receipt.escalated]
    assert escalated
    for site, key in escalated:
        assert {s.name for s in SITES if opens(bench, s.name, key)} == {site, "cloud"}
    for site in SITES:
        path = bench.home / "sites" / site.name / "private.pem"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"PRIVATE" not in bench.store.get(keys.public_key(site.name))


def test_a_second_run_computes_and_stores_nothing(bench):
    bench = bench()
    first, _ = bench.run()
    before = {key: bench.store.get(key) for key in [*bench.sealed(first), *bench.store.keys(keys.DATA_KEYS)]}
    again, answered_again = bench.run()
    assert bench.stored == [0, 0]
    assert list(bench.spools.values()) == [None, None]
    assert sum(r.computed_results for r in [*again, answered_again]) == 0
    assert [r.escalated for r in again] == [r.escalated for r in first]
    assert {key: bench.store.get(key) for key in before} == before
    assert sorted(bench.store.keys(keys.DATA_KEYS)) == sorted(key for key in before if key.startswith("keys/"))


def test_another_threshold_packs_other_rows_for_the_cloud(bench):
    bench = bench()
    bench.run()
    receipts, answered = bench.run(threshold=0.5)
    assert sum(r.computed_results for r in receipts) == 0
    assert answered.computed_results > 0
    assert all(opens(bench, "cloud", e.key) for r in receipts for e in r.escalated)


def test_a_new_site_gets_the_key_and_no_shard_is_encrypted_anew(bench):
    """The results are gone, and another site is to answer: the origin wraps the data keys to it."""
    bench = bench()
    bench.run()
    moved = [p.model_copy(update={"site": "edge-2"}) for p in bench.plan.placements if p.shard.source == "edge-1"]
    before = {p.key: bench.store.get(p.key) for p in moved}
    assert not any(opens(bench, "edge-2", p.key) for p in moved)
    stored = compress_shards(bench.dataset, "edge-1", moved, None, True, bench.store.bucket)
    assert stored.bytes == 0
    assert all(opens(bench, "edge-2", p.key) for p in moved)
    assert {p.key: bench.store.get(p.key) for p in moved} == before


def test_appended_records_leave_the_old_shards_as_they_are(bench):
    bench = bench()
    bench.run()
    before = {p.key: bench.store.get(p.key) for p in bench.plan.placements}
    np.save(bench.tmp / "x.npy", np.concatenate([bench.x, bench.x[:20]]))
    bench.run()
    new = [p.key for p in bench.plan.placements if p.key not in before]
    assert new
    same = [p.key for p in bench.plan.placements if p.key in before]
    assert same
    assert all(bench.store.get(key) == before[key] for key in same)
    assert all(opens(bench, p.shard.origin, p.key) for p in bench.plan.placements)


def test_a_rotated_site_opens_everything_and_no_object_has_changed(bench):
    bench = bench()
    receipts, _ = bench.run()
    sealed = {key: bench.store.get(key) for key in bench.sealed(receipts)}
    old = (bench.home / "sites" / "cloud" / "private.pem").read_bytes()
    mine = [key for key in bench.store.keys(keys.DATA_KEYS) if key.endswith("/cloud.json")]
    assert rotation.rotate(bench.store, bench.home, "cloud") == len(mine) > 0
    path = bench.home / "sites" / "cloud" / "private.pem"
    assert path.read_bytes() != old
    assert [p.name for p in path.parent.glob("private*")] == ["private.pem"]
    assert {key: bench.store.get(key) for key in sealed} == sealed
    escalated = [e.key for r in receipts for e in r.escalated]
    assert all(opens(bench, "cloud", key) for key in escalated)
    path.write_bytes(old)
    assert not any(opens(bench, "cloud", key) for key in escalated), "the old private key opens nothing any more"


@pytest.mark.parametrize("after", range(4))
def test_a_rotation_that_is_cut_short_locks_nobody_out(bench, after, monkeypatch):
    """It is interrupted after so many writes to the store, then done again."""
    bench = bench()
    receipts, _ = bench.run()
    escalated = [e.key for r in receipts for e in r.escalated]
    writes = []
    put = storage.Store.put

    def failing(self, key, data):
        if len(writes) == after:
            raise KeyboardInterrupt
        writes.append(key)
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(storage.Store, "put", failing)
        if after < 3:
            with pytest.raises(KeyboardInterrupt):
                rotation.rotate(bench.store, bench.home, "cloud")
        else:  # two data keys and the public key: whole
            rotation.rotate(bench.store, bench.home, "cloud")
    assert all(opens(bench, "cloud", key) for key in escalated)
    rotation.rotate(bench.store, bench.home, "cloud")
    assert all(opens(bench, "cloud", key) for key in escalated)
    bench.run()


def test_a_shredded_site_can_open_nothing_and_no_other_notices(bench):
    bench = bench()
    receipts, _ = bench.run()
    sealed = {key: bench.store.get(key) for key in bench.sealed(receipts)}
    escalated = {e.key: receipt.site for receipt in receipts for e in receipt.escalated}
    kept = (bench.home / "sites" / "cloud" / "private.pem").read_bytes()
    assert rotation.shred(bench.store, bench.home, "cloud") == 2
    assert not bench.store.exists(keys.public_key("cloud"))
    assert not any(key.endswith("/cloud.json") for key in bench.store.keys(keys.DATA_KEYS))
    assert not (bench.home / "sites" / "cloud" / "private.pem").exists()
    assert {key: bench.store.get(key) for key in sealed} == sealed
    assert not any(opens(bench, "cloud", key) for key in escalated)
    assert all(opens(bench, site, key) for key, site in escalated.items())
    assert all(opens(bench, p.shard.origin, p.key) for p in bench.plan.placements)
    (bench.home / "sites" / "cloud" / "private.pem").write_bytes(kept)
    assert not any(opens(bench, "cloud", key) for key in escalated), "a copy of the private key opens nothing either"


def test_a_run_after_shredding_lets_the_planned_sites_read_again(bench):
    """The cloud gets a new pair, and the edges' rows anew; an origin that has lost its key encrypts its data anew."""
    bench = bench()
    bench.run()
    for site in ("cloud", "edge-1"):
        rotation.shred(bench.store, bench.home, site)
    lost = [p.key for p in bench.plan.placements if p.shard.origin == "edge-1"]
    kept = {p.key: bench.store.get(p.key) for p in bench.plan.placements if p.shard.origin == "edge-2"}
    receipts, answered = bench.run()
    assert answered is not None
    assert bench.stored[0] > 0
    assert bench.stored[1] == 0
    assert all(opens(bench, "edge-1", key) for key in lost)
    assert {key: bench.store.get(key) for key in kept} == kept
    assert all(opens(bench, "cloud", e.key) for r in receipts for e in r.escalated)


def test_a_public_dataset_has_no_keys_and_no_encrypted_object(bench):
    bench = bench(has_pairs=False, sensitivity="public")
    receipts, answered = bench.run()
    assert answered.rows > 0
    assert not any(key.endswith(".enc") for key in bench.sealed(receipts))
    assert bench.store.keys(keys.DATA_KEYS) == []
    assert [key for key in bench.store.keys("sites") if key.endswith(".pem")] == []
    assert not list(bench.home.rglob("*.pem"))


def test_of_a_rejected_record_only_its_place_is_stored(bench):
    record = {"shape": [PIXELS], "dtype": "uint8", "high": 254}
    bench = bench(record=record, on_bad_record="quarantine")
    bench.run()
    rejects = bench.store.keys(f"datasets/{bench.dataset.name}/quarantine")
    assert len(rejects) == 2
    for key in rejects:
        table = pq.read_table(io.BytesIO(bench.store.get(key)))
        assert table.num_rows > 0
        assert table["values"].null_count == table.num_rows
        assert not any(character.isdigit() for reason in table["reason"].to_pylist() for character in reason)


def test_the_report_shows_no_picture_of_a_restricted_record():
    escalation = SimpleNamespace(key=keys.escalation("ab" * 32, "zstd", encrypted=True))
    assert _gallery(None, SimpleNamespace(shown=[SimpleNamespace(escalation=escalation)])) == []


def test_a_dataset_that_becomes_restricted_is_encrypted_by_the_next_run(bench):
    bench = bench(sensitivity="public")
    bench.run()
    plain = [p.key for p in bench.plan.placements]
    bench.dataset = bench.dataset.model_copy(update={"sensitivity": "restricted"})
    bench.run()
    assert all(opens(bench, p.shard.origin, p.key) for p in bench.plan.placements)
    assert not any(bench.store.exists(key) for key in plain)
    sealed = [p.key for p in bench.plan.placements]
    bench.dataset = bench.dataset.model_copy(update={"sensitivity": "public"})
    bench.run()
    assert [p.key for p in bench.plan.placements] == plain
    assert all(bench.store.exists(key) for key in plain)
    assert all(bench.store.exists(key) for key in sealed)


def test_what_cannot_be_opened_is_one_clear_line(bench):
    bench = bench()
    bench.run()
    store = bench.store
    first, second = [p.key for p in bench.plan.placements if p.site == "edge-1"][:2]
    sealed, private = store.get(first), bench.home / "sites" / "edge-1" / "private.pem"
    pem = private.read_bytes()
    wrapped = keys.wrapped_key(sealing.key_id_of(sealed, first), "edge-1")
    record = store.get(wrapped)
    other = next(key for key in store.keys(keys.DATA_KEYS) if key.endswith("/cloud.json"))
    place = record.index(b'"wrapped"') + 40
    damaged = record[:place] + bytes([record[place] ^ 2]) + record[place + 1 :]

    def harmed(says: str, kind: type[Exception], change) -> None:
        change()
        for key in store.keys("results"):
            store.delete(key)
        with pytest.raises(kind) as caught:
            infer_shards(keys.run(bench.plan.run_id, "orders", "edge-1.json"), bench.home, store.bucket)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "; " in str(caught.value), "it says what to do"
        store.put(first, sealed)
        store.put(wrapped, record)
        private.write_bytes(pem)

    def another_pair() -> None:
        private.unlink()
        pairs.make(bench.home, "edge-1", pairs.CURRENT)

    not_authentic, no_header = "does not pass the authentication", "has not the header"
    flipped = sealed[:-30] + bytes([sealed[-30] ^ 1]) + sealed[-29:]
    harmed(not_authentic, CorruptObject, lambda: store.put(first, flipped))
    harmed(not_authentic, CorruptObject, lambda: store.put(first, sealed[:-1]))
    harmed(not_authentic, CorruptObject, lambda: store.put(first, store.get(second)))
    harmed(no_header, CorruptObject, lambda: store.put(first, b""))
    harmed(no_header, CorruptObject, lambda: store.put(first, b"\xff" * 200))
    harmed("has no key to", KeyMissing, lambda: store.put(first, sealed[:8] + bytes(32) + sealed[40:]))
    harmed("has no key to", KeyMissing, lambda: store.delete(wrapped))
    harmed("is not in", KeyMissing, private.unlink)
    harmed("is not in", KeyMissing, another_pair)
    harmed("cannot be read", KeyMissing, lambda: private.write_text("no key"))
    harmed("is the wrapped key of another", CorruptObject, lambda: store.put(wrapped, store.get(other)))
    harmed("is corrupt", CorruptObject, lambda: store.put(wrapped, damaged))
    harmed("is no wrapped key", CorruptObject, lambda: store.put(wrapped, b"{}"))


def test_a_shard_kept_on_the_disk_under_a_lost_key_is_fetched_anew_by_the_next_run(bench):
    """Origin and reader are shredded, the origin encrypts anew: what the reader keeps on its disk is of no use."""
    bench = bench()
    bench.run()
    moved = [p.model_copy(update={"site": "edge-2"}) for p in bench.plan.placements if p.shard.source == "edge-1"]
    compress_shards(bench.dataset, "edge-1", moved, None, True, bench.store.bucket)
    stale = {p.key: bench.store.get(p.key) for p in moved}
    order = keys.run(bench.plan.run_id, "orders", "edge-1.json")
    text = bench.store.get(order).decode().replace('"site": "edge-1"', '"site": "edge-2"')
    bench.store.put(order, text.replace('"local": true', '"local": false').encode())
    for key in bench.store.keys("results"):
        bench.store.delete(key)
    infer_shards(order, bench.home, bench.store.bucket)  # keeps the shards on the disk of edge-2
    for site in ("edge-1", "edge-2"):
        rotation.shred(bench.store, bench.home, site)
    work = bench.tmp / "anew"
    work.mkdir()
    spool = preprocess_source(bench.dataset, "edge-1", work, bench.store.bucket).spool
    assert spool is not None
    assert compress_shards(bench.dataset, "edge-1", moved, spool, True, bench.store.bucket).bytes > 0
    assert all(bench.store.get(key) != stale[key] for key in stale)
    failures = 0
    for key in bench.store.keys("results"):
        bench.store.delete(key)
    while failures <= len(moved):
        try:
            infer_shards(order, bench.home, bench.store.bucket)
            break
        except KeyMissing:
            failures += 1
    assert 0 < failures <= len(moved)


def test_only_sites_with_keys_can_be_rotated_or_shredded(bench):
    bench = bench()
    bench.run()
    for change in (rotation.rotate, rotation.shred):
        with pytest.raises(UnknownName, match="did you mean 'edge-1'"):
            change(bench.store, bench.home, "edge-11")
    (bench.home / "sites" / "cloud" / "private.pem").unlink()
    with pytest.raises(KeyMissing, match="rotate where it is"):
        rotation.rotate(bench.store, bench.home, "cloud")


def test_the_list_names_sites_and_who_can_open_what(bench):
    bench = bench()
    bench.run()
    sites, data_keys = rotation.list_keys(bench.store, bench.home)
    assert [(s.site, s.private_key_here, s.data_keys) for s in sites] == [
        ("cloud", True, 2), ("edge-1", True, 2), ("edge-2", True, 2),
    ]  # fmt: skip
    assert sorted(key.sites for key in data_keys) == [
        ("cloud", "edge-1"),
        ("cloud", "edge-2"),
        ("edge-1",),
        ("edge-2",),
    ]
    assert all(bench.dataset.name in key.what for key in data_keys)


def test_the_commands_say_what_they_did(bench, s3):
    bench = bench(has_pairs=False)
    home = Home(bench.home, s3)
    assert "no site has keys" in home.call("keys", "list").stdout
    receipts, _ = bench.run()
    escalated = [e.key for r in receipts for e in r.escalated]
    out = home.call("keys", "list").stdout
    for words in (
        "cloud, edge-1",
        "cloud, edge-2",
        f"shards of {bench.dataset.name}, source edge-1",
        "on this machine",
    ):
        assert words in " ".join(out.split()), out
    assert home.call("keys", "rotate", "cloud").stdout == "cloud has a new key pair; data keys wrapped to it: 2\n"
    assert all(opens(bench, "cloud", key) for key in escalated)
    assert home.call("keys", "shred", "cloud").stdout == "cloud has no keys any more; data keys that it could open: 2\n"
    assert not any(opens(bench, "cloud", key) for key in escalated)
    error = home.call("keys", "rotate", "cloud", code=2).stderr
    assert error.startswith("cloudedge: no site with keys is called 'cloud'")
    assert error.count("\n") == 1


def test_rows_that_did_not_arrive_are_sealed_and_sent_later_once(bench, monkeypatch):
    """The store takes results and no escalated rows for a while; then the edges send what they did not, and no more."""
    bench = bench()
    put, reachable = storage.Store.put, [False]

    def fails(self, key, data):
        if key.startswith("escalations/") and not reachable[0]:
            raise StoreUnreachable(key)
        put(self, key, data)

    monkeypatch.setattr(storage.Store, "put", fails)
    receipts, answered = bench.run()
    waiting = {e.shard: e.rows for receipt in receipts for e in receipt.escalated}
    assert answered is None
    assert waiting
    assert not any(e.sent for receipt in receipts for e in receipt.escalated)
    bucket = bench.store.bucket
    known = settlement.receipts_of(bench.store, bench.plan)
    assert sorted(known, key=lambda r: r.order_id) == sorted(receipts, key=lambda r: r.order_id)

    for receipt in receipts:  # a site that was lost before it could give one: the ledger tells as much
        bench.store.delete(keys.run(bench.plan.run_id, "receipts", f"{receipt.order_id}.json"))
    told = settlement.receipts_of(bench.store, bench.plan)
    assert {e.shard: e.rows for receipt in told for e in receipt.escalated} == waiting
    assert not any(e.sent for receipt in told for e in receipt.escalated)
    assert settlement.open_orders(bench.store, bench.plan) == []

    reachable[0] = True
    orders = order_sends(bench.plan, SITES, [], bucket, list(waiting), "again-1")
    sent = [infer_shards(order, bench.home, bucket) for order in orders]
    assert {e.shard: e.rows for receipt in sent for e in receipt.escalated} == waiting
    assert all(e.sent and keys.is_encrypted(e.key) for receipt in sent for e in receipt.escalated)
    assert sum(receipt.wan_out for receipt in sent) == sum(
        len(bench.store.get(e.key)) for receipt in sent for e in receipt.escalated
    )
    assert [infer_shards(order, bench.home, bucket).wan_out for order in orders] == [0] * len(orders)
    for receipt in sent:
        for e in receipt.escalated:
            assert {site.name for site in SITES if opens(bench, site.name, e.key)} == {receipt.site, "cloud"}
    cloud = order_escalations(bench.plan, [*told, *sent], SITES[-1], bucket, 1)
    assert infer_shards(cloud, bench.home, bucket).rows == sum(waiting.values())
