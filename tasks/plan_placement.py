"""Plan: threshold from the validation answers, placement by the programme, codec by link."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import UnknownName
from data_catalog.nouns import (
    Cascade,
    CodecTrial,
    Dataset,
    EscalationBudget,
    Placement,
    Plan,
    Profile,
    Shard,
    Site,
    Tier,
    VariantCard,
)
from data_catalog.planning import Demands
from infra import cascade, coordination, keys, model_registry, prediction, sources, storage, whereabouts
from infra.codec_trials import ESCALATION_CODEC, choose_codec
from infra.ledger import Index
from infra.placement import Problem, _naive, unescalated
from infra.problem import (
    RESULT_BYTES,
    RESULT_BYTES_PER_ROW,
    assign_shards,
    handed_over,
    place_origins,
    place_site,
    record_bytes,
    to_json,
)
from infra.progress import publish
from infra.security import policy
from infra.solving import solve, variants_of


def plan_placement(
    run_id: str,
    dataset: Dataset,
    cards: Mapping[Tier, VariantCard],
    chosen: Mapping[str, VariantCard],
    sites: Sequence[Site],
    profiles: Sequence[Profile],
    indexes: Sequence[Index],
    bound: float,
    bucket: str,
    confidence: float = 0.95,
    budget: EscalationBudget | None = None,
    fallbacks: Mapping[str, str] | None = None,
    demands: Demands | None = None,
    options: Mapping[str, tuple[VariantCard, ...]] | None = None,
    *,
    afresh: bool = False,
    rule: str = "programme",
    silent: Mapping[str, str] | None = None,
) -> Plan:
    """Make the plan of a run and store it, with the problem that it solves.

    Args:
        run_id: of this run.
        dataset: what is answered.
        cards: the tiers' own variants.
        chosen: by site, the variant that the rule of `infra/choice.py` takes.
        sites: who may answer.
        profiles: what was measured of each, in the sites' order.
        indexes: the shards of each source.
        bound: how far below cloud-only the accuracy may lie, 1 = 100 %.
        bucket: of the store.
        confidence: with which the bound is to hold; 0: chosen with a margin, nothing is promised.
        budget: of the escalations; None: no limit.
        fallbacks: by site: why it answers with an earlier variant than it was told to.
        demands: the objective, caps and a floor; None: the makespan.
        options: by site, the variants that the programme may choose among, all measured there; none: `chosen`.
        afresh: plan as if the ledger held nothing.
        rule: of placement, or one of those that are there to compare with.
        silent: sites that give no answer now, and why. They keep what was born there, and get nothing else, unless
            all are silent.

    Raises:
        BadInput: there are too few validation rows for the bound.
        PlanError: no placement satisfies the constraints.
        UnknownName: shards are born at a site that is not among the sites.
        AccessDenied: the policy does not let this user answer the dataset at those sites.
        Conflict: another coordinator has taken over.
    """
    access = policy.authorise("run", dataset, sites)
    store = storage.open_store(bucket)
    known = {site.name: (site, profile) for site, profile in zip(sites, profiles, strict=True)}
    away = set(silent or ()) if set(silent or ()) < set(known) else set()
    for source in dataset.sources:
        if source.site not in known:
            raise UnknownName.among("site of this run", source.site, known, f"dataset {dataset.name}, key `sources`")
    preprocessing = sources.preprocessing_digest(dataset)
    shards = [shard for index in indexes for shard in index.shards]
    resident = dataset.residency != "any"
    able = {name: (options or {}).get(name) or (chosen[name],) for name in known}
    if not afresh:
        able = _without_those_that_answered_nothing(store, shards, able, preprocessing, resident=resident)
    chosen = {name: mine[0] for name, mine in able.items()}
    judge = _variant_of("cloud", cards["cloud"], chosen, sites)
    edges = {card.digest: card for mine in able.values() for card in mine if card.tier == "edge"}
    cascades = _cascades(store, dataset, edges or {"": cards["edge"]}, judge, bound, confidence)
    trials = {index.shards[0].source: index.trials for index in indexes}
    homes = {source: known[_origin(shards, source)] for source in trials}
    codecs = {source: choose_codec(trials[source], home, home) for source, home in homes.items()}
    demands = demands or Demands()
    done = {} if afresh else _results_there(store, shards, chosen, preprocessing, resident=resident)
    open_shards = [shard for shard in shards if shard.digest not in done]
    loose = [shard for shard in open_shards if shard.origin not in away]
    before = {} if resident else whereabouts.recall(store, dataset.name)
    places = [
        place_site(
            site, profile, [(card, cascades.get(card.digest, next(iter(cascades.values())))) for card in able[name]]
        )
        for name, (site, profile) in known.items()
        if name not in away
    ]
    if away and not any(place.cloud for place in places):  # rows that are unsure wait until one speaks
        places = [unescalated(place) for place in places]
    origins = place_origins(dataset, loose, codecs, trials)
    problem = Problem(
        sites=handed_over(places, origins),
        origins=origins,
        record_bytes=record_bytes(shards, next(iter(trials.values())), ESCALATION_CODEC),
        result_bytes=RESULT_BYTES,
        result_row_bytes=RESULT_BYTES_PER_ROW,
        objective=demands.objective,
        caps=demands.caps,
        accuracy=demands.accuracy,
    )
    had = Counter((shard.origin, before[shard.digest]) for shard in loose if shard.digest in before)
    solution = _naive.place(problem, rule) if rule in _naive.NAIVE else solve(problem, rule, had)
    for name, digest in variants_of(solution).items():
        chosen[name] = next(card for card in able[name] if card.digest == digest)
    variants = {tier: _variant_of(tier, card, chosen, sites) for tier, card in cards.items()}
    used = {card.digest for card in (variants["edge"], *chosen.values())}
    cascades = {digest: each for digest, each in cascades.items() if digest in used}
    standard = cascades[variants["edge"].digest]
    where = assign_shards([(shard.digest, shard.origin) for shard in loose], solution, before)
    where |= {shard.digest: shard.origin for shard in open_shards if shard.origin in away}
    stored = _codecs_there(store, dataset)
    placements = tuple(
        _placement(
            dataset,
            shard,
            where.get(shard.digest),
            known,
            chosen,
            trials[shard.source],
            stored.get(shard.digest, ()),
            done.get(shard.digest),
            preprocessing,
        )
        for shard in shards
    )
    plan = Plan(
        run_id=run_id,
        dataset=dataset.name,
        model=variants["edge"].model,
        version=cards["edge"].version,
        preprocessing=preprocessing,
        created=time.time(),
        cascade=standard,
        variants=variants,
        cards=dict(chosen),
        cascades=cascades,
        batch_sizes={site.name: profile.variants[chosen[site.name].digest].batch for site, profile in known.values()},
        placements=placements,
        fingerprints={index.shards[0].source: index.fingerprint for index in indexes},
        predicted_seconds=solution.seconds
        if loose
        else prediction.seconds_to_reuse(known.values(), standard.escalation),
        predicted_site_seconds=prediction.site_seconds(solution, known.values()),
        predicted_wan_bytes=prediction.wan_bytes(placements, known, trials, cascades, problem.record_bytes),
        reasons=solution.reasons
        | _reasons_to_rest(placements)
        | {name: f"keeps what it has: {why}" for name, why in (silent or {}).items()},
        fallbacks=dict(fallbacks or {}),
        lossy_error=max(index.lossy_error for index in indexes),
        budget=budget,
        objective=demands.objective,
        caps=demands.caps,
        accuracy_floor=demands.accuracy,
        totals={"makespan": solution.seconds, "bytes": solution.bytes, "money": solution.money},
        lower_bound=solution.lower_bound,
        gap=solution.gap if math.isfinite(solution.gap) else None,
        balance=solution.balance,
        access=access,
        record_bytes=problem.record_bytes,
    )
    coordination.put(store, run_id, keys.problem(run_id), to_json(problem, solution))
    coordination.put(store, run_id, keys.run(run_id, "plan.json"), plan.model_dump_json(indent=1).encode())
    if open_shards:
        store.put(keys.latest_run(), run_id.encode())
    publish("plan", "coordinator", 1, 1, "plans")
    return plan


def read_threshold(
    store: storage.Store, cards: Mapping[Tier, VariantCard], bound: float, level: float = 0.95
) -> Cascade:
    """The cascade's threshold for the bound, from both variants' answers to the validation rows."""
    edge = cards["edge"]
    table = model_registry.read_answers(store, edge, cards["cloud"], "validation")
    label, by_edge, by_cloud = (table[name].to_numpy() for name in ("label", "edge", "cloud"))
    sure = table["edge_confidence"].to_numpy()
    return cascade.choose_threshold(sure, by_edge == label, by_cloud == label, bound, edge.temperature, level)


def _variant_of(tier: Tier, own: VariantCard, chosen: Mapping[str, VariantCard], sites: Sequence[Site]) -> VariantCard:
    """What stands for a tier: at the edge its own variant, if a site uses it; in the cloud that of who answers escalations."""
    used = [chosen[site.name] for site in sites if site.tier == tier]
    if tier == "edge" and any(card.digest == own.digest for card in used):
        return own
    return used[0] if used else own


def _cascades(
    store: storage.Store,
    dataset: Dataset,
    edges: Mapping[str, VariantCard],
    judge: VariantCard,
    bound: float,
    confidence: float,
) -> dict[str, Cascade]:
    """By the digest of each edge variant: its threshold, against what answers escalated rows.

    Where no row may leave its site nothing escalates, and nothing can be promised.
    """
    level = 0.0 if dataset.residency == "site" else confidence
    found = {
        card.digest: read_threshold(store, {"edge": card, "cloud": judge}, bound, level) for card in edges.values()
    }
    if dataset.residency == "site":
        return {digest: cascade.keep_all(threshold) for digest, threshold in found.items()}
    return found


def _codecs_there(store: storage.Store, dataset: Dataset) -> dict[str, set[str]]:
    """By a shard's digest: the codecs under which the store has it, encrypted where the dataset is restricted."""
    found: dict[str, set[str]] = {}
    for key in store.keys(keys.shards(dataset.name)):
        if keys.is_encrypted(key) == (dataset.sensitivity == "restricted"):
            digest, codec = keys.shard_of(key)
            found.setdefault(digest, set()).add(codec)
    return found


def _reasons_to_rest(placements: Sequence[Placement]) -> dict[str, str]:
    """By site: why it has nothing to compute, where the ledger holds all that it would answer."""
    working = {p.site for p in placements if not p.reused}
    counts = Counter(p.site for p in placements if p.site not in working)
    return {name: f"the ledger holds the results of its {count} shards" for name, count in counts.items()}


def _origin(shards: Sequence[Shard], source: str) -> str:
    return next(shard.origin for shard in shards if shard.source == source)


def _without_those_that_answered_nothing(
    store: storage.Store,
    shards: Sequence[Shard],
    able: Mapping[str, tuple[VariantCard, ...]],
    preprocessing: str,
    *,
    resident: bool,
) -> dict[str, tuple[VariantCard, ...]]:
    """What the programme may choose at each site: where the ledger holds answers of a variant, that which gave the most.

    Another variant would answer all those shards anew.
    """
    names = {
        (shard.digest, card.digest): keys.result(keys.result_name(shard.digest, card.answering, preprocessing))
        for site, mine in able.items()
        if len(mine) > 1
        for shard in shards
        if not resident or shard.origin == site
        for card in mine
    }
    there = store.present(list(set(names.values()))) if names else set()

    kept = {}
    for site, mine in able.items():
        asked = [shard.digest for shard in shards if not resident or shard.origin == site]
        counts = [sum(names.get((digest, card.digest)) in there for digest in asked) for card in mine]
        kept[site] = (mine[counts.index(max(counts))],) if max(counts) else mine
    return kept


def _results_there(
    store: storage.Store,
    shards: Sequence[Shard],
    chosen: Mapping[str, VariantCard],
    preprocessing: str,
    *,
    resident: bool,
) -> dict[str, VariantCard]:
    """Shards whose answer by a variant of this run the ledger holds, and by which: its origin's, an edge's, a cloud's.

    Another edge's variant counts only where shards may leave their origin: to escalate other rows of it, it is read.
    """
    used = {card.digest: card for card in sorted(chosen.values(), key=lambda card: card.tier)}  # cloud, then edge
    names: dict[str, tuple[str, VariantCard]] = {}
    for shard in shards:
        own = chosen[shard.origin]
        others = (c for c in used.values() if c.digest != own.digest and not (resident and c.tier == "edge"))
        for card in (*others, own):  # the last one stays
            names[keys.result(keys.result_name(shard.digest, card.answering, preprocessing))] = (shard.digest, card)
    there = store.present(list(names))
    return dict(names[key] for key in names if key in there)


def _placement(
    dataset: Dataset,
    shard: Shard,
    site: str | None,
    known: Mapping[str, tuple[Site, Profile]],
    chosen: Mapping[str, VariantCard],
    trials: Sequence[CodecTrial],
    stored: Collection[str],
    done: VariantCard | None,
    preprocessing: str,
) -> Placement:
    """Where a shard goes; one whose result is there stays with a site of the variant that answered it."""
    if done:
        at_home = chosen[shard.origin].digest == done.digest
        site = shard.origin if at_home else next(name for name in known if chosen[name].digest == done.digest)
    assert site is not None
    card = chosen[site]
    origin = known[shard.origin][0]
    stays = site == shard.origin and origin.shards_on_premises and origin.dispatch == "mailbox"
    codec = choose_codec(trials, known[shard.origin], known[site], stored, kept=done is not None, crosses=not stays)
    return Placement(
        shard=shard,
        site=site,
        variant=card.digest,
        codec=codec,
        key=keys.shard(dataset.name, shard.digest, codec, dataset.sensitivity == "restricted"),
        result=keys.result_name(shard.digest, card.answering, preprocessing),
        reused=done is not None,
        reason="the ledger holds its result"
        if done
        else "stays at its origin"
        if site == shard.origin
        else f"moved to {site}",
    )


plan_placement_task = task(name="plan", task_run_name="plan {run_id}", cache_policy=NO_CACHE)(plan_placement)
