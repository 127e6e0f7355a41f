"""A problem as arrays, and what a placement costs: the one definition of the model that all others use.

An option is a pair of a site and one variant that it may run. A placement is three arrays of one length: origin,
option and how many shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from infra.placement import Problem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Arrays:
    """The numbers of a problem; `S` sites, `M` options, `O` origins with shards."""

    def __init__(self, problem: Problem) -> None:
        """Take the problem's numbers; options that do not fit a site's memory or disk are left out."""
        self.problem = problem
        sites = problem.sites
        self.names = [site.name for site in sites]
        self.cloud: Bools = np.array([site.cloud for site in sites], bool)
        numbers = np.array(
            [
                (s.threads, s.host_cores, s.dispatch_seconds, s.latency_seconds, s.up, s.down, s.busy_seconds, s.up_busy_seconds, s.down_busy_seconds,
                 s.disk_bytes - max((v.bytes for v in s.variants), default=0),
                 s.prices.hour / 3600, s.prices.row, s.prices.gb_up / 1e9, s.prices.gb_down / 1e9)
                for s in sites
            ], float,
        ).reshape(len(sites), 14).T  # fmt: skip
        (self.threads, self.cores, self.dispatch, self.latency, self.up, self.down, self.busy, self.up_busy, self.down_busy, self.disk,
         self.hour, self.row_price, self.up_price, self.down_price) = numbers  # fmt: skip
        self.host: Ints = np.unique([site.host for site in sites], return_inverse=True)[1].astype(np.int64)
        options = [
            (i, v, o.seconds_per_row, o.startup_seconds, 0.0 if site.cloud else o.escalation, o.accuracy)
            for i, site in enumerate(sites)
            for v, o in enumerate(site.variants)
            if o.memory_bytes <= site.memory_bytes and o.bytes <= site.disk_bytes
        ]
        table = np.array(options, float).reshape(len(options), 6).T
        self.site: Ints = table[0].astype(np.int64)
        self.variant: Ints = table[1].astype(np.int64)
        self.speed, self.startup, self.escalation, self.accuracy = table[2:]
        index = {name: i for i, name in enumerate(self.names)}
        origins = [origin for origin in problem.origins if origin.shards]
        self.origin_names = [origin.site for origin in origins]
        self.home: Ints = np.array([index.get(origin.site, -1) for origin in origins], np.int64)
        self.pack: Floats = np.array([origin.pack_seconds for origin in origins], float) * (self.home >= 0)
        self.resident: Bools = np.array([origin.resident for origin in origins], bool)
        self.shards: Ints = np.array([origin.shards for origin in origins], np.int64)
        self.rows: Floats = np.array([origin.rows for origin in origins], float)
        self.bytes: Floats = np.array([origin.bytes for origin in origins], float)
        self.result: Floats = problem.result_bytes + self.rows * problem.result_row_bytes
        self.first_cloud = int(np.argmax(self.cloud)) if self.cloud.any() else -1
        mine = np.flatnonzero(self.site == self.first_cloud) if self.first_cloud >= 0 else np.empty(0, np.int64)
        self.judge = int(mine[0]) if len(mine) else -1  # the option that answers escalated rows

    @cached_property
    def total_rows(self) -> float:
        """Rows of all shards."""
        return float(self.shards @ self.rows)

    @cached_property
    def again(self) -> float:
        """Seconds that the first cloud takes for one escalated row."""
        return float(self.speed[self.judge] / self.threads[self.first_cloud]) if self.judge >= 0 else 0.0

    @cached_property
    def escalated_price(self) -> float:
        """Money for one escalated row, without its way there: the cloud's time and the price of a row."""
        if self.judge < 0:
            return 0.0
        c = self.first_cloud
        down = self.problem.record_bytes * self.down_price[c]
        return float(self.again * self.hour[c] + self.row_price[c] + down)

    @cached_property
    def longest(self) -> float:
        """Seconds that no placement takes longer than, by far."""
        work = float(self.speed.max(initial=0)) * self.total_rows + float(
            self.latency.max(initial=0) * self.shards.sum()
        )
        sent = float(self.bytes @ self.shards) + self.total_rows * self.problem.record_bytes
        links = sent * float((1 / self.up + 1 / self.down).max(initial=0))
        starts = float(self.startup.sum() + self.dispatch.sum() + self.busy.max(initial=0))
        links += float(self.up_busy.max(initial=0) + self.down_busy.max(initial=0))
        return 1e-9 + work + links + starts

    def shard_seconds(self, origin: Ints, option: Ints) -> Floats:
        """Seconds of one thread for one shard: its rows, or the store's latency if that is longer."""
        seconds: Floats = np.maximum(self.rows[origin] * self.speed[option], self.latency[self.site[option]])
        return seconds

    def moved_bytes(self, origin: Ints, option: Ints) -> Floats:
        """Bytes that cross the links of edges if this option answers one shard: the shard, if it moves, and the answers."""
        home, site = self.home[origin], self.site[option]
        links = (~self.cloud[home] | (home < 0)).astype(float) + ~self.cloud[site]
        moved: Floats = np.where(home == site, 0.0, links * self.bytes[origin]) + self.result_bytes(origin, option)
        return moved

    def result_bytes(self, origin: Ints, option: Ints) -> Floats:
        """Bytes of the answers to one shard that an edge sends."""
        sent: Floats = np.where(self.cloud[self.site[option]], 0.0, self.result[origin])
        return sent

    def shard_money(self, origin: Ints, option: Ints) -> Floats:
        """Money for one shard: the site's time and rows, the links, and the rows that it escalates."""
        home, site = self.home[origin], self.site[option]
        escalated = self.rows[origin] * self.escalation[option]
        money = self.shard_seconds(origin, option) / self.threads[site] * self.hour[site]
        money += self.rows[origin] * self.row_price[site]
        money += self.result_bytes(origin, option) * self.up_price[site]
        money += escalated * (self.escalated_price + self.problem.record_bytes * self.up_price[site])
        out = np.where(home >= 0, self.up_price[home], 0.0)
        cost: Floats = money + np.where(home == site, 0.0, self.bytes[origin] * (out + self.down_price[site]))
        return cost


@dataclass(frozen=True, slots=True)
class Costs:
    """What a placement costs. `rows_of` names, for every site, seconds by the row of the programme that they come from."""

    first: float  # seconds until the last site has answered its shards
    second: float  # how much longer the cloud takes for what the edges escalate
    site_seconds: Floats  # (S,), 0 for a site that answers nothing
    used: Bools  # (S,)
    parts: dict[str, Floats]  # compute, cores, uplink, downlink: seconds (S,)
    bytes: float
    money: float
    accuracy: float
    disk: Floats  # (S,) bytes of others' shards

    @property
    def seconds(self) -> float:
        """In all."""
        return self.first + self.second

    def of(self, objective: str) -> float:
        """One of the objectives."""
        return {"makespan": self.seconds, "bytes": self.bytes, "money": self.money}[objective]


def evaluate(a: Arrays, origin: Ints, option: Ints, count: Ints) -> Costs:
    """What the placement costs; arrays (n,) of origins, options and shards."""
    sites, n = len(a.names), count.astype(float)
    site, home = a.site[option], a.home[origin]
    moved = home != site
    rows = n * a.rows[origin]
    sent = n * a.bytes[origin]
    escalated = rows * a.escalation[option]
    answers = n * a.result_bytes(origin, option)

    def by_site(where: Ints, what: Floats) -> Floats:
        return np.bincount(where, what, sites).astype(float)

    work = by_site(site, n * a.shard_seconds(origin, option))
    opened = np.bincount(option, n, len(a.site)) > 0
    startup = by_site(a.site[opened], a.startup[opened])
    used: Bools = by_site(site, n) > 0
    leaves = moved & (home >= 0)
    packing = by_site(home[leaves], (n * a.pack[origin])[leaves])
    hosts = np.bincount(a.host, startup + work + packing + a.busy * a.threads)
    fixed = a.busy + a.dispatch
    away = by_site(home[leaves], sent[leaves])
    parts = {
        "compute": np.where(used, fixed + startup + work / a.threads, a.busy) + packing / a.threads,
        "cores": np.where(used, a.dispatch, 0.0) + np.where(used | (packing > 0), hosts[a.host] / a.cores, 0.0),
        "uplink": np.where(
            a.cloud, 0.0, a.up_busy + (away + by_site(site, escalated * a.problem.record_bytes + answers)) / a.up
        ),
        "downlink": a.down_busy + by_site(site[moved], sent[moved]) / a.down,
    }
    latest = np.maximum.reduce(list(parts.values()))
    first = float(latest.max(initial=0.0))
    again = float(escalated.sum())
    second, money = 0.0, 0.0
    if again > 0 and a.judge >= 0:
        cold = 0.0 if opened[a.judge] else float(a.startup[a.judge])
        second = float(a.dispatch[a.first_cloud]) + again * a.again + cold
        money = (float(a.dispatch[a.first_cloud]) + cold) * float(a.hour[a.first_cloud])
    money += float(n @ a.shard_money(origin, option)) if len(n) else 0.0
    money += float(((startup + np.where(used, a.dispatch, 0.0)) * a.hour).sum())
    traffic = float(n @ a.moved_bytes(origin, option)) + again * a.problem.record_bytes if len(n) else 0.0
    return Costs(
        first=first,
        second=second,
        site_seconds=np.where(used, latest, 0.0),
        used=used,
        parts=parts,
        bytes=traffic,
        money=money,
        accuracy=float(rows @ a.accuracy[option]) / float(rows.sum()) if rows.sum() else 1.0,
        disk=by_site(site[moved], sent[moved]),
    )
