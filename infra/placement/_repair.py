"""Local search from a rounded placement: moves of shards that mend a broken row or lower the objective.

A step looks at the shards that touch what the objective waits for, and at every option that they may go to, with an
estimate of what the move changes; the most promising moves are evaluated in full, and the first that makes things
better is made. It ends when none does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infra.placement._arrays import Arrays, Bools, Costs, Floats, Ints, evaluate
from infra.placement._rounding import merged

ENTRIES, TARGETS, TRIES = 8, 64, 6  # pairs and options looked at for one cause; moves evaluated in full, for one step
WORK = 1_000_000  # pairs and options of a problem times steps, at most
LEAST_CAP = 1e-9  # that an excess is a share of
SLACK = 1e-6  # share of a row that it may be broken by: what solvers leave


@dataclass(frozen=True, slots=True)
class Placed:
    """A placement and what it costs."""

    origin: Ints
    option: Ints
    count: Ints
    costs: Costs
    broken: float  # how far it breaks rows, as the sum of shares of them; 0: it breaks none
    value: float  # of the objective


def judge(a: Arrays, origin: Ints, option: Ints, count: Ints) -> Placed:
    """The placement with its costs."""
    costs = evaluate(a, origin, option, count)
    stored = np.where(a.disk > 0, costs.disk / np.maximum(a.disk, 1e-300), costs.disk)
    over = np.maximum(0.0, stored - 1)[np.isfinite(a.disk)].sum()
    short = max(0.0, a.problem.accuracy - costs.accuracy)
    caps = sum(max(0.0, costs.of(name) / max(cap, LEAST_CAP) - 1) for name, cap in a.problem.caps.items())
    broken = float(over + short + caps)
    value = costs.of(a.problem.objective)
    return Placed(origin, option, count, costs, 0.0 if broken <= SLACK else broken, value)


def better(new: Placed, old: Placed) -> bool:
    """Whether it breaks less, or as little and costs less."""
    if abs(new.broken - old.broken) > SLACK:
        return new.broken < old.broken
    return new.value < old.value * (1 - 1e-9) - 1e-12


def repair(a: Arrays, placed: Placed) -> Placed:
    """The placement after the moves that help."""
    for _ in range(int(np.clip(WORK // (len(a.site) + len(placed.count)), 12, 600))):
        moved = _step(a, placed)
        if moved is None:
            break
        placed = moved
    return judge(a, *merged(placed.origin, placed.option, placed.count))


def _step(a: Arrays, now: Placed) -> Placed | None:
    entries = _entries(a, now)
    if not len(entries):
        return None
    counts = now.count[entries]
    chunks = np.unique(np.r_[np.stack([entries, np.ones_like(entries)], 1), np.stack([entries, (counts + 1) // 2], 1),
                             np.stack([entries, counts], 1)], axis=0)  # fmt: skip
    entry, target = _targets(a, now, chunks[:, 0])
    entry, size = chunks[entry].T
    home = a.home[now.origin[entry]]
    allowed = (~a.resident[now.origin[entry]] | (home == a.site[target])) & (target != now.option[entry])
    entry, size, target = entry[allowed], size[allowed], target[allowed]
    if not len(entry):
        return None
    broken, value = _estimate(a, now, entry, size, target)
    most = min(TRIES, len(entry))
    first = np.argpartition(broken * 1e6 + value, most - 1)[:most] if most < len(entry) else np.arange(len(entry))
    for k in first[np.lexsort((value[first], np.round(broken[first], 9)))]:
        count = now.count.copy()
        count[entry[k]] -= size[k]
        new = judge(
            a,
            np.append(now.origin, now.origin[entry[k]]),
            np.append(now.option, target[k]),
            np.append(count, size[k]),
        )
        if better(new, now):
            return new
    return None


def _targets(a: Arrays, now: Placed, entries: Ints) -> tuple[Ints, Ints]:
    """Where each may go: options at the shards' home and at the site itself, and the most promising elsewhere."""
    everywhere = np.arange(len(a.site))
    if len(a.site) > 4 * TARGETS:
        typical = a.total_rows / a.shards.sum() * a.speed / a.threads[a.site]
        latest = np.maximum.reduce(list(now.costs.parts.values()))[a.site]
        opened = np.bincount(now.option, now.count, len(a.site)) > 0
        soon = latest + typical + np.where(opened, 0.0, a.startup)
        cheap = typical * a.hour[a.site] + a.row_price[a.site]
        keys = [soon]
        if a.problem.objective == "money" or "money" in a.problem.caps:
            keys.append(cheap)
        if a.problem.accuracy > 0:
            keys.append(soon + (a.accuracy < a.problem.accuracy) * a.longest)
        everywhere = np.unique(np.concatenate([np.argpartition(key, TARGETS)[:TARGETS] for key in keys]))
    entry, target = (each.reshape(-1) for each in np.meshgrid(np.arange(len(entries)), everywhere, indexing="ij"))
    near = (a.home[now.origin[entries]], a.site[now.option[entries]])
    found = [(entry, target), *(_options_of(a, sites) for sites in near)]
    both = np.unique(np.concatenate([np.stack(each, 1) for each in found]), axis=0)
    return both[:, 0], both[:, 1]


def _options_of(a: Arrays, sites: Ints) -> tuple[Ints, Ints]:
    """Index into `sites` and option, of every option of these sites."""
    low, high = np.searchsorted(a.site, sites), np.searchsorted(a.site, sites, side="right")
    many = high - low
    index = np.repeat(np.arange(len(sites)), many)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(many) - many, many) + low[index]


def _entries(a: Arrays, now: Placed) -> Ints:
    """Pairs worth moving: at the site or link that all wait for, and where another row or objective wants it."""
    some: Bools = now.count > 0
    site, home = a.site[now.option], a.home[now.origin]
    latest = np.maximum.reduce(list(now.costs.parts.values()))
    slowest = int(np.argmax(latest))
    seconds = now.count * a.shard_seconds(now.origin, now.option)
    host = a.host[site] == a.host[slowest]
    touching = np.flatnonzero(some & (host | (home == slowest)))
    found = [_most(touching, seconds)]
    if now.costs.second > 0:
        escalated = now.count * a.rows[now.origin] * a.escalation[now.option]
        found.append(_most(np.flatnonzero(some & (escalated > 0)), escalated))
    if a.problem.objective != "makespan" or a.problem.caps:
        found.append(_most(np.flatnonzero(some), -seconds))
        found.append(_most(np.flatnonzero(some), a.shard_money(now.origin, now.option) * now.count))
        found.append(_most(np.flatnonzero(some & (home != site)), a.bytes[now.origin] * now.count))
    if a.problem.accuracy > 0:
        found.append(_most(np.flatnonzero(some), -a.accuracy[now.option]))
    full = np.isfinite(a.disk) & (now.costs.disk > a.disk)
    if full.any():
        found.append(_most(np.flatnonzero(some & full[site] & (home != site)), seconds))
    return np.unique(np.concatenate(found))


def _most(entries: Ints, by: Floats) -> Ints:
    return entries[np.argsort(-by[entries], kind="stable")[:ENTRIES]]


def _estimate(a: Arrays, now: Placed, entry: Ints, size: Ints, target: Ints) -> tuple[Floats, Floats]:
    """How far each move would break rows, and the objective after it: near, not exact where machines are shared."""
    p, costs = a.problem, now.costs
    origin, source = now.origin[entry], now.option[entry]
    to, frm, home = a.site[target], a.site[source], a.home[origin]
    parts = costs.parts
    n = size.astype(float)
    work_to, work_from = n * a.shard_seconds(origin, target), n * a.shard_seconds(origin, source)
    opened = np.bincount(now.option, now.count, len(a.site)) > 0
    emptied = now.count[entry] == size
    start = np.where(opened[target], 0.0, a.startup[target])
    fresh = np.where(costs.used[to], 0.0, a.dispatch[to])
    sent = n * a.bytes[origin]
    leaves = (home != to).astype(float) - (home != frm)
    packing = leaves * n * a.pack[origin]
    escalated = n * a.rows[origin] * (a.escalation[target] - a.escalation[source])
    busy_to = np.maximum.reduce([
        parts["compute"][to] + start + fresh + (work_to + np.where(home == to, packing, 0.0)) / a.threads[to],
        parts["cores"][to] + (start + work_to - np.where(a.host[to] == a.host[frm], work_from, 0.0)) / a.cores[to],
        parts["downlink"][to] + np.where(to != home, sent, 0.0) / a.down[to],
        np.where(a.cloud[to], 0.0, parts["uplink"][to] + n * (a.rows[origin] * a.escalation[target] * p.record_bytes + a.result[origin]) / a.up[to]),
    ])  # fmt: skip
    busy_from = np.maximum.reduce([
        parts["compute"][frm] + (np.where(home == frm, packing, 0.0) - work_from) / a.threads[frm] - np.where(emptied, a.startup[source], 0.0),
        parts["cores"][frm] - (work_from - np.where(a.host[to] == a.host[frm], work_to, 0.0)) / a.cores[frm],
        parts["downlink"][frm] - np.where(frm != home, sent, 0.0) / a.down[frm],
        parts["uplink"][frm],
    ])  # fmt: skip
    same = to == frm
    busy_to = np.where(same, parts["compute"][to] + start + (work_to - work_from) / a.threads[to], busy_to)
    up = np.where((home >= 0) & ~a.cloud[home], a.up[home], np.inf)
    uplink = parts["uplink"][home] + leaves * sent / up
    latest = np.maximum.reduce(list(parts.values()))
    top = np.argsort(-latest, kind="stable")[:4]
    others = np.zeros(len(entry))
    for k in top[::-1]:
        others = np.where((k != to) & (k != frm) & (k != home), latest[k], others)
    home_parts = np.maximum.reduce([parts["compute"][home], parts["downlink"][home], uplink])
    home_rest = np.where((home >= 0) & (home != to) & (home != frm), home_parts, uplink)
    first = np.maximum.reduce([others, busy_to, np.where(same, 0.0, busy_from), np.where(home >= 0, home_rest, 0.0)])
    second = np.maximum(0.0, costs.second + escalated * a.again)
    makespan = first + second
    traffic = (
        costs.bytes + n * (a.moved_bytes(origin, target) - a.moved_bytes(origin, source)) + escalated * p.record_bytes
    )
    money = costs.money + n * (a.shard_money(origin, target) - a.shard_money(origin, source))
    money += start * a.hour[to] - np.where(emptied, a.startup[source], 0.0) * a.hour[frm]
    gain = n * a.rows[origin] * (a.accuracy[target] - a.accuracy[source]) / max(a.total_rows, 1e-300)
    guests = np.where(to != home, sent, 0.0)
    overflow = np.where(np.isfinite(a.disk[to]), np.maximum(0, costs.disk[to] + guests - a.disk[to]), 0.0)
    broken = np.maximum(0.0, p.accuracy - costs.accuracy - gain) + overflow / np.maximum(1.0, np.abs(a.disk[to]))
    values = {"makespan": makespan, "bytes": traffic, "money": money}
    for name, cap in p.caps.items():
        broken += np.maximum(0.0, values[name] / max(cap, LEAST_CAP) - 1)
    return broken, values[p.objective]
