"""What the watch does: hand orders over, take shards back, bring them to others, and account for what came of it."""

from __future__ import annotations

import math
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from data_catalog.errors import ModelRefused, SiteFailed, StoreError
from data_catalog.nouns import Placement, Receipt, Replanned, WorkOrder
from data_catalog.replanning import Withdrawal
from infra import coordination, keys
from infra.problem import as_placed, to_json
from infra.receipts import settle
from infra.replanning import Move, expected, sent_beside, start_seconds
from infra.watching.state import Handed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from data_catalog.nouns import Plan
    from infra.watching.state import State

OF_THE_SITE = (SiteFailed, ModelRefused, StoreError)  # failures after which others may do better with the same shards


# --- orders -------------------------------------------------------------------------------------------------


def dispatch(state: State, site: str) -> None:
    """Give a site that has no order what waits for it."""
    if site in state.running or site in state.gone or not state.waiting[site] or state.fatal:
        return
    shards, state.waiting[site] = state.waiting[site], {}
    state.numbers[site] = state.numbers.get(site, 1) + 1
    part = state.plan.model_copy(update={"placements": tuple(shards.values())})
    hand(state, site, state.hands.write(part, state.numbers[site]), shards)


def hand(state: State, site: str, key: str, shards: dict[str, Placement]) -> None:
    """Have a site do the order of that key, beside all else."""
    order = WorkOrder.model_validate_json(state.store.get(key))
    work = [state.seconds(p, state.places[site]) for p in shards.values() if not p.reused]
    compute, planned = statistics.fmean(work) if work else 0.0, 0.0
    if order.order_id == site:  # a link may take longer than the work: its own, or those of other origins
        others = any(p.shard.origin != site for p in shards.values())
        planned = state.first.predicted_seconds if others else state.first.predicted_site_seconds.get(site, 0.0)
    pace = expected(len(work), compute, start_seconds(state.places[site]), planned)
    now = time.monotonic()
    handed = Handed(order, now, time.time(), shards, dict(shards), pace, compute, heard=now)
    state.running[site] = handed

    def call() -> None:
        try:
            receipt = state.hands.answer(site, key)
        except BaseException as error:
            state.events.put((_failed, (state, site, handed, error)))
        else:
            state.events.put((_receipt, (state, site, handed, receipt)))

    state.aside(call, f"order-{order.order_id}")


def _receipt(state: State, site: str, handed: Handed, receipt: Receipt) -> None:
    if state.running.get(site) is not handed:
        return  # it was done without
    del state.running[site]
    state.returned(site)
    state.result.receipts.append(receipt)
    left = set(receipt.withdrawn)
    for digest, p in handed.every.items():
        if p.result not in left:
            _answer(state, digest, p)
    worked = receipt.finished - receipt.started - receipt.startup_seconds
    if receipt.computed_results > 1:
        state.saw(site, handed, worked / receipt.computed_results)
    state.put_off = 0.0


def _failed(state: State, site: str, handed: Handed, error: BaseException) -> None:
    if state.running.get(site) is not handed:
        return
    if not isinstance(error, OF_THE_SITE):
        del state.running[site]
        state.fatal[site] = error
        return
    state.gone[site] = (time.monotonic(), error)
    settle_order(state, site, handed, state.in_ledger(handed.open.values()), str(error))
    strand(state, site, state.waiting[site])
    state.hurry = not state.fatal


def strand(state: State, site: str, shards: Mapping[str, Placement]) -> None:
    """These are at a site that is gone."""
    state.stranded.setdefault(site, {}).update(shards)
    if shards is state.waiting[site]:
        state.waiting[site] = {}


def settle_order(state: State, site: str, handed: Handed, there: set[str], why: str) -> None:
    """Write the receipt that a site does not give; what it has not done is to be done elsewhere."""
    del state.running[site]
    mine = [p for p in handed.open.values() if p.result in there]
    receipt = settle(state.store, state.plan, handed.order, mine, handed.epoch, why)
    left = set(receipt.withdrawn)
    key = keys.receipt(state.plan.run_id, handed.order.order_id)
    coordination.put(state.store, state.plan.run_id, key, receipt.model_dump_json(indent=1).encode())
    state.result.receipts.append(receipt)
    for digest, p in list(handed.open.items()):
        if p.result in there and p.result not in left:
            _answer(state, digest, p)
        elif digest not in state.answered:
            strand(state, site, {digest: p})


def _answer(state: State, digest: str, placement: Placement) -> None:
    """The first answer counts; who has it yet to give need not."""
    if digest in state.answered:
        return
    state.answered[digest] = placement
    state.moving.pop(digest, None)
    for shards in (*state.waiting.values(), *state.stranded.values()):
        shards.pop(digest, None)
    for handed in state.running.values():
        if digest in handed.open:
            _withdraw(state, handed, [digest])


# --- moves --------------------------------------------------------------------------------------------------


def act(state: State, moves: Sequence[Move], twice: Sequence[Move], there: set[str], why: str) -> bool:
    """Change the plan and take shards where they should be; whether there was anything to do.

    Args:
        state: of the watch; changed.
        moves: shards that go from one site to another.
        twice: shards that another site should answer as well.
        there: results that are in the ledger.
        why: for the report.
    """
    moved: dict[str, Placement] = {}
    state.sent_beside += sent_beside(state.problem, moves)
    for frm, origin, variant, to, _, n in moves:
        found = _take(state, frm, origin, variant, n, there)
        new = [_at(state.plan, p, to, why) for p in found]
        moved |= {p.shard.digest: p for p in new}
        _bring(state, found, new, frm)
    copied = 0
    for frm, origin, variant, to, _, n in twice:
        alike = [p for p in state.undone(frm, there).values() if (p.shard.origin, p.variant) == (origin, variant)]
        found = state.movable(alike)[:n]
        copied += len(found)
        _bring(state, [], [_at(state.plan, p, to, why) for p in found], frm)
    if not moved and not copied:
        return False
    state.plan = state.plan.model_copy(update={"reasons": _reasons(state.plan, moved.values(), why)})
    placements = [moved.get(p.shard.digest, p) for p in state.plan.placements]
    key = revise(state, placements, len(state.result.replanned) + 1)
    state.result.replanned.append(Replanned(at=time.time(), why=why, moved=len(moved), duplicated=copied, plan=key))
    return True


def revise(state: State, placements: Sequence[Placement], number: int) -> str:
    """Make these the placements of the plan, with what they cost and the problem that they are of, and store both.

    Args:
        state: of the watch; changed.
        placements: of all shards.
        number: of the change, from 1.

    Returns:
        Key of the plan.
    """
    state.plan = state.plan.model_copy(update={"placements": tuple(placements)})
    bound = (
        0.0 if state.joined else state.first.lower_bound
    )  # who has joined may make a plan that is better than any before
    problem, solution = as_placed(state.plan, state.problem, bound)
    totals = {"makespan": solution.seconds, "bytes": solution.bytes, "money": solution.money}
    gap = solution.gap if math.isfinite(solution.gap) else None
    update = {"totals": totals, "lower_bound": solution.lower_bound, "gap": gap, "balance": solution.balance}
    state.plan = state.plan.model_copy(update=update)
    run_id = state.plan.run_id
    coordination.put(state.store, run_id, keys.problem(run_id, number), to_json(problem, solution))
    key = keys.run(run_id, f"plan-{number}.json")
    coordination.put(state.store, run_id, key, state.plan.model_dump_json(indent=1).encode())
    return key


def _take(state: State, site: str, origin: str, variant: str, n: int, there: set[str]) -> list[Placement]:
    """Take shards of that kind from a site: those that no order has first, then those at the end of its order."""
    handed, undone = state.running.get(site), state.undone(site, there)
    pool = [*state.stranded.get(site, {}).values(), *state.waiting[site].values(), *reversed(undone.values())]
    alike = [p for p in pool if (p.shard.origin, p.variant) == (origin, variant)]
    found = state.movable(alike)[:n]
    for shards in (state.stranded.get(site, {}), state.waiting[site]):
        for p in found:
            shards.pop(p.shard.digest, None)
    if handed:
        _withdraw(state, handed, [p.shard.digest for p in found if p.shard.digest in handed.open])
    return found


def _withdraw(state: State, handed: Handed, digests: Sequence[str]) -> None:
    for digest in digests:
        p = handed.open.pop(digest)
        handed.withdrawn.add(p.result)
    if digests:
        _tell(state, handed)


def _tell(state: State, handed: Handed) -> None:
    """Let a site know what it need not do, and what others need of it."""
    said = Withdrawal(results=tuple(sorted(handed.withdrawn)), send=tuple(sorted(handed.send)))
    key = keys.withdrawal(state.plan.run_id, handed.order.order_id)
    coordination.put(state.store, state.plan.run_id, key, said.model_dump_json().encode())


def _at(plan: Plan, placement: Placement, site: str, why: str) -> Placement:
    """The same shard at another site, in the codec that it has."""
    card = plan.cards[site]
    return placement.model_copy(
        update={
            "site": site,
            "variant": card.digest,
            "result": keys.result_name(placement.shard.digest, card.answering, plan.preprocessing),
            "reused": False,
            "reason": f"moved to {site} during the run: {why}",
        }
    )


def _reasons(plan: Plan, moved: Iterable[Placement], why: str) -> dict[str, str]:
    """The plan's, and at the sites that shards were moved to how many and why."""
    taken: dict[str, int] = {}
    for p in moved:
        taken[p.site] = taken.get(p.site, 0) + 1
    more = {name: f"took over {n} shards during the run: {why}" for name, n in taken.items()}
    return plan.reasons | {
        name: f"{plan.reasons[name]}; {text}" if plan.reasons.get(name) else text for name, text in more.items()
    }


def _bring(state: State, old: Sequence[Placement], new: Sequence[Placement], frm: str) -> None:
    """Have the shards where their new site can read them, beside all else; then they wait for it.

    Args:
        state: of the watch; changed.
        old: as they were; where they cannot be had, they go back. Empty for copies.
        new: as they are to be.
        frm: the site that had them.
    """
    if old:
        state.moving |= {p.shard.digest: p for p in new}
    handed = state.running.get(frm)
    if handed and (needed := {p.key for p in new if p.shard.origin == frm and _was_kept(state, p)} - handed.send):
        handed.send |= needed
        _tell(state, handed)
    for source in sorted({p.shard.source for p in new}):
        mine = [p for p in new if p.shard.source == source]
        before = [p for p in old if p.shard.source == source]
        state.uploads += 1
        state.aside(partial(_upload, state, before, mine, frm), f"upload-{source}")


def _upload(state: State, old: list[Placement], new: list[Placement], frm: str) -> None:
    """In a thread of its own: changes nothing but the store."""
    try:
        there = state.store.present([p.key for p in new])
        crossed = 0
        if len(there) < len(new) or keys.is_encrypted(new[0].key):
            crossed = state.hands.upload(new[0].shard.source, new)
        crossed += sum(state.store.size(p.key) for p in new if p.key in there and _was_kept(state, p))
    except BaseException as error:
        state.events.put((_not_brought, (state, old, new, frm, error)))
    else:
        state.events.put((_brought, (state, new, crossed, bool(old))))


def _was_kept(state: State, placement: Placement) -> bool:
    """Whether the shard had not left its origin before, by the account of the links."""
    home = state.sites.get(placement.shard.origin)
    kept = home is not None and home.tier == "edge" and home.shards_on_premises
    return kept and state.placed[placement.shard.digest].site == placement.shard.origin


def _brought(state: State, new: list[Placement], crossed: int, moved: bool) -> None:
    state.uploads -= 1
    state.result.sent.append((new[0].shard.origin, crossed))
    for p in new:
        if (moved and not state.moving.pop(p.shard.digest, None)) or p.shard.digest in state.answered:
            continue
        if p.site in state.gone:
            strand(state, p.site, {p.shard.digest: p})
            state.hurry = True
        else:
            state.waiting[p.site][p.shard.digest] = p


def _not_brought(state: State, old: list[Placement], new: list[Placement], frm: str, error: BaseException) -> None:
    """They go back to where they were."""
    state.uploads -= 1
    for p in old:
        if state.moving.pop(p.shard.digest, None):
            (state.stranded.setdefault(frm, {}) if frm in state.gone else state.waiting[frm])[p.shard.digest] = p
    if not isinstance(error, OF_THE_SITE):
        state.fatal[frm] = error
    state.pause = state.patience.longest_look
    state.put_off = time.monotonic() + state.pause
