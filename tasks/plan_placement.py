"""Plan: threshold from the validation answers, placement by the programme, codec by link; write the orders."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import UnknownName
from data_catalog.nouns import (
    Cascade,
    CodecTrial,
    Dataset,
    EscalationBudget,
    EscalationOrder,
    OrderedShard,
    Placement,
    Plan,
    Profile,
    Shard,
    Site,
    Tier,
    VariantCard,
    WorkOrder,
)
from infra import cascade, codec_trials, keys, model_registry, ration, rendezvous, sources, storage
from infra.ledger import Index
from infra.placement import RULES, PlaceOrigin, PlacePrices, PlaceSite, PlaceVariant, Problem, Solution
from infra.progress import publish

ESCALATION_CODEC = "zstd"  # the rows of an escalation are few; any fast codec that never fails will do
ABOUT = 1.25  # times the time of the best codec is not worth compressing a shard again
RESULT_BYTES_PER_ROW = 6.0  # of a result in the ledger, and
RESULT_BYTES = 2500.0  # its schema and footer: as measured on the default data


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
) -> Plan:
    """Make the plan of a run and store it with the edges' and the cloud's first work orders.

    Args:
        run_id: of this run.
        dataset: what is answered.
        cards: the tiers' own variants.
        chosen: by site, the variant that it answers with.
        sites: who may answer.
        profiles: what was measured of each, in the sites' order.
        indexes: the shards of each source.
        bound: how far below cloud-only the accuracy may lie, 1 = 100 %.
        bucket: of the store.
        confidence: with which the bound is to hold; 0: chosen with a margin, nothing is promised.
        budget: of the escalations; None: no limit.
        fallbacks: by site: why it answers with an earlier variant than it was told to.

    Raises:
        BadInput: there are too few validation rows for the bound.
        PlanError: no placement satisfies the constraints.
        UnknownName: shards are born at a site that is not among the sites.
    """
    store = storage.open_store(bucket)
    known = {site.name: (site, profile) for site, profile in zip(sites, profiles, strict=True)}
    for source in dataset.sources:
        if source.site not in known:
            raise UnknownName.among("site of this run", source.site, known, f"dataset {dataset.name}, key `sources`")
    preprocessing = sources.preprocessing_digest(dataset)
    variants = {tier: _variant_of(tier, card, chosen, sites) for tier, card in cards.items()}
    cascades = _cascades(store, dataset, variants, chosen, bound, confidence)
    standard = cascades[variants["edge"].digest]
    shards = [shard for index in indexes for shard in index.shards]
    trials = {index.shards[0].source: index.trials for index in indexes}
    homes = {source: known[_origin(shards, source)] for source in trials}
    codecs = {source: choose_codec(trials[source], home, home) for source, home in homes.items()}
    done = _results_there(store, shards, chosen, preprocessing, resident=dataset.residency != "any")
    open_shards = [shard for shard in shards if shard.digest not in done]
    problem = Problem(
        sites=tuple(
            _place_site(site, profile, chosen[site.name], cascades.get(chosen[site.name].digest, standard))
            for site, profile in known.values()
        ),
        origins=tuple(_place_origin(dataset, origin, open_shards, codecs, trials) for origin in sorted({s.origin for s in open_shards})),
        record_bytes=float(np.mean([s.raw_bytes / s.rows for s in shards])) / _ratio(next(iter(trials.values())), ESCALATION_CODEC),
    )  # fmt: skip
    solution = RULES.get("programme").place(problem)
    where: dict[str, str] = {}
    for origin in {shard.origin for shard in open_shards}:
        quotas = {i: n for (o, i, _), n in solution.counts.items() if o == origin}
        where |= rendezvous.assign([s.digest for s in open_shards if s.origin == origin], quotas)
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
        predicted_seconds=solution.seconds if open_shards else _seconds_to_reuse(known.values(), standard.escalation),
        predicted_site_seconds=_site_seconds(solution, known.values()),
        predicted_wan_bytes=_predict_wan_bytes(placements, known, trials, cascades, problem.record_bytes),
        reasons=solution.reasons | _reasons_to_rest(placements),
        fallbacks=dict(fallbacks or {}),
        lossy_error=max(index.lossy_error for index in indexes),
        budget=budget,
    )
    store.put(keys.run(run_id, "plan.json"), plan.model_dump_json(indent=1).encode())
    clouds = [site.name for site in sites if site.tier == "cloud"]
    shares = _shares(budget, plan, known)
    for site, _ in known.values():
        order = work_order(plan, site, clouds[:1] if dataset.sensitivity == "restricted" else None)
        if order.escalation and site.name in shares:
            rows, size = shares[site.name]
            rationed = order.escalation.model_copy(update={"most_rows": rows, "most_bytes": size})
            order = order.model_copy(update={"escalation": rationed})
        if order.shards:
            store.put(keys.run(run_id, "orders", f"{order.order_id}.json"), order.model_dump_json(indent=1).encode())
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
    variants: Mapping[Tier, VariantCard],
    chosen: Mapping[str, VariantCard],
    bound: float,
    confidence: float,
) -> dict[str, Cascade]:
    """By the digest of each edge variant in use: its threshold.

    Where no row may leave its site nothing escalates, and nothing can be promised.
    """
    level = 0.0 if dataset.residency == "site" else confidence
    edges = {card.digest: card for card in (variants["edge"], *chosen.values()) if card.tier == "edge"}
    found = {
        digest: read_threshold(store, {"edge": card, "cloud": variants["cloud"]}, bound, level)
        for digest, card in edges.items()
    }
    if dataset.residency == "site":
        return {digest: cascade.keep_all(threshold) for digest, threshold in found.items()}
    return found


def choose_codec(
    trials: Sequence[CodecTrial],
    origin: tuple[Site, Profile],
    reader: tuple[Site, Profile],
    stored: Collection[str] = (),
    *,
    kept: bool = False,
) -> str:
    """The codec whose slowest step of compress, transfer and decompress, which overlap, is the fastest.

    Args:
        trials: of the shard's source.
        origin: who compresses and sends.
        reader: who fetches and decompresses; a site that answers its own shards fetches from the store too.
        stored: codecs under which the store has the shard; one of those that is about as fast is taken.
        kept: take one of those in any case: nobody will read the shard, unless to escalate other rows.
    """
    link = min(origin[1].up_bytes_per_second, reader[1].down_bytes_per_second)
    cores = [min(site.threads, profile.cores) for site, profile in (origin, reader)]
    seconds = {trial.codec: codec_trials.seconds_a_byte(trial, link, *cores) for trial in trials}
    best = codec_trials.choose(trials, link, *cores).codec
    near = [codec for codec in stored if codec in seconds and (kept or seconds[codec] <= ABOUT * seconds[best])]
    return min(near, key=lambda codec: seconds[codec], default=best)


def _codecs_there(store: storage.Store, dataset: Dataset) -> dict[str, set[str]]:
    """By a shard's digest: the codecs under which the store has it, encrypted where the dataset is restricted."""
    found: dict[str, set[str]] = {}
    for key in store.keys(keys.shards(dataset.name)):
        if keys.is_encrypted(key) == (dataset.sensitivity == "restricted"):
            digest, codec = keys.shard_of(key)
            found.setdefault(digest, set()).add(codec)
    return found


def work_order(plan: Plan, site: Site, recipients: Sequence[str] | None) -> WorkOrder:
    """What one site is to do first: all shards that the plan gave it.

    Args:
        plan: of the run.
        site: which one.
        recipients: who has to read its escalated rows, if they are to be encrypted.
    """
    encrypted = recipients is not None
    card = plan.cards[site.name]
    threshold = plan.cascades[card.digest] if site.tier == "edge" else plan.cascade
    escalation = EscalationOrder(
        threshold=threshold.threshold,
        temperature=threshold.temperature,
        codec=ESCALATION_CODEC,
        cloud_variant=plan.variants["cloud"].answering,
        preprocessing=plan.preprocessing,
        shard_set=f"escalations of {plan.dataset} at {site.name} in run {plan.run_id}" if encrypted else "",
        recipients=tuple(recipients or ()),
    )
    return WorkOrder(
        run_id=plan.run_id,
        order_id=site.name,
        site=site.name,
        tier=site.tier,
        card=card,
        batch=plan.batch_sizes[site.name],
        threads=site.threads,
        shards=tuple(
            OrderedShard(
                key=p.key, digest=p.shard.digest, rows=p.shard.rows, bytes=p.shard.bytes, codec=p.codec,
                result=p.result, local=p.shard.origin == site.name and site.shards_on_premises,
            )
            for p in plan.placements if p.site == site.name
        ),
        escalation=escalation if site.tier == "edge" else None,
        fallback=plan.fallbacks.get(site.name, ""),
    )  # fmt: skip


def _shares(
    budget: EscalationBudget | None, plan: Plan, known: Mapping[str, tuple[Site, Profile]]
) -> dict[str, tuple[int | None, int | None]]:
    """By edge: the rows and bytes that it may escalate, in proportion to the rows that it answers."""
    edges = [name for name, (site, _) in known.items() if site.tier == "edge"]
    if budget is None:
        return {}
    parts = [float(sum(p.shard.rows for p in plan.placements if p.site == name)) for name in edges]
    return dict(zip(edges, ration.share(budget, parts, [known[n][1].up_bytes_per_second for n in edges]), strict=True))


def _reasons_to_rest(placements: Sequence[Placement]) -> dict[str, str]:
    """By site: why it has nothing to compute, where the ledger holds all that it would answer."""
    working = {p.site for p in placements if not p.reused}
    counts = Counter(p.site for p in placements if p.site not in working)
    return {name: f"the ledger holds the results of its {count} shards" for name, count in counts.items()}


def _seconds_to_reuse(known: Iterable[tuple[Site, Profile]], escalation: float) -> float:
    """What remains when the ledger holds everything: handing over the orders, then the escalations' order."""
    first = max(profile.dispatch_seconds for _, profile in known)
    again = max((profile.dispatch_seconds for site, profile in known if site.tier == "cloud"), default=0.0)
    return first + (again if escalation else 0.0)


def _site_seconds(solution: Solution, known: Iterable[tuple[Site, Profile]]) -> dict[str, float]:
    """What each site itself should take, as its receipts will say: without the dispatch, with the escalations."""
    again = max(0.0, solution.seconds - max(solution.site_seconds.values(), default=0.0))
    cloud = next((site.name for site, _ in known if site.tier == "cloud"), "")
    seconds = {}
    for site, profile in known:
        own = solution.site_seconds.get(site.name)
        parts = [part - profile.dispatch_seconds for part in (own, again if site.name == cloud else None) if part]
        seconds[site.name] = max(0.0, sum(parts))
    return seconds


def _origin(shards: Sequence[Shard], source: str) -> str:
    return next(shard.origin for shard in shards if shard.source == source)


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


def _place_site(site: Site, profile: Profile, card: VariantCard, threshold: Cascade) -> PlaceSite:
    speed = profile.variants[card.digest]
    variant = PlaceVariant(
        name=card.digest, seconds_per_row=1 / speed.rows_per_second, startup_seconds=speed.startup_seconds,
        escalation=threshold.escalation, bytes=card.bytes,
        accuracy=threshold.validation_accuracy if site.tier == "edge" else threshold.validation_cloud_accuracy,
    )  # fmt: skip
    return PlaceSite(
        name=site.name, cloud=site.tier == "cloud", host=profile.host, host_cores=profile.cores,
        threads=min(site.threads, profile.cores), variants=(variant,),
        dispatch_seconds=profile.dispatch_seconds, latency_seconds=profile.latency_seconds, up=profile.up_bytes_per_second, down=profile.down_bytes_per_second,
        prices=PlacePrices(**site.prices.model_dump()),
    )  # fmt: skip


def _place_origin(
    dataset: Dataset,
    origin: str,
    shards: Sequence[Shard],
    codecs: Mapping[str, str],
    trials: Mapping[str, Sequence[CodecTrial]],
) -> PlaceOrigin:
    mine = [shard for shard in shards if shard.origin == origin]
    return PlaceOrigin(
        site=origin,
        shards=len(mine),
        rows=float(np.mean([shard.rows for shard in mine])),
        bytes=float(np.mean([shard.bytes / _ratio(trials[shard.source], codecs[shard.source]) for shard in mine])),
        resident=dataset.residency != "any",
    )


def _ratio(trials: Sequence[CodecTrial], codec: str) -> float:
    return next((trial.ratio for trial in trials if trial.codec == codec), 1.0)


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
    codec = choose_codec(trials, known[shard.origin], known[site], stored, kept=done is not None)
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


def _predict_wan_bytes(
    placements: Sequence[Placement],
    known: Mapping[str, tuple[Site, Profile]],
    trials: Mapping[str, Sequence[CodecTrial]],
    cascades: Mapping[str, Cascade],
    record_bytes: float,
) -> int:
    """Bytes over the edge sites' links, both ways: moved shards, escalated rows and results.

    The models are there already: measuring the site brought them.
    """
    total = 0.0
    for p in placements:
        result = RESULT_BYTES + RESULT_BYTES_PER_ROW * p.shard.rows if known[p.site][0].tier == "edge" else 0
        total += result  # written once; read again by a run that finds it there
        if p.reused:
            continue
        (origin, _), (site, _) = known[p.shard.origin], known[p.site]
        packed = p.shard.bytes / _ratio(trials[p.shard.source], p.codec)
        left = origin.tier == "edge" and (site is not origin or not origin.shards_on_premises)
        total += packed if left else 0
        if site.tier == "edge":
            total += cascades[p.variant].escalation * p.shard.rows * record_bytes
            total += packed if site is not origin or not site.shards_on_premises else 0
    return int(total)


plan_placement_task = task(name="plan", task_run_name="plan {run_id}", cache_policy=NO_CACHE)(plan_placement)
