"""What is known of a site, refined by every measurement: an exponentially weighted mean and variance of each quantity.

The increments are those of D. West, Updating mean and variance estimates, 1979, and T. Finch, Incremental calculation of
weighted mean and variance, 2009. A measurement far from what is known is clipped, so that one bad run does not ruin a
profile; a lasting change widens the spread, and the mean gets there in a few runs.

What a receipt says of speed and link is taken only where it means something: enough was computed, the machine's
cores were not taken by other sites of the same run (the plan reckons with that itself), and the link was what all waited for.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from data_catalog.nouns import Profile, Spread, VariantSpeed
from infra.links import ENOUGH_SECONDS, LEAST_OBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from data_catalog.nouns import Receipt, Span

Measured = TypeVar("Measured", Profile, VariantSpeed)
WEIGHT = 0.3  # of the newest measurement; more while there are fewer than three
FAMILIAR = 3  # measurements after which outliers are clipped, at
CLIP = 3.0  # standard deviations, of at least
LEAST_SPREAD = 0.1  # of the mean
BUSY = 0.8  # of a stage's time, all streams together: then nobody waited for anything else
WAITED = 0.05  # of it, for shards that their origins were still sending


def observe(known: Measured, at: float, **values: float) -> Measured:
    """A profile, or a variant's speed, with measurements weighed in.

    Args:
        known: what is known; a quantity that is 0 and was never measured takes the value as it is.
        at: seconds since 1970.
        values: by field, what was measured.
    """
    means, spreads = {}, dict(known.spreads)
    for name, value in values.items():
        mean = float(getattr(known, name))
        spread = spreads.get(name) or Spread(count=1 if mean else 0, at=at)
        means[name], spreads[name] = _weighed(mean, spread, value, at)
    return known.model_copy(update=means | {"spreads": spreads})


def _weighed(mean: float, spread: Spread, value: float, at: float) -> tuple[float, Spread]:
    if not spread.count:
        return value, Spread(count=1, at=at)
    if spread.count >= FAMILIAR:
        most = CLIP * max(math.sqrt(spread.variance), LEAST_SPREAD * mean)
        value = min(max(value, mean - most), mean + most)
    weight = max(WEIGHT, 1 / (spread.count + 1))
    off = value - mean
    step = weight * off
    variance = (1 - weight) * (spread.variance + off * step)
    return mean + step, Spread(variance=variance, count=spread.count + 1, at=at)


def rate(profile: Profile, digest: str) -> float:
    """Rows a second of one thread with a variant, as a plan should reckon with it.

    Runs refine the speed of the variant that works. A machine that is slower than its probe said is so with every variant,
    so one that has not worked yet is as fast as its probe said times what that was wrong by for the others.
    """
    speed = profile.variants[digest]
    wrong = [
        each.rows_per_second / each.probed_rows_per_second
        for each in profile.variants.values()
        if each.probed_rows_per_second and "rows_per_second" in each.spreads
    ]
    return speed.rows_per_second * (1.0 if "rows_per_second" in speed.spreads or not wrong else median(wrong))


def refine(profile: Profile, receipts: Iterable[Receipt], beside: Iterable[Receipt]) -> Profile:
    """The profile with what the site's receipts show weighed in.

    Args:
        profile: of the site.
        receipts: of the run; others' are passed over.
        beside: those of all sites of the same machine.
    """
    others = list(beside)
    for receipt in receipts:
        if receipt.site != profile.site or not receipt.computed_results:
            continue
        seen = {
            name: rate
            for name, rate in (
                ("down_bytes_per_second", _link_rate(receipt, "fetch", profile.latency_seconds)),
                ("up_bytes_per_second", _link_rate(receipt, "commit", profile.latency_seconds)),
            )
            if rate
        }
        profile = observe(profile, receipt.finished, **seen)
        if speed := profile.variants.get(receipt.variant):
            seen = {"startup_seconds": receipt.startup_seconds} if receipt.startup_seconds else {}
            rate = None if _crowded(receipt, others, profile.cores) else _speed(receipt)
            seen |= {"rows_per_second": rate} if rate else {}
            if rate and "rows_per_second" not in speed.spreads:  # the probe knows nothing of all that goes on beside
                speed = speed.model_copy(update={"rows_per_second": 0.0})
            refined = profile.variants | {receipt.variant: observe(speed, receipt.finished, **seen)}
            profile = profile.model_copy(update={"variants": refined})
    return profile


def _speed(receipt: Receipt) -> float | None:
    """Rows a second of one thread; None if too little was computed."""
    busy = receipt.seconds.get("infer", 0.0)
    return receipt.rows * receipt.computed_results / receipt.shards / busy if busy >= ENOUGH_SECONDS else None


def _crowded(receipt: Receipt, beside: Iterable[Receipt], cores: int) -> bool:
    """Whether it and others wanted more cores than the machine has while it computed."""
    mine = _span(receipt, "infer")
    if mine is None or mine.end <= mine.start:
        return True
    own = others = 0.0
    for each in beside:
        span = _span(each, "infer")
        if span is None or span.end <= span.start:
            continue
        shared = max(0.0, min(mine.end, span.end) - max(mine.start, span.start)) / (span.end - span.start)
        threads = each.seconds.get("infer", 0.0) * shared / (mine.end - mine.start)
        if each == receipt:
            own = threads
        else:
            others += threads
    return others > 0 and own + others > cores


def _link_rate(receipt: Receipt, stage: str, latency: float) -> float | None:
    """Bytes a second over the site's link while one stage kept it busy; None where it was not what all waited for.

    All streams together: what crossed the link in the time from the stage's first byte to its last, without the latency of each
    object. A stage that also read objects that lie at the site says nothing, nor does one beside which others used the link.
    """
    inward = stage == "fetch"
    crossed = receipt.wan_in - receipt.model_bytes if inward else receipt.wan_out
    all_bytes = receipt.bytes_in - receipt.model_bytes if inward else receipt.bytes_out
    span, busy, objects = _span(receipt, stage), receipt.seconds.get(stage, 0.0), receipt.computed_results
    if span is None or "escalate" in receipt.seconds:  # which reads and writes beside the stages
        return None
    seconds = span.end - span.start
    if inward and receipt.seconds.get("wait", 0.0) > WAITED * busy:
        return None
    alone = 0.9 * all_bytes <= crossed <= 1.1 * all_bytes
    if not alone or crossed < LEAST_OBJECT * objects or busy < BUSY * seconds:
        return None
    working = seconds * (1 - objects * latency / busy)
    return crossed / working if working >= max(ENOUGH_SECONDS, seconds / 2) else None


def _span(receipt: Receipt, stage: str) -> Span | None:
    return next((span for span in receipt.spans if span.stage == stage), None)
