"""Which variant of a model a site answers with: of those that its runtime can load, by rule and by measurement.

Pure functions. The rule: what the site's group was told to use; else the tier's own variant where the site runs the
runtime that it was made for; else the fastest, as measured there. A variant that is the same net in another file, such as the cloud's as a `.tflite`,
competes with the tier's own by speed. A site changes from the variant that it used last only for one that is faster by
`MARGIN`: another variant's answers have other names, and all shards would be answered anew. Beside that, an edge that
nobody told what to use measures a few others that were published, and the planner chooses among them (`options`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from data_catalog.errors import PlanError
from infra.profiles import rate
from infra.runtimes import RUNTIMES, format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from data_catalog.nouns import Profile, Site, Tier, VariantCard, VariantSpeed

MOST_OTHERS = 3  # variants beside its own that an edge measures, for the planner to choose among
MARGIN = 1.25  # speeds of one variant, measured twice on a busy machine, differ by less as a rule


def why_not(card: VariantCard, runtime: str, version: str) -> str:
    """Why a runtime cannot run a variant, as far as its card says; empty where nothing speaks against it.

    Args:
        card: of the variant.
        runtime: its name.
        version: of the runtime.
    """
    if format_of(runtime) != format_of(card.runtime):
        return f"it is a model for {card.runtime}"
    if reason := card.refused_by.get(runtime):
        return reason
    release = getattr(RUNTIMES.get(runtime), "RELEASE", "")
    lowest = card.lowest_runtime
    if release and lowest and runtime not in card.runs_on and _numbers(lowest) > _numbers(version):
        return f"it needs {lowest}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def candidates(
    site: Site,
    told: VariantCard,
    base: Mapping[Tier, VariantCard],
    published: Iterable[VariantCard],
    version_of: Callable[[str], str],
    *,
    pinned: bool = False,
) -> tuple[VariantCard, ...]:
    """The variants that a site may answer with, each with the runtime that would execute it there; best known first.

    Args:
        site: which one.
        told: what its group was told to use, or the tier's own.
        base: the tiers' own variants.
        published: all variants of the version.
        version_of: a runtime's version, by its name.
        pinned: whether its group was told; then the planner has no choice.

    Raises:
        PlanError: its runtime can load none; names site, runtime and what would run there.
    """
    own = base[site.tier]
    if told.digest != own.digest:
        offered = [told]
    else:
        twins = [card for card in published if card.same_net_as == own.digest]
        others = [card for card in published if card.tier == site.tier and card.digest != own.digest]
        foreign = site.runtime and site.runtime != own.runtime
        if not foreign:
            others = [] if pinned else worthwhile(own, others)
        offered = list({card.digest: card for card in (own, *twins, *others)}.values())
    reasons = {}
    found = []
    for card in offered:
        runtime = site.runtime or card.runtime
        if reason := why_not(card, runtime, version_of(runtime)):
            reasons[named(card)] = reason
        else:
            found.append(card.model_copy(update={"runtime": runtime, "runtime_version": version_of(runtime)}))
    if not found:
        raise nothing_runs(site, own, version_of(site.runtime or own.runtime), reasons)
    return tuple(found)


def worthwhile(own: VariantCard, others: Iterable[VariantCard]) -> list[VariantCard]:
    """Variants beside an edge's own that the planner may choose: more accurate, smaller or faster by their cards.

    There is a bound on how many a site has to measure: those that are the fastest by their cards. A cloud has none: what
    it answers is what the edges are measured by.
    """
    better = [
        card
        for card in others
        if card.tier == "edge" and not card.same_net_as
        and (
            card.accuracy > own.accuracy
            or (card.stored_bytes or card.bytes) < (own.stored_bytes or own.bytes)
            or (card.rows_per_second or 0.0) > (own.rows_per_second or 0.0)
        )
    ]  # fmt: skip
    return sorted(better, key=lambda card: (-(card.rows_per_second or 0.0), card.name))[:MOST_OTHERS]


def choose(site: Site, offered: tuple[VariantCard, ...], profile: Profile, own: VariantCard) -> VariantCard:
    """The variant that a site answers with.

    Args:
        site: which one.
        offered: `candidates` of it.
        profile: what was measured there; has each of them, as measured or as refused.
        own: the tier's own variant.

    Raises:
        PlanError: the site could load none of them.
    """
    fit = [card for card in offered if refusal(profile, card) is None]
    if not fit:
        reasons = {named(card): str(refusal(profile, card)) for card in offered}
        raise nothing_runs(site, own, offered[0].runtime_version, reasons)
    before = profile.chosen.get(own.version)
    rested = next((card for card in fit if card.digest == before), None)
    if not (site.runtime and site.runtime != own.runtime):  # among files of one net; the planner looks at others
        rested = rested or next((card for card in fit if card.digest == own.digest), None)
        alike = [card for card in fit if rested is None or _net(card) == _net(rested)]
        fit = alike or fit
    fastest = max(fit, key=lambda card: rate(profile, card.digest))
    if rested is None:
        return fastest
    return fastest if rate(profile, fastest.digest) > MARGIN * rate(profile, rested.digest) else rested


def _net(card: VariantCard) -> str:
    return card.same_net_as or card.digest


def options(
    site: Site, chosen: VariantCard, offered: Iterable[VariantCard], profile: Profile
) -> tuple[VariantCard, ...]:
    """What the planner may let a site answer with: the variant that the rule chose first, then an edge's others.

    A site of the cloud, one that fell back, and one with a runtime of its own have the one.
    """
    mine = tuple(offered)
    if site.tier == "cloud" or site.runtime or chosen.digest not in {card.digest for card in mine}:
        return (chosen,)
    others = [card for card in mine if _net(card) != _net(chosen) and speed(profile, card)]
    return (chosen, *others)


def speed(profile: Profile, card: VariantCard) -> VariantSpeed | None:
    """How fast the site runs the variant with the card's runtime; None if that was not measured."""
    found = profile.variants.get(card.digest)
    return found if found and found.runtime == card.runtime else None


def unmeasured(profile: Profile | None, offered: Iterable[VariantCard]) -> tuple[VariantCard, ...]:
    """Those of a site's variants of which its profile says nothing: they have to be measured before a plan."""
    return tuple(
        card for card in offered if profile is None or (speed(profile, card) is None and refusal(profile, card) is None)
    )


def refusal(profile: Profile, card: VariantCard) -> str | None:
    """Why the site's runtime could not run the variant when it was tried; None if it could, or was not tried."""
    return profile.refused.get(tried(card))


def tried(card: VariantCard) -> str:
    """What a refusal holds for: the file, and the runtime in its version."""
    return f"{card.digest}@{card.runtime} {card.runtime_version}"


def named(card: VariantCard) -> str:
    """A variant's name for a message."""
    return f"{card.name} ({card.digest[:12]})"


def nothing_runs(site: Site, own: VariantCard, version: str, reasons: Mapping[str, str]) -> PlanError:
    """The error of a site whose runtime can load no variant."""
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return PlanError(
        f"site {site.name} runs {site.runtime or own.runtime} {version}, which can load no variant of {own.model}"
        f" {own.version} for the {site.tier} ({why}); publish a float16 one, which runs there, or give the site another"
        " `runtime`"
    )
