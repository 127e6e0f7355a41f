"""The programme in whole numbers, for small problems: n[o, m] shards of origin o for option m, and what is used.

It is written over pairs, as `docs/planner.md` does; nothing is relaxed, so its optimum is the best placement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

if TYPE_CHECKING:
    from infra.placement._arrays import Arrays, Floats, Ints

NODES = 2000  # of the branch and bound; a count, not a time: the answer must not depend on the machine
TIE = 1e-7
SLACK = 5e-7  # share by which a cap may be exceeded, so that one that is met exactly is not missed by rounding


def pairs(a: Arrays) -> tuple[Ints, Ints]:
    """Origin and option of every pair that residency allows."""
    allowed = ~a.resident[:, None] | (a.home[:, None] == a.site[None, :])
    origin, option = np.nonzero(allowed)
    return origin, option


def solve(a: Arrays, scale: float) -> tuple[Ints, float] | None:
    """Shards of every pair and a lower bound of the objective; None if HiGHS found nothing within its nodes.

    Args:
        a: the problem.
        scale: of the objective, about.
    """
    origin, option = pairs(a)
    n, options, sites = len(origin), len(a.site), len(a.names)
    site, home = a.site[option], a.home[origin]
    y, u, e = n, n + options, n + options + sites  # option used, site used, something escalated
    cold, t1, t2 = e + 1, e + 2, e + 3
    width = t2 + 1
    seconds = a.shard_seconds(origin, option)
    moved = home != site
    sent = a.bytes[origin]
    escalated = a.rows[origin] * a.escalation[option]
    answers = a.result_bytes(origin, option)
    rows: list[Floats] = []
    low: list[float] = []
    high: list[float] = []

    def add(least: float, most: float, *entries: tuple[Any, Any]) -> None:
        row = np.zeros(width)
        for columns, values in entries:
            row[columns] += values
        rows.append(row)
        low.append(least)
        high.append(most)

    pair = np.arange(n)
    for o, shards in enumerate(a.shards):
        add(shards, shards, (pair[origin == o], 1.0))
    everything = float(a.shards.sum())
    for m in range(options):
        add(-np.inf, 0.0, (pair[option == m], 1.0), (y + m, -everything))
        add(-np.inf, 0.0, (y + m, 1.0), (u + a.site[m], -1.0))
        if a.escalation[m] > 0:
            add(-np.inf, 0.0, (y + m, 1.0), (e, -1.0))
    for i in range(sites):
        here, mine = pair[site == i], np.flatnonzero(a.site == i)
        away = pair[moved & (home == i)]
        work = (here, seconds[here] / a.threads[i]), (away, a.pack[origin[away]] / a.threads[i])
        add(-np.inf, -a.busy[i], (t1, -1.0), (y + mine, a.startup[mine]), (u + i, a.dispatch[i]), *work)
        add(-np.inf, -a.down_busy[i], (t1, -1.0), (here, (moved * sent / a.down[i])[here]))
        if np.isfinite(a.disk[i]):
            add(-np.inf, max(0.0, a.disk[i]), (here, (moved * sent)[here]))
        if not a.cloud[i]:
            packed = (escalated * a.problem.record_bytes + answers)[here] / a.up[i]
            add(-np.inf, -a.up_busy[i], (t1, -1.0), (here, packed), (away, sent[away] / a.up[i]))
        members = np.flatnonzero(a.host == a.host[i])
        if a.threads[members].sum() > a.cores[i]:
            shared, opened = np.isin(site, members), np.flatnonzero(np.isin(a.site, members))
            gone = pair[moved & np.isin(home, members)]
            begun = float(a.busy[members] @ a.threads[members])
            add(
                -np.inf, -begun, (t1, -a.cores[i]), (u + i, a.cores[i] * a.dispatch[i]),
                (y + opened, a.startup[opened]), (pair[shared], seconds[shared]), (gone, a.pack[origin[gone]]),
            )  # fmt: skip
    money = np.zeros(width)
    money[:n] = a.shard_money(origin, option)
    money[y : y + options] = a.startup * a.hour[a.site]
    money[u : u + sites] = a.dispatch * a.hour
    if escalated.any() and a.judge >= 0:
        c = a.first_cloud
        add(-np.inf, 0.0, (e, 1.0), (y + a.judge, -1.0), (cold, -1.0))
        add(-np.inf, 0.0, (y + a.judge, 1.0), (pair[option == a.judge], -1.0))  # it starts for shards only
        fixed = ((e, a.dispatch[c]), (cold, a.startup[a.judge]))
        add(-np.inf, 0.0, (t2, -1.0), (pair, escalated * a.again), *fixed)
        money[[e, cold]] = a.dispatch[c] * a.hour[c], a.startup[a.judge] * a.hour[c]
    traffic = np.zeros(width)
    traffic[:n] = a.moved_bytes(origin, option) + escalated * a.problem.record_bytes
    total = np.zeros(width)
    total[[t1, t2]] = 1.0
    linear = {"makespan": total, "bytes": traffic, "money": money}
    if a.problem.accuracy > 0:
        right = a.rows[origin] * a.accuracy[option] / max(a.total_rows, 1e-300)
        add(a.problem.accuracy - 1e-9, np.inf, (pair, right))
    for name, cap in a.problem.caps.items():
        size = float(linear[name].max()) or 1.0
        add(-np.inf, cap * (1 + SLACK) / size + SLACK * SLACK, (slice(None), linear[name] / size))
    cost = linear[a.problem.objective] / scale
    cost[:n] += TIE * moved * (1 / everything + sent / max(float(a.bytes @ a.shards), 1e-300)) / 2
    if a.problem.objective != "makespan":
        cost[[t1, t2]] += TIE / a.longest
    whole, top = np.ones(width), np.full(width, np.inf)
    whole[[t1, t2]] = 0
    top[y : cold + 1] = 1
    found = milp(
        cost,
        integrality=whole,
        bounds=Bounds(np.r_[np.zeros(t1), a.busy.max(), 0.0], top),
        constraints=LinearConstraint(np.array(rows), low, high),
        options={"node_limit": NODES, "mip_rel_gap": 1e-7},
    )
    if found.x is None:
        return None
    bound = found.fun if found.mip_dual_bound is None else found.mip_dual_bound
    return np.rint(found.x[:n]).astype(np.int64), max(0.0, float(bound) - TIE) * scale
