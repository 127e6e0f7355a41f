"""Random problems and what may happen in them: the same for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from infra.placement import PlaceOrigin, PlaceSite, PlaceVariant, Problem

SHARD_BYTES = 5e4  # compressed, in a random problem; and
CLOUD_SPEED = 20.0  # of a cloud there, times an edge's


@dataclass(frozen=True, slots=True)
class World:
    """What really happens, as the plan does not know it."""

    speed: dict[str, float] = field(default_factory=dict)  # by site: times the measured speed; 1 unless named
    links: dict[str, float] = field(default_factory=dict)  # likewise: times the measured rates of its link
    deaths: tuple[tuple[float, str], ...] = ()  # seconds, site
    returns: tuple[tuple[float, str], ...] = ()  # seconds, site: one that died, or one that joins then


CALM = World()  # as the plan knows it


def as_it_is(problem: Problem, world: World) -> Problem:
    """The problem with the speeds and links that the sites really have: its bound is one for all that can be done in that world."""
    return replace(problem, sites=tuple(_as_it_is(site, world) for site in problem.sites))


def _as_it_is(site: PlaceSite, world: World) -> PlaceSite:
    speed, link = world.speed.get(site.name, 1.0), world.links.get(site.name, 1.0)
    variants = tuple(replace(v, seconds_per_row=v.seconds_per_row / speed) for v in site.variants)
    return replace(site, variants=variants, up=site.up * link, down=site.down * link)


def random_problem(
    sites: int,
    shards: int,
    seed: int,
    *,
    resident: float = 0.2,
    escalation: float = 0.05,
    spread: float = 30.0,
    small: float = 0.3,
) -> Problem:
    """A problem of that size: speeds, links and shards of very different sites, one cloud for a hundred edges.

    Args:
        sites: how many.
        shards: of all origins together, about.
        seed: of everything.
        resident: share of the edges whose shards may not leave.
        escalation: share of rows that the edges send on.
        spread: the fastest edge's speed over the slowest's.
        small: share of the edges whose disk has room for few of others' shards: for none up to a mean origin's number.
    """
    rng = np.random.default_rng(seed)
    clouds = max(1, sites // 100)
    edges = sites - clouds
    speed = np.exp(rng.uniform(0, math.log(spread), sites)) * np.where(np.arange(sites) < clouds, CLOUD_SPEED, 1.0)
    up = 10 ** rng.uniform(5.5, 8, sites) * np.where(np.arange(sites) < clouds, 100.0, 1.0)
    startup = rng.uniform(0.1, 2, sites)
    weight = rng.lognormal(0, 0.7, max(edges, 1))
    born = np.maximum(1, rng.multinomial(shards, weight / weight.sum()))
    stays = rng.random(max(edges, 1)) < resident
    room = np.floor(rng.uniform(0, shards / max(edges, 1), sites)) * SHARD_BYTES
    limited = (rng.random(sites) < small) & (np.arange(sites) >= clouds)
    made = tuple(
        PlaceSite(
            name=f"{'cloud' if i < clouds else 'edge'}-{i}", cloud=i < clouds, host=f"host-{i}", host_cores=4, threads=1,
            variants=(PlaceVariant(
                name="v", seconds_per_row=1e-3 / float(speed[i]), startup_seconds=float(startup[i]),
                escalation=0.0 if i < clouds else escalation,
            ),),
            dispatch_seconds=0.1, latency_seconds=0.005, up=float(up[i]), down=3 * float(up[i]),
            disk_bytes=float(room[i]) if limited[i] else math.inf,
        )
        for i in range(sites)
    )  # fmt: skip
    origins = tuple(
        PlaceOrigin(
            site=made[clouds + k].name, shards=int(born[k]), rows=200.0, bytes=SHARD_BYTES, resident=bool(stays[k])
        )
        for k in range(edges)
    )
    return Problem(sites=made, origins=origins, record_bytes=250.0)


def balanced_problem(sites: int, shards: int, seed: int) -> Problem:
    """A random problem in which every site counts: links are wide, clouds no quicker than edges, no site is slow by far, and all may move."""
    problem = random_problem(sites, shards, seed, resident=0.0, spread=3, small=0.0)
    return replace(problem, sites=tuple(_evened(site) for site in problem.sites))


def _evened(site: PlaceSite) -> PlaceSite:
    slower = CLOUD_SPEED if site.cloud else 1.0
    variants = tuple(replace(v, seconds_per_row=v.seconds_per_row * slower) for v in site.variants)
    return replace(site, up=site.up * 1e4, down=site.down * 1e4, variants=variants)


def random_world(
    problem: Problem, seed: int, *, noise: float = 0.2, deaths: float = 0.05, within: float = 1.0
) -> World:
    """What may happen: speeds and links off by log-normal factors, some edges die within these seconds and return.

    Args:
        problem: whose sites they are.
        seed: of everything.
        noise: standard deviation of the logarithm of a site's speed over its measured one, and of its link's rates.
        deaths: share of the edges, at least one of them unless it is 0.
        within: seconds of the first part, about.
    """
    rng = np.random.default_rng(seed)
    names = [site.name for site in problem.sites]
    speed, links = (
        dict(zip(names, np.exp(rng.normal(0, noise, len(names))).tolist(), strict=True)) for _ in ("speed", "links")
    )
    edges = [site.name for site in problem.sites if not site.cloud]
    dead = [name for name in edges if rng.random() < deaths]
    if deaths and edges and not dead:
        dead = [edges[int(rng.integers(len(edges)))]]
    when = rng.uniform(0, within, len(dead))
    back = when + rng.uniform(0.1, 0.5, len(dead)) * within
    return World(
        speed=speed,
        links=links,
        deaths=tuple(sorted((float(t), name) for t, name in zip(when, dead, strict=True))),
        returns=tuple(sorted((float(t), name) for t, name in zip(back, dead, strict=True))),
    )
