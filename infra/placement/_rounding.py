"""From real counts to whole shards: largest remainders, then the pool's givers are matched to its takers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from infra.placement._arrays import Arrays, Bools, Floats, Ints
    from infra.placement._relaxation import Columns, Relaxed


def round_off(cols: Columns, relaxed: Relaxed) -> tuple[Ints, Ints, Ints]:
    """Origins, options and whole shards (n,); every shard of every origin is placed."""
    a, kept = cols.a, len(cols.kept_origin)
    group = np.r_[cols.kept_origin, cols.givers]
    full = _nearly_full(cols, relaxed)
    whole = largest_remainders(np.r_[relaxed.keep, relaxed.give], group, a.shards)
    keep, give = whole[:kept], whole[kept:]
    parts = [(cols.kept_origin, cols.kept_option, keep)]
    for c in range(len(cols.class_rows)):
        mine = cols.class_of == c
        givers, given = cols.givers[mine], give[mine]
        options, last = cols.take_option[cols.take_class == c], full[cols.take_class == c]
        real = relaxed.take[cols.take_class == c]
        if given.sum() == 0:
            continue
        if real.sum() <= 0:  # a rest of rounding: the quickest takes it
            real = np.zeros(len(options))
            real[np.argmin(a.speed[options] / a.threads[a.site[options]])] = 1.0
        target = np.array([given.sum()])
        taken = largest_remainders(real * (given.sum() / real.sum()), np.zeros(len(options), np.int64), target, last)
        parts += _match(a, givers, given, options, taken)
    return _unloaded(a, *merged(*(np.concatenate([part[k] for part in parts]) for k in range(3))))


def _nearly_full(cols: Columns, relaxed: Relaxed) -> Bools:
    """Which take columns are at a site whose disk has no room for one shard more of their class."""
    a, size, site = cols.a, cols.class_bytes[cols.take_class], cols.a.site[cols.take_option]
    stored = np.bincount(site, relaxed.take * size, len(a.names))
    nearly: Bools = stored[site] + size > a.disk[site]
    return nearly


def _unloaded(a: Arrays, origin: Ints, option: Ints, count: Ints) -> tuple[Ints, Ints, Ints]:
    """The placement with full disks relieved: what is too much goes back to where it was born, to the quickest variant there.

    Shards of a class differ in bytes, and whole ones take more than the real ones did. What has no home among the sites
    stays: local search sees to it.
    """
    site, home = a.site[option], a.home[origin]
    size = np.where(home == site, 0.0, a.bytes[origin])
    over = np.bincount(site, count * size, len(a.names)) - np.maximum(a.disk, 0.0)
    order = np.lexsort((np.arange(len(a.site)), -a.speed))
    own = np.full(len(a.names) + 1, -1)
    own[a.site[order]] = order  # of one site's options the last one counts, which is the quickest
    back = np.zeros_like(count)
    for k in np.flatnonzero((over[site] > 0) & (size > 0) & (own[home] >= 0)):
        back[k] = min(int(count[k]), max(0, math.ceil(over[site[k]] / size[k] - 1e-9)))
        over[site[k]] -= back[k] * size[k]
    if not back.any():
        return origin, option, count
    some = back > 0
    return merged(np.r_[origin, origin[some]], np.r_[option, own[home[some]]], np.r_[count - back, back[some]])


def largest_remainders(real: Floats, group: Ints, totals: Ints, last: Bools | None = None) -> Ints:
    """Whole numbers near the real ones whose sums by group are the totals (H. Hamilton's method of apportionment).

    Args:
        real: (n,).
        group: of each.
        totals: by group.
        last: those that are rounded up only where no others are left.
    """
    whole = np.floor(real + 1e-6).astype(np.int64)
    missing = totals - np.bincount(group, whole, len(totals)).astype(np.int64)
    late = np.zeros(len(real), bool) if last is None else last
    order = np.lexsort((np.arange(len(real)), whole - real, late, group))
    starts = np.searchsorted(group[order], np.arange(len(totals)))
    rank = np.arange(len(real)) - starts[group[order]]
    whole[order] += rank < missing[group[order]]
    wrong = totals - np.bincount(group, whole, len(totals)).astype(np.int64)
    for g in np.flatnonzero(wrong):  # the reals did not add up: the largest one makes up for it
        members = np.flatnonzero(group == g)
        for k in members[np.argsort(-whole[members], kind="stable")]:
            step = max(int(wrong[g]), -int(whole[k]))
            whole[k] += step
            wrong[g] -= step
    return whole


def _match(a: Arrays, givers: Ints, given: Ints, options: Ints, taken: Ints) -> list[tuple[Ints, Ints, Ints]]:
    """Who gives to whom: what a site would take from itself stays; the rest in order, so pairs are few."""
    site = a.site[options]
    by_site = np.bincount(site, taken, len(a.names)).astype(np.int64)
    home = a.home[givers]
    stays = np.where(home >= 0, np.minimum(given, by_site[home]), 0)
    owner = np.full(len(a.names), -1)
    owner[home[home >= 0]] = givers[home >= 0]
    left = np.zeros(len(a.names), np.int64)
    left[home[home >= 0]] = stays[home >= 0]
    order = np.argsort(site, kind="stable")
    before = np.cumsum(taken[order]) - taken[order]  # takers of one site share what stays, in order
    base = before[np.searchsorted(site[order], site[order])]
    own = np.zeros(len(options), np.int64)
    own[order] = np.clip(left[site[order]] - (before - base), 0, taken[order])
    given, taken = given - stays, taken - own
    kept = np.flatnonzero(own)
    ends_given, ends_taken = np.cumsum(given), np.cumsum(taken)
    ends = np.unique(np.r_[ends_given, ends_taken])
    ends = ends[ends > 0]
    count = np.diff(ends, prepend=0)
    middle = ends - count
    giver = np.searchsorted(ends_given, middle, side="right")
    taker = np.searchsorted(ends_taken, middle, side="right")
    return [(owner[site[kept]], options[kept], own[kept]), (givers[giver], options[taker], count)]


def merged(origin: Ints, option: Ints, count: Ints) -> tuple[Ints, Ints, Ints]:
    """The placement with one entry for each pair, in order of origin and option, without zeros."""
    some = count > 0
    width = int(option.max(initial=0)) + 1
    key, index = np.unique(origin[some] * width + option[some], return_inverse=True)
    return key // width, key % width, np.bincount(index, count[some], len(key)).astype(np.int64)
