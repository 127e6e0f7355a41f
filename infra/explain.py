"""Why a plan is as it is, and what it would be if: what binds, what the runner-up costs, and a problem changed a little."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.errors import SettingError, UnknownName
from infra.demands import written
from infra.placement._arrays import Arrays, evaluate
from infra.placement._repair import judge
from infra.placement.programme import as_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.placement import PlaceSite, Problem, Solution

MOST = 64  # options that are tried as runner-up: those at the origin, and the quickest
UNITS = {
    "link": {"bit/s": 1 / 8, "kbit/s": 1e3 / 8, "mbit/s": 1e6 / 8, "gbit/s": 1e9 / 8, "b/s": 1.0, "kb/s": 1e3, "mb/s": 1e6, "gb/s": 1e9},
    "speed": {"rows/s": 1.0},
    "time": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "count": {"": 1.0},
    "size": {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12},
    "price": {"/h": 1.0, "/row": 1.0, "/gb up": 1.0, "/gb down": 1.0},
}  # fmt: skip
QUANTITIES = {
    "uplink": "link", "downlink": "link", "speed": "speed", "threads": "count", "latency": "time", "price": "price",
    "disk": "size", "memory": "size",
}  # fmt: skip
ROWS = {"compute": "its work", "cores": "its machine's cores", "uplink": "its up-link", "downlink": "its down-link"}
TIGHT = 0.98  # share of a cap or a disk from which on it is said to bind
CHANGE = re.compile(r"\s*(\w+)\s+of\s+(\S+)\s*=\s*([0-9.eE+-]+)\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Binding:
    """Which row of the programme says how long a site takes."""

    site: str
    row: str  # compute, cores, uplink or downlink
    seconds: float
    slack: float  # seconds that it could take longer without the first part ending later


@dataclass(frozen=True, slots=True)
class Alternative:
    """What the objective would be if one shard went elsewhere."""

    site: str
    variant: str
    value: float
    more: float  # than the plan's
    breaks: bool = False  # a cap, the floor of accuracy or a disk


def binding(problem: Problem, solution: Solution) -> list[Binding]:
    """For every site that works or sends: its longest row. Those with no slack are what all wait for."""
    a = Arrays(problem)
    costs = evaluate(a, *as_arrays(a, solution.counts))
    rows = list(costs.parts)
    table = np.stack([costs.parts[row] for row in rows])
    longest = table.argmax(axis=0)
    return [
        Binding(a.names[i], rows[longest[i]], float(table[longest[i], i]), costs.first - float(table[longest[i], i]))
        for i in np.flatnonzero(table.max(axis=0) > a.busy)
    ]


def runners_up(
    problem: Problem, solution: Solution, origin: str, site: str | None = None, among: Sequence[str] = ()
) -> list[Alternative]:
    """What moving one shard would make of the objective, the best first; the other shards stay where they are.

    Args:
        problem: that was solved.
        solution: its plan.
        origin: where the shard was born.
        site: that answers it; None: the one that answers most of that origin's.
        among: sites that it might go to; none: all, or the quickest of very many.

    Raises:
        UnknownName: the plan has no such shard.
    """
    a = Arrays(problem)
    o, m, n = as_arrays(a, solution.counts)
    if origin not in a.origin_names:
        raise UnknownName.among("origin", origin, a.origin_names)
    born = a.origin_names.index(origin)
    mine = [k for k in np.flatnonzero(o == born) if site is None or a.names[a.site[m[k]]] == site]
    if not mine:
        raise UnknownName.among(
            "site that answers shards of " + origin, str(site), {i for p, i, _ in solution.counts if p == origin}
        )
    k = max(mine, key=lambda k: (n[k], -k))
    now = evaluate(a, o, m, n).of(problem.objective)
    able = np.flatnonzero(a.site == a.home[born]) if a.resident[born] else np.arange(len(a.site))
    if among:
        able = able[np.isin(a.site[able], [a.names.index(name) for name in among])]
    speed = a.speed[able] / a.threads[a.site[able]] - 1e9 * (a.site[able] == a.home[born])
    found = []
    for option in able[np.argsort(speed, kind="stable")[:MOST]]:
        if option == m[k]:
            continue
        fewer = n.copy()
        fewer[k] -= 1
        moved = judge(a, np.append(o, born), np.append(m, option), np.append(fewer, 1))
        i = a.site[option]
        name = problem.sites[i].variants[a.variant[option]].name
        found.append(Alternative(a.names[i], name, moved.value, moved.value - now, moved.broken > 0))
    return sorted(found, key=lambda each: (each.breaks, each.value, each.site, each.variant))


def onto(problem: Problem, solution: Solution, site: str) -> list[Alternative]:
    """What the objective would be if a site got one shard that it does not answer, the best first, one for each origin.

    `site` of an alternative is the shard's origin; of an origin's shards it is one of those where most are answered.

    Raises:
        UnknownName: there is no such site.
    """
    _site(problem, site)
    found = [
        dataclasses.replace(best, site=origin.site)
        for origin in problem.origins
        for there in _elsewhere(solution, origin.site, site)
        for best in runners_up(problem, solution, origin.site, there, among=(site,))[:1]
    ]
    return sorted(found, key=lambda each: (each.breaks, each.value, each.site))


def _elsewhere(solution: Solution, origin: str, site: str) -> list[str]:
    """The site that answers most shards of an origin, of those that are another one."""
    counts = {i: n for (o, i, _), n in solution.counts.items() if o == origin and i != site}
    return sorted(counts, key=lambda name: (-counts[name], name))[:1]


def like(problem: Problem, site: str, name: str) -> PlaceSite:
    """A site that would be like another one, on a machine of its own.

    Raises:
        UnknownName: there is no such site.
    """
    return dataclasses.replace(_site(problem, site), name=name, host=f"the machine of {name}", busy_seconds=0.0)


def without(problem: Problem, site: str) -> Problem:
    """The problem without a site; what is born there may be answered elsewhere, if residency allows.

    Raises:
        UnknownName: there is no such site.
    """
    _site(problem, site)
    return dataclasses.replace(problem, sites=tuple(each for each in problem.sites if each.name != site))


def with_site(problem: Problem, site: PlaceSite) -> Problem:
    """The problem with one site more.

    Raises:
        SettingError: there is one of that name already.
    """
    if any(each.name == site.name for each in problem.sites):
        raise SettingError(f"there is a site {site.name!r} in the plan already; leave it out first")
    return dataclasses.replace(problem, sites=(*problem.sites, site))


def change(problem: Problem, what: str) -> Problem:
    """The problem with one quantity changed, as in `uplink of ward-3 = 5 Mbit/s`.

    A speed is that of one thread with the site's first variant; its other variants change by the same factor.

    Raises:
        SettingError: it cannot be read; says how to write it.
        UnknownName: there is no such site.
    """
    found = CHANGE.fullmatch(what)
    if not found:
        raise SettingError(f"cannot read {what!r}; write it as 'uplink of ward-3 = 5 Mbit/s'")
    quantity, name, number, unit = found.group(1).lower(), found.group(2), found.group(3), found.group(4).lower()
    if quantity not in QUANTITIES:
        raise SettingError(f"{quantity!r} in {what!r} is nothing that can be changed; one of: {', '.join(QUANTITIES)}")
    units = UNITS[QUANTITIES[quantity]]
    if unit not in units:
        raise SettingError(f"{what!r} needs a unit for {quantity}: one of {', '.join(filter(None, units)) or 'none'}")
    try:
        amount = float(number) * units[unit]
    except ValueError:
        raise SettingError(f"{number!r} in {what!r} is no number") from None
    if not 0 <= amount < float("inf") or (amount == 0 and quantity not in ("latency", "price")):
        raise SettingError(f"{quantity} in {what!r} must be above 0")
    if quantity == "threads" and amount != int(amount):
        raise SettingError(f"threads in {what!r} must be a whole number")
    old = _site(problem, name)
    new = _CHANGES[quantity](old, amount, unit)
    return dataclasses.replace(problem, sites=tuple(new if each is old else each for each in problem.sites))


def _site(problem: Problem, name: str) -> PlaceSite:
    for site in problem.sites:
        if site.name == name:
            return site
    raise UnknownName.among("site of this plan", name, [site.name for site in problem.sites])


def _speed(site: PlaceSite, rows: float, _: str) -> PlaceSite:
    factor = 1 / rows / site.variants[0].seconds_per_row
    variants = tuple(dataclasses.replace(v, seconds_per_row=v.seconds_per_row * factor) for v in site.variants)
    return dataclasses.replace(site, variants=variants)


def _price(site: PlaceSite, amount: float, unit: str) -> PlaceSite:
    key = {"/h": "hour", "/row": "row", "/gb up": "gb_up", "/gb down": "gb_down"}[unit]
    return dataclasses.replace(site, prices=dataclasses.replace(site.prices, **{key: amount}))


_CHANGES: dict[str, Callable[[PlaceSite, float, str], PlaceSite]] = {
    "uplink": lambda site, amount, _: dataclasses.replace(site, up=amount),
    "downlink": lambda site, amount, _: dataclasses.replace(site, down=amount),
    "latency": lambda site, amount, _: dataclasses.replace(site, latency_seconds=amount),
    "threads": lambda site, amount, _: dataclasses.replace(
        site, threads=int(amount), host_cores=max(site.host_cores, int(amount))
    ),
    "disk": lambda site, amount, _: dataclasses.replace(site, disk_bytes=amount),
    "memory": lambda site, amount, _: dataclasses.replace(site, memory_bytes=amount),
    "speed": _speed,
    "price": _price,
}


def why_site(problem: Problem, solution: Solution, site: str) -> list[str]:
    """Sentences: what a site does, which row of the programme binds it, and what the runner-up would have cost.

    Raises:
        UnknownName: there is no such site.
    """
    _site(problem, site)
    said = [f"{site} {solution.reasons.get(site, '')}"]
    found = next((each for each in binding(problem, solution) if each.site == site), None)
    if found:
        waits = "all wait for it" if found.slack < 1e-9 else f"{found.slack:.3f} s of slack"
        said.append(f"what binds it is {ROWS[found.row]}: {found.seconds:.3f} s, {waits}")
    answered = {o: n for (o, i, _), n in solution.counts.items() if i == site}
    if answered:
        origin = min(answered, key=lambda name: (-answered[name], name))
        said.append(_next_best(problem, origin, runners_up(problem, solution, origin, site)))
    if more := onto(problem, solution, site)[:1]:
        said.append(f"one shard more, of {more[0].site}, would make it {_would_be(problem, more[0])}")
    elif not answered:
        said.append("no shard may come to it: what is born elsewhere has to stay there")
    return said + limits(problem, solution)


def why_shard(problem: Problem, solution: Solution, origin: str, site: str) -> list[str]:
    """The same for a shard of an origin that a site answers."""
    found = next((each for each in binding(problem, solution) if each.site == site), None)
    said = (
        [f"what binds {site} is {ROWS[found.row]}: {found.seconds:.3f} s, {found.slack:.3f} s of slack"]
        if found
        else []
    )
    return [*said, _next_best(problem, origin, runners_up(problem, solution, origin, site)), *limits(problem, solution)]


def limits(problem: Problem, solution: Solution) -> list[str]:
    """What is asked of the plan and leaves it no room: caps, the floor of accuracy, full disks."""
    a = Arrays(problem)
    costs = evaluate(a, *as_arrays(a, solution.counts))
    said = [
        f"the cap of {written(name, cap)} binds: the plan has {written(name, costs.of(name))}"
        for name, cap in problem.caps.items()
        if costs.of(name) > TIGHT * cap
    ]
    if problem.accuracy and costs.accuracy < problem.accuracy + (1 - TIGHT) * 0.1:
        said.append(f"the floor of accuracy binds: {costs.accuracy:.2%} where {problem.accuracy:.2%} was asked for")
    full = np.flatnonzero(np.isfinite(a.disk) & (costs.disk > TIGHT * a.disk) & (costs.disk > 0))
    return said + [f"the disk of {a.names[i]} is full" for i in full]


def _next_best(problem: Problem, origin: str, others: list[Alternative]) -> str:
    resident = any(o.site == origin and o.resident for o in problem.origins)
    stay = f"a shard of {origin} may not leave it (residency)"
    if not others:
        return stay if resident else f"nobody else could answer a shard of {origin}"
    best = others[0]
    how = f"the runner-up for one of its shards is {best.site}, which would make it {_would_be(problem, best)}"
    return f"{stay}; {how}, with another variant" if resident else how


def _would_be(problem: Problem, other: Alternative) -> str:
    broken = ", and would break a cap, the floor or a disk" if other.breaks else ""
    return f"{written(problem.objective, other.value)}, {written(problem.objective, other.more)} more{broken}"
