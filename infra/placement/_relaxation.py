"""The linear relaxation of the programme, sparse, for HiGHS: a lower bound and real counts, at any size.

Links belong to sites, not to pairs of sites. So a shard that leaves its origin goes into a pool of its class (shards
of equal rows and bytes), and sites take from the pool: variables grow with the sites, not with their square, and nothing
is lost. Where origins differ too much for that, a class is as light as its lightest member, which keeps the bound one.

There are no binaries, but where `whole` asks for one an option and a site. With a `horizon` H that is no shorter than the first part of the best plan, an option whose
start ends at F answers at most H - F seconds of work, so n shards of w seconds use it at least for the share
n w / (H - F), and its start is charged by that share. It is tight where H is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

if TYPE_CHECKING:
    from infra.placement._arrays import Arrays, Bools, Floats, Ints

TIE = 1e-6  # share of the objective that may be spent to choose, among equal plans, the one that moves least
# Of a search for which options are used: a count, not a time, as the answer must not depend on the machine.
WHOLE_NODES = 500
WHOLE_GAP = 1e-3  # share of the value that it may leave open
INFEASIBLE = 2  # as SciPy's `milp` says it
TIE_LARGE = 1e-4  # the same where HiGHS could not tell a millionth from nothing


@dataclass(frozen=True, slots=True)
class Relaxed:
    """An optimum in real numbers."""

    keep: Floats  # shards in each keep column of `Columns`
    give: Floats
    take: Floats
    first: float  # seconds of the first part
    value: float  # of the objective; no integer plan with a first part of at most `horizon` is below it
    slope: float  # of the value in the first part's seconds, where those were given
    unplaced: float  # shards that found no place, where those seconds were given


class Columns:
    """What is kept at home, given to the pool and taken from it."""

    def __init__(self, a: Arrays, classes: int) -> None:
        """Lay the columns out, with at most so many classes of shards in the pool."""
        self.a = a
        order = np.argsort(a.site, kind="stable")
        starts = np.searchsorted(a.site[order], np.arange(len(a.names) + 1))
        many = np.where(a.home >= 0, starts[a.home + 1] - starts[a.home], 0)
        self.kept_origin: Ints = np.repeat(np.arange(len(a.home)), many)
        nth = np.arange(len(self.kept_origin)) - np.repeat(np.cumsum(many) - many, many)
        self.kept_option: Ints = order[starts[a.home[self.kept_origin]] + nth]
        elsewhere = len(np.unique(a.site)) - (many > 0)
        self.givers: Ints = np.flatnonzero(~a.resident & (elsewhere > 0))
        self.class_of, self.class_rows, self.class_bytes = self._classes(classes)
        c = len(self.class_rows)
        self.take_option: Ints = np.repeat(np.arange(len(a.site)), c)
        self.take_class: Ints = np.tile(np.arange(c), len(a.site))
        # Of keep columns, then take columns:
        self.option: Ints = np.r_[self.kept_option, self.take_option]
        self.site: Ints = a.site[self.option]
        self.rows: Floats = np.r_[a.rows[self.kept_origin], self.class_rows[self.take_class]]
        self.seconds: Floats = np.maximum(self.rows * a.speed[self.option], a.latency[self.site])
        self.packed: Floats = np.r_[np.zeros(len(self.kept_origin)), self.class_bytes[self.take_class]]
        self.escalated: Floats = self.rows * a.escalation[self.option]
        answers = a.problem.result_bytes + self.rows * a.problem.result_row_bytes
        self.sent: Floats = np.where(a.cloud[self.site], 0.0, self.escalated * a.problem.record_bytes + answers)

    def _classes(self, most: int) -> tuple[Ints, Floats, Floats]:
        """Class of each giver; rows and bytes of a shard of each class."""
        a, g = self.a, self.givers
        found, index = np.unique(np.stack([a.rows[g], a.bytes[g]], axis=1), axis=0, return_inverse=True)
        index = index.reshape(-1).astype(np.int64)
        if len(found) <= most:
            return index, found[:, 0], found[:, 1]
        density = a.bytes[g] / a.rows[g]
        cuts = np.quantile(density, np.linspace(0, 1, most + 1)[1:-1])
        index = np.unique(np.searchsorted(cuts, density), return_inverse=True)[1].reshape(-1).astype(np.int64)
        members = [index == c for c in range(int(index.max()) + 1)]
        rows = np.array([a.rows[g][mine].max() for mine in members])
        return index, rows, rows * np.array([density[mine].min() for mine in members])

    @property
    def counts(self) -> int:
        """Keep and take columns."""
        return len(self.option)

    def traffic(self) -> tuple[Floats, Floats]:
        """Bytes over the edges' links: of a shard kept or taken, of a shard given."""
        a, home = self.a, self.a.home[self.givers]
        answered = self.packed * ~a.cloud[self.site] + self.sent
        return answered, a.bytes[self.givers] * (~a.cloud[home] | (home < 0))

    def money(self) -> tuple[Floats, Floats]:
        """Money, starts left out: of a shard kept or taken, of a shard given."""
        a, at, home = self.a, self.site, self.a.home[self.givers]
        answered = self.seconds / a.threads[at] * a.hour[at] + self.rows * a.row_price[at]
        answered += self.packed * a.down_price[at]
        answered += self.escalated * a.escalated_price + self.sent * a.up_price[at]
        return answered, a.bytes[self.givers] * np.where(home >= 0, a.up_price[home], 0.0)


class _Rows:
    """Rows of a sparse matrix, kind by kind."""

    def __init__(self, width: int) -> None:
        self.width, self.height = width, 0
        self.parts: list[tuple[Ints, Ints, Floats]] = []
        self.right: list[Floats] = []
        self.kinds: dict[str, slice] = {}

    def kind(self, name: str, right: Floats, *entries: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]) -> None:
        """Rows with these right sides; an entry has rows of this kind, columns and coefficients."""
        for row, column, value in entries:
            rows, columns, values = (np.atleast_1d(each) for each in np.broadcast_arrays(row, column, value))
            self.parts.append((rows.astype(np.int64) + self.height, columns.astype(np.int64), values.astype(float)))
        self.kinds[name] = slice(self.height, self.height + len(right))
        self.height += len(right)
        self.right.append(np.asarray(right, float))

    def matrix(self) -> tuple[sp.csr_matrix, Floats]:
        if not self.parts:
            return sp.csr_matrix((self.height, self.width)), np.concatenate([*self.right, np.empty(0)])
        rows, columns, values = (np.concatenate([part[k] for part in self.parts]) for k in range(3))
        return sp.csr_matrix((values, (rows, columns)), (self.height, self.width)), np.concatenate(self.right)


def relax(
    cols: Columns,
    least: float,
    horizon: float,
    scale: float,
    *,
    again: float | None,
    first: float | None = None,
    whole: bool = False,
) -> Relaxed | None:
    """Solve it; None if nothing satisfies the rows.

    Args:
        cols: the columns.
        least: seconds of the first part, at least.
        horizon: and at most.
        scale: of the objective, about.
        again: seconds before the cloud begins with what was escalated; None: nothing may escalate.
        first: the seconds of the first part, given; then shards may stay unplaced, each at the price of `scale`.
        whole: an option is used or not, and a site, so starts are charged in full; shards are not whole. Slower, and
            given up after `WHOLE_NODES`, with the bound that was reached.
    """
    a, n, g = cols.a, cols.counts, len(cols.givers)
    slack = len(a.shards) if first is not None else 0
    t1, t2 = n + g + slack, n + g + slack + 1
    uses = len(a.site) + len(a.names) if whole else 0
    opened, visited, width = t2 + 1, t2 + 1 + len(a.site), t2 + 1 + uses
    column, given = np.arange(n), n + np.arange(g)
    taken = np.arange(len(cols.kept_origin), n)
    room = horizon - a.busy[cols.site] - a.dispatch[cols.site] - a.startup[cols.option]
    closed: Bools = (room <= 0) | ((cols.escalated > 0) & (again is None))
    # The share of its use that one shard charges an option: times what its use costs in seconds, or in money.
    share = np.where(closed, 0.0, cols.seconds / a.threads[cols.site] / np.where(closed, 1.0, room))
    start = np.zeros(n) if whole else share * (a.dispatch[cols.site] + a.startup[cols.option])

    equal = _Rows(width)
    equal.kind(
        "origin", a.shards.astype(float), (cols.kept_origin, np.arange(len(cols.kept_origin)), 1.0), (cols.givers, given, 1.0),
        (np.arange(slack), n + g + np.arange(slack), 1.0),
    )  # fmt: skip
    in_class = a.rows[cols.givers] / cols.class_rows[cols.class_of]
    equal.kind("pool", np.zeros(len(cols.class_rows)), (cols.class_of, given, in_class), (cols.take_class, taken, -1.0))
    under = _under(cols, share, start, horizon, again or 0.0, t1, t2, width)
    if whole:
        options, sites, home = np.arange(len(a.site)), np.arange(len(a.names)), a.home[cols.givers]
        under.kind("used", np.zeros(len(options)), (cols.option, column, share), (options, opened + options, -1.0))
        under.kind(
            "visited", np.zeros(len(options)), (options, opened + options, 1.0), (options, visited + a.site, -1.0)
        )
        under.kind(
            "starts", -a.busy, (sites, t1, -1.0), (cols.site, column, cols.seconds / a.threads[cols.site]),
            (a.site, opened + options, a.startup), (sites, visited + sites, a.dispatch),
            (home[home >= 0], given[home >= 0], (a.pack[cols.givers] / a.threads[home])[home >= 0]),
        )  # fmt: skip
        if (
            again is not None and a.judge >= 0 and cols.escalated.any()
        ):  # a cloud that the first part has not opened is cold
            cold = float(a.startup[a.judge])
            begin = np.array([-float(a.dispatch[a.first_cloud]) - cold])
            under.kind(
                "cold", begin, (0, t2, -1.0), (0, opened + a.judge, -cold), (0, column, cols.escalated * a.again)
            )
    seconds, traffic, money = np.zeros((3, width))
    seconds[[t1, t2]] = 1.0
    traffic[:n], traffic[given] = cols.traffic()
    money[:n], money[given] = cols.money()
    money[:n] += start * a.hour[cols.site]
    if whole:
        money[opened:visited] = a.startup * a.hour[a.site]
        money[visited:] = a.dispatch * a.hour
    linear = {"makespan": seconds, "bytes": traffic, "money": money}
    if a.problem.accuracy > 0:
        right = cols.rows * a.accuracy[cols.option] / max(a.total_rows, 1e-300)
        under.kind("accuracy", np.array([1e-12 - a.problem.accuracy]), (0, column, -right))
    for name, cap in a.problem.caps.items():
        size = float(linear[name].max()) or 1.0
        some = np.flatnonzero(linear[name])
        under.kind(name, np.array([cap * (1 + 1e-7) / size]), (0, some, linear[name][some] / size))

    tie = TIE if first is None else TIE_LARGE
    cost = linear[a.problem.objective] / scale
    total = max(float(a.shards.sum()), 1.0)
    cost[given] += tie / 2 * (1 / total + a.bytes[cols.givers] / max(float(a.bytes @ a.shards), 1e-300))
    if a.problem.objective != "makespan":
        cost[[t1, t2]] += tie / 2 / max(horizon, 1e-300)
    cost[n + g : n + g + slack] = (a.rows / max(float(a.rows.max(initial=0)), 1e-300))[:slack]
    low, high = np.zeros(width), np.full(width, np.inf)
    high[:n][closed] = 0.0
    low[t1], high[t1] = (least, horizon) if first is None else (first, first)
    high[opened:] = 1.0
    # HiGHS judges by absolute tolerances: count in shards of a mean origin, and in seconds of the first part.
    unit = np.full(width, total / len(a.shards))
    unit[[t1, t2]] = first or horizon or 1.0  # without a second left nothing is open
    unit[opened:] = 1.0
    factor = float(len(a.shards))
    (m_eq, b_eq), (m_ub, b_ub) = equal.matrix(), under.matrix()
    height = sp.diags(1 / np.concatenate([_height(kind, rows, unit[t1]) for kind, rows in under.kinds.items()]))
    m_ub, b_ub, m_eq, b_eq = (
        height @ m_ub @ sp.diags(unit),
        height @ b_ub,
        m_eq @ sp.diags(unit) / unit[0],
        b_eq / unit[0],
    )
    if whole:
        chosen = milp(
            cost * unit * factor, bounds=Bounds(low / unit, high / unit), integrality=np.arange(width) >= opened,
            constraints=[LinearConstraint(m_ub, -np.inf, b_ub), LinearConstraint(m_eq, b_eq, b_eq)],
            options={"node_limit": WHOLE_NODES, "mip_rel_gap": WHOLE_GAP},
        )  # fmt: skip
        if chosen.status == INFEASIBLE:
            return None
        x = np.maximum(chosen.x, 0.0) * unit if chosen.x is not None else np.zeros(width)
        return Relaxed(
            keep=x[: len(cols.kept_origin)], give=x[given], take=x[taken], first=float(x[t1]),
            value=max(0.0, float(chosen.mip_dual_bound or 0.0) / factor - tie) * scale, slope=0.0, unplaced=0.0,
        )  # fmt: skip
    found = linprog(
        cost * unit * factor, A_ub=m_ub, b_ub=b_ub, A_eq=m_eq, b_eq=b_eq, bounds=np.stack([low, high], 1) / unit[:, None],
        method="highs-ipm" if first is None and width > 500 else "highs-ds",
    )  # fmt: skip
    if found.status != 0:
        return None
    x = np.maximum(found.x, 0.0) * unit
    return Relaxed(
        keep=x[: len(cols.kept_origin)],
        give=x[given],
        take=x[taken],
        first=float(x[t1]),
        value=max(0.0, float(found.fun) / factor - tie) * scale,
        slope=float(found.lower.marginals[t1] + found.upper.marginals[t1]) / unit[t1] / factor * scale,
        unplaced=float(x[n + g : n + g + slack].sum()),
    )


def _height(kind: str, rows: slice, seconds: float) -> Floats:
    """What rows of a kind are divided by: those of time by the time."""
    timed = kind in ("compute", "starts", "cores", "uplink", "downlink", "escalations", "cold", "makespan")
    return np.full(rows.stop - rows.start, seconds if timed else 1.0)


def _under(
    cols: Columns, share: Floats, start: Floats, horizon: float, again: float, t1: int, t2: int, width: int
) -> _Rows:
    """The rows of capacity: what a site, a machine and a link do ends before the first part does, and so on."""
    a, n, g = cols.a, cols.counts, len(cols.givers)
    under, sites, column = _Rows(width), np.arange(len(a.names)), np.arange(n)
    given, taken = n + np.arange(g), np.arange(len(cols.kept_origin), n)
    home = a.home[cols.givers]
    from_site = home >= 0
    packs = (home[from_site], given[from_site], (a.pack[cols.givers] / a.threads[home])[from_site])
    under.kind(
        "compute", -a.busy, (sites, t1, -1.0), (cols.site, column, cols.seconds / a.threads[cols.site] + start), packs
    )
    hosts = np.arange(int(a.host.max(initial=-1)) + 1)
    first_of = np.unique(a.host, return_index=True)[1]
    cores = a.cores[first_of]
    begun = np.bincount(a.host, a.busy * a.threads)
    quickest = np.full(len(hosts), np.inf)
    np.minimum.at(quickest, a.host, a.dispatch)
    room = horizon * cores - begun - cores * quickest
    stretch = np.where(room > 0, (horizon * cores - begun) / np.where(room > 0, room, 1.0), 1.0)
    shared = np.bincount(a.host, a.threads) > cores  # else the sites' own rows say as much
    if shared.any():
        mine = shared[a.host[cols.site]]
        host = a.host[cols.site]
        load = (cols.seconds + share * a.startup[cols.option]) * stretch[host] / cores[host]
        apart = from_site & shared[a.host[home]]
        packing = (a.host[home[apart]], given[apart], a.pack[cols.givers[apart]] / cores[a.host[home[apart]]])
        under.kind("cores", -begun / cores, (hosts, t1, -1.0), (host[mine], column[mine], load[mine]), packing)
    leaves = (home >= 0) & ~a.cloud[home]
    sends = cols.sent > 0
    rate = a.up[cols.site]
    if leaves.any() or sends.any():
        under.kind(
            "uplink",
            np.where(a.cloud, 0.0, -a.up_busy),
            (sites, t1, -1.0),
            (cols.site[sends], column[sends], (cols.sent / rate)[sends]),
            (home[leaves], given[leaves], (a.bytes[cols.givers] / a.up[home])[leaves]),
        )
    if g:
        at = cols.site[taken]
        under.kind("downlink", -a.down_busy, (sites, t1, -1.0), (at, taken, cols.packed[taken] / a.down[at]))
        tight = np.isfinite(a.disk[at])
        if tight.any():
            room = np.where(np.isfinite(a.disk), np.maximum(a.disk, 0), 0)
            under.kind("disk", room, (at[tight], taken[tight], cols.packed[taken][tight]))
    if cols.escalated.any() and a.judge >= 0:
        under.kind("escalations", np.array([-again]), (0, t2, -1.0), (0, column, cols.escalated * a.again))
    return under
