"""Random problems and what may happen in them: the same for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from infra.placement import PlaceOrigin, PlaceSite, PlaceVariant, Problem


@dataclass(frozen=True, slots=True)
class World:
    """What really happens, as the plan does not know it."""

    speed: dict[str, float] = field(default_factory=dict)  # by site: times the measured speed; 1 unless named
    deaths: tuple[tuple[float, str], ...] = ()  # seconds, site
    returns: tuple[tuple[float, str], ...] = ()  # seconds, site: one that died, or one that joins then


CALM = World()  # as the plan knows it


def as_it_is(problem: Problem, world: World) -> Problem:
    """The problem with the speeds that the sites really have: its bound is one for all that can be done in that world."""
    return replace(
        problem,
        sites=tuple(
            replace(
                site,
                variants=tuple(
                    replace(v, seconds_per_row=v.seconds_per_row / world.speed.get(site.name, 1.0))
                    for v in site.variants
                ),
            )
            for site in problem.sites
        ),
    )


def random_problem(
    sites: int, shards: int, seed: int, *, resident: float = 0.2, escalation: float = 0.05, spread: float = 30.0
) -> Problem:
    """A problem of that size: speeds, links and shards of very different sites, one cloud for a hundred edges.

    Args:
        sites: how many.
        shards: of all origins together, about.
        seed: of everything.
        resident: share of the edges whose shards may not leave.
        escalation: share of rows that the edges send on.
        spread: the fastest edge's speed over the slowest's.
    """
    rng = np.random.default_rng(seed)
    clouds = max(1, sites // 100)
    edges = sites - clouds
    speed = np.exp(rng.uniform(0, math.log(spread), sites)) * np.where(np.arange(sites) < clouds, 20.0, 1.0)
    up = 10 ** rng.uniform(5.5, 8, sites) * np.where(np.arange(sites) < clouds, 100.0, 1.0)
    startup = rng.uniform(0.1, 2, sites)
    weight = rng.lognormal(0, 0.7, max(edges, 1))
    born = np.maximum(1, rng.multinomial(shards, weight / weight.sum()))
    stays = rng.random(max(edges, 1)) < resident
    made = tuple(
        PlaceSite(
            name=f"{'cloud' if i < clouds else 'edge'}-{i}", cloud=i < clouds, host=f"host-{i}", host_cores=4, threads=1,
            variants=(PlaceVariant(
                name="v", seconds_per_row=1e-3 / float(speed[i]), startup_seconds=float(startup[i]),
                escalation=0.0 if i < clouds else escalation,
            ),),
            dispatch_seconds=0.1, latency_seconds=0.005, up=float(up[i]), down=3 * float(up[i]),
        )
        for i in range(sites)
    )  # fmt: skip
    origins = tuple(
        PlaceOrigin(site=made[clouds + k].name, shards=int(born[k]), rows=200.0, bytes=5e4, resident=bool(stays[k]))
        for k in range(edges)
    )
    return Problem(sites=made, origins=origins, record_bytes=250.0)


def random_world(
    problem: Problem, seed: int, *, noise: float = 0.2, deaths: float = 0.05, within: float = 1.0
) -> World:
    """What may happen: speeds off by a log-normal factor, some edges die within these seconds and return.

    Args:
        problem: whose sites they are.
        seed: of everything.
        noise: standard deviation of the logarithm of a site's speed over its measured one.
        deaths: share of the edges.
        within: seconds of the first part, about.
    """
    rng = np.random.default_rng(seed)
    speed = {
        site.name: float(factor)
        for site, factor in zip(problem.sites, np.exp(rng.normal(0, noise, len(problem.sites))), strict=True)
    }
    edges = [site.name for site in problem.sites if not site.cloud]
    dead = [name for name in edges if rng.random() < deaths]
    when = rng.uniform(0, within, len(dead))
    back = when + rng.uniform(0.1, 0.5, len(dead)) * within
    return World(
        speed=speed,
        deaths=tuple(sorted((float(t), name) for t, name in zip(when, dead, strict=True))),
        returns=tuple(sorted((float(t), name) for t, name in zip(back, dead, strict=True))),
    )
