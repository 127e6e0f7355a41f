"""The problem of a run: what was measured of sites, links, codecs and variants, as the programme takes it; its file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from data_catalog.errors import CorruptObject
from infra import rendezvous
from infra.codec_trials import ESCALATION_CODEC
from infra.placement import PlaceOrigin, PlacePrices, PlaceSite, PlaceVariant, Problem, Solution
from infra.placement.programme import stated
from infra.profiles import rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from data_catalog.nouns import Cascade, CodecTrial, Dataset, Plan, Profile, Shard, Site, VariantCard

RESULT_BYTES_PER_ROW = 6.0  # of a result in the ledger, and
RESULT_BYTES = 2500.0  # its schema and footer: as measured on the default data


def place_site(site: Site, profile: Profile, variants: Iterable[tuple[VariantCard, Cascade]]) -> PlaceSite:
    """A site as the programme sees it.

    Args:
        site: which one.
        profile: what was measured of it.
        variants: that it may answer with, each measured there, and the cascade that it would run.
    """
    return PlaceSite(
        name=site.name, cloud=site.tier == "cloud", host=profile.host, host_cores=profile.cores,
        threads=min(site.threads, profile.cores), variants=tuple(_place_variant(site, profile, *each) for each in variants),
        dispatch_seconds=profile.dispatch_seconds, latency_seconds=profile.latency_seconds,
        up=profile.up_bytes_per_second, down=profile.down_bytes_per_second,
        disk_bytes=float(profile.disk_free_bytes),
        memory_bytes=float(profile.memory_free_bytes or profile.memory_bytes),  # free, if that is known
        prices=PlacePrices(**site.prices.model_dump()),
    )  # fmt: skip


def _place_variant(site: Site, profile: Profile, card: VariantCard, cascade: Cascade) -> PlaceVariant:
    speed = profile.variants[card.digest]
    return PlaceVariant(
        name=card.digest, seconds_per_row=1 / rate(profile, card.digest), startup_seconds=speed.startup_seconds,
        escalation=cascade.escalation, bytes=card.bytes, memory_bytes=card.bytes,
        accuracy=cascade.validation_accuracy if site.tier == "edge" else cascade.validation_cloud_accuracy,
    )  # fmt: skip


def place_origins(
    dataset: Dataset,
    shards: Sequence[Shard],
    codecs: Mapping[str, str],
    trials: Mapping[str, Sequence[CodecTrial]],
) -> tuple[PlaceOrigin, ...]:
    """The shards that are to be placed, by origin: how many, and the means of their rows and compressed bytes.

    Args:
        dataset: says what may leave an origin.
        shards: without those whose result the ledger holds.
        codecs: by source.
        trials: by source.
    """
    born: dict[str, list[Shard]] = {}
    for shard in shards:
        born.setdefault(shard.origin, []).append(shard)
    return tuple(
        PlaceOrigin(
            site=origin,
            shards=len(mine),
            rows=float(np.mean([shard.rows for shard in mine])),
            bytes=float(np.mean([shard.bytes / ratio(trials[shard.source], codecs[shard.source]) for shard in mine])),
            resident=dataset.residency != "any",
            pack_seconds=float(
                np.mean([pack_seconds(shard, trials[shard.source], codecs[shard.source]) for shard in mine])
            ),
        )
        for origin, mine in sorted(born.items())
    )


def handed_over(sites: Iterable[PlaceSite], origins: Iterable[PlaceOrigin]) -> tuple[PlaceSite, ...]:
    """The sites; an edge that has shards, and so is told in any case what becomes of them, sends nothing before that."""
    born = {origin.site for origin in origins if origin.shards}
    return tuple(
        dataclasses.replace(site, up_busy_seconds=site.dispatch_seconds)
        if site.name in born and not site.cloud
        else site
        for site in sites
    )


def assign_shards(
    shards: Iterable[tuple[str, str]], solution: Solution, before: Mapping[str, str] | None = None
) -> dict[str, str]:
    """By digest: the site that answers a shard, the counts of the solution as quotas (`infra/rendezvous.py`).

    Args:
        shards: digest and origin of each that was placed.
        solution: of the problem with just these.
        before: by digest, where each was, as far as it is known; no more of them move than the counts force.
    """
    born: dict[str, list[str]] = {}
    for digest, origin in shards:
        born.setdefault(origin, []).append(digest)
    quotas: dict[str, dict[str, int]] = {origin: {} for origin in born}
    for (origin, site, _), count in solution.counts.items():
        if origin in quotas:
            quotas[origin][site] = quotas[origin].get(site, 0) + count
    where: dict[str, str] = {}
    for origin, digests in born.items():
        where |= rendezvous.assign(digests, quotas[origin], before=before)
    return where


def record_bytes(shards: Sequence[Shard], trials: Sequence[CodecTrial], codec: str) -> float:
    """Mean bytes of one record, packed with a codec, as escalated rows are."""
    return float(np.mean([shard.raw_bytes / shard.rows for shard in shards])) / ratio(trials, codec)


def ratio(trials: Sequence[CodecTrial], codec: str) -> float:
    """Bytes before over bytes after, as tried; 1 for a codec that was not."""
    return next((trial.ratio for trial in trials if trial.codec == codec), 1.0)


def pack_seconds(shard: Shard, trials: Sequence[CodecTrial], codec: str) -> float:
    """Seconds that a codec takes for a shard on one core where it was tried; 0 for a codec that was not."""
    rates = [trial.compress_bytes_per_second for trial in trials if trial.codec == codec]
    return shard.bytes / rates[0] if rates and rates[0] > 0 else 0.0


def to_json(problem: Problem, solution: Solution) -> bytes:
    """A problem and its solution as JSON that `from_json` reads back to the last bit; what has no end is "inf"."""
    plain = dataclasses.asdict(problem), dataclasses.asdict(solution)
    plain[1]["counts"] = [[*pair, count] for pair, count in solution.counts.items()]
    return json.dumps(_finite({"problem": plain[0], "solution": plain[1]}), indent=1, allow_nan=False).encode()


def from_json(data: bytes, name: str = "problem.json") -> tuple[Problem, Solution]:
    """What `to_json` wrote.

    Raises:
        CorruptObject: it is something else.
    """
    try:
        found = json.loads(data)
        counts = {(o, i, v): int(n) for o, i, v, n in found["solution"].pop("counts")}
        solution = TypeAdapter(Solution).validate_python(found["solution"] | {"counts": counts})
        return TypeAdapter(Problem).validate_python(found["problem"]), solution
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObject(f"{name} is no problem of the planner; plan again") from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def as_placed(plan: Plan, problem: Problem, bound: float) -> tuple[Problem, Solution]:
    """What a plan has its sites compute, and what that takes by what was measured before the run.

    Args:
        plan: of the run, as it is now.
        problem: that it is of, with all its sites.
        bound: below which no placement can be; 0: not known.

    Returns:
        The problem, its shards those that are not reused, and the placements of the plan as a solution of it.
    """
    placed = [p for p in plan.placements if not p.reused]
    born = Counter(p.shard.origin for p in placed)
    origins = tuple(dataclasses.replace(o, shards=born[o.site]) for o in problem.origins if born[o.site])
    problem = dataclasses.replace(problem, origins=origins, sites=handed_over(problem.sites, origins))
    return problem, stated(problem, Counter((p.shard.origin, p.site, p.variant) for p in placed), bound)


def problem_of(
    plan: Plan,
    dataset: Dataset,
    sites: Sequence[Site],
    profiles: Sequence[Profile],
    trials: Mapping[str, Sequence[CodecTrial]],
) -> Problem:
    """What a plan solved, with the one variant of each site that it chose, and shards whose result is known as well.

    Args:
        plan: of the run.
        dataset: that it answers.
        sites: of the run.
        profiles: what was measured of each, in the sites' order.
        trials: of codecs, by source.
    """
    codecs = {p.shard.source: p.codec for p in plan.placements}
    at_home = {site.name for site in sites if site.shards_on_premises and site.dispatch == "mailbox"}
    kept = {p.shard.origin: float(p.shard.bytes) for p in plan.placements if p.shard.origin in at_home}
    return Problem(
        sites=tuple(
            place_site(site, profile, [(card := plan.cards[site.name], plan.cascades.get(card.digest, plan.cascade))])
            for site, profile in zip(sites, profiles, strict=True)
        ),
        origins=tuple(
            dataclasses.replace(origin, kept_bytes=kept.get(origin.site, 0.0))
            for origin in place_origins(dataset, [p.shard for p in plan.placements], codecs, trials)
        ),
        record_bytes=record_bytes([p.shard for p in plan.placements], next(iter(trials.values())), ESCALATION_CODEC),
        result_bytes=RESULT_BYTES,
        result_row_bytes=RESULT_BYTES_PER_ROW,
        objective=plan.objective,
        caps=dict(plan.caps),
        accuracy=plan.accuracy_floor,
    )
