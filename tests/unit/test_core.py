"""The parts that need no server: catalog, shards, codecs, ledger, cascade, placement, pipeline."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.catalog import Catalog
from data_catalog.errors import CatalogError, CorruptObject, UnknownName
from infra import cascade, ledger, pipeline, rendezvous, shards, sources
from infra.codecs import CODECS
from infra.placement import RULES, PlaceOrigin, PlaceSite, PlaceVariant, Problem

pytestmark = pytest.mark.unit


def test_the_catalog_loads_and_names_the_nearest():
    catalog = Catalog()
    for name in catalog.names("datasets"):
        assert catalog.dataset(name).name == name
    assert catalog.model("digits").trained_on == "mnist-5k"
    with pytest.raises(UnknownName, match="did you mean 'mnist-5k'"):
        catalog.dataset("mnist-5")


def test_a_broken_yaml_names_file_and_key(tmp_path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a.yaml").write_text("tier: edge\nthread: 2\n")
    with pytest.raises(CatalogError, match=r"a\.yaml: key `thread`: unknown"):
        Catalog([tmp_path]).site("a")


@pytest.mark.parametrize("codec", CODECS.names())
def test_a_shard_survives_and_a_flipped_bit_is_named(codec):
    ids = sources.record_ids("edge-1", np.arange(50))
    x = np.random.default_rng(1).integers(0, 255, (50, 4, 4, 1)).astype(np.uint8)
    plain = shards.encode(ids, x)
    packed = CODECS.get(codec).compress(plain)
    name = shards.digest(plain)
    back_ids, back = shards.decode(shards.unpack(packed, codec, len(plain), name, "k"))
    assert back_ids.equals(ids)
    assert np.array_equal(back, x)
    broken = bytearray(packed)
    broken[len(broken) // 2] ^= 1
    with pytest.raises(CorruptObject, match="k is corrupt"):
        shards.unpack(bytes(broken), codec, len(plain), name, "k")


def test_equal_records_share_a_split_and_shares_are_kept():
    dataset = Catalog().dataset("mnist-5k")
    x = np.random.default_rng(2).integers(0, 255, (20_000, 784)).astype(np.uint8)
    splits = sources.assign_splits(np.concatenate([x, x]), dataset)
    assert np.array_equal(splits[:20_000], splits[20_000:])
    assert np.allclose(np.bincount(splits) / 40_000, list(dataset.splits.values()), atol=0.02)


def test_a_result_survives_and_remembers_what_was_packed():
    packed = ledger.Packed(0.7, "zstd", 1, "d", 10)
    data = ledger.write_result(
        pa.array(["a", "b"]), np.array([1, 2], np.int32), np.array([0.5, 0.9], np.float32), "edge", "v", packed
    )
    table = ledger.read_result(data, "k")
    assert table["prediction"].to_pylist() == [1, 2]
    assert ledger.packed_in(table) == packed


def test_the_threshold_is_the_smallest_that_keeps_the_bound():
    confidence = np.linspace(0, 1, 100, dtype=np.float32)
    edge_right = confidence > 0.295
    found = cascade.choose_threshold(confidence, edge_right, np.ones(100, bool), 0.02, 1.0, level=0)
    assert found.escalation == pytest.approx(0.29)
    assert found.validation_accuracy == pytest.approx(0.99)


def test_rows_that_are_not_numbers_are_never_sure():
    _, confidence = cascade.answer(np.array([[1, np.nan], [5, 0]], np.float32), 1.0)
    assert confidence[0] == 0
    assert confidence[1] > 0.9


def test_all_shards_are_placed_and_stay_home_without_reason():
    variant = PlaceVariant(name="v", seconds_per_row=1e-4, startup_seconds=0.1, escalation=0.1)
    common = {"host_cores": 2, "threads": 1, "variants": (variant,), "dispatch_seconds": 0.1, "latency_seconds": 0.01}
    sites = tuple(
        PlaceSite(name=n, cloud=n == "cloud", host=n, up=1e6, down=1e6, **common) for n in ("a", "b", "cloud")
    )
    origins = tuple(PlaceOrigin(site=n, shards=9, rows=100, bytes=1e6, resident=n == "a") for n in ("a", "b"))
    solution = RULES.get("programme").place(Problem(sites=sites, origins=origins, record_bytes=100))
    assert solution.counts == {("a", "a", "v"): 9, ("b", "b", "v"): 9}
    assert set(solution.reasons) == {"a", "b", "cloud"}


def test_rendezvous_fills_every_quota():
    names = [f"s{i}" for i in range(100)]
    placed = rendezvous.assign(names, {"a": 60, "b": 40})
    assert sorted(placed) == sorted(names)
    assert list(placed.values()).count("a") == 60


def test_stages_overlap_in_order_and_stop_at_the_first_failure():
    done, _ = pipeline.run_stages(range(50), [("a", lambda i: i + 1), ("b", lambda i: i * 2)])
    assert done == [2 * (i + 1) for i in range(50)]

    def fail(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    with pytest.raises(ValueError, match="three"):
        pipeline.run_stages(range(1000), [("a", fail), ("b", lambda i: i)])
