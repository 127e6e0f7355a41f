"""What the watch of a run knows, and who acts for it."""

from __future__ import annotations

import contextvars
import queue
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from infra import keys
from infra.replanning import Pace, as_seen, believed, less_sent, shard_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from data_catalog.errors import CloudEdgeError
    from data_catalog.nouns import AccessDecision, Placement, Plan, Receipt, Replanned, Site, VariantCard, WorkOrder
    from data_catalog.replanning import OrderProgress
    from infra.placement import PlaceSite, Problem
    from infra.storage import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the watch waits for what. Seconds."""

    look: float = 2.0  # between two looks at the sites, at least
    looks: float = 20.0  # in the time that the longest order should take
    longest_look: float = 30.0
    lease: float = 30.0  # without a sign of life, after which a site is taken for dead
    linger: float = 5.0  # for a receipt, when all its results are there
    give_up: float = 600.0  # for a silent site that alone can answer what is left

    def between(self, planned: float) -> float:
        """Seconds between two looks, if the longest order should take so many."""
        return min(max(self.look, planned / self.looks), self.longest_look)

    def put_off(self, pause: float) -> float:
        """Seconds until the next plan, if this one gained nothing and was put off by so many."""
        return min(max(2 * pause, self.look), self.longest_look)


USUAL = Patience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A site that was not there when the run began."""

    site: Site
    place: PlaceSite
    card: VariantCard
    batch: int
    access: tuple[AccessDecision, ...] = ()  # that let it take part


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """How the watch acts."""

    answer: Callable[[str, str], Receipt]  # hands a site the order of that key, and waits
    write: Callable[
        [Plan, int], str
    ]  # stores an order for a plan of one site's shards; its key. The number tells it apart
    upload: Callable[
        [str, list[Placement]], int
    ]  # a source's origin stores shards for other sites; bytes over its link
    join: Callable[[], Sequence[Joined]] = tuple  # sites that have come since it was asked last


@dataclass(slots=True)
class Watched:
    """How it went."""

    plan: Plan  # each shard where it was answered
    receipts: list[Receipt] = field(default_factory=list)
    replanned: list[Replanned] = field(default_factory=list)
    sent: list[tuple[str, int]] = field(default_factory=list)  # origins, and bytes of moved shards that left them
    gone: dict[str, str] = field(default_factory=dict)  # sites that were taken for dead at its end, and why
    late: dict[str, str] = field(default_factory=dict)  # sites with shards that were not answered in time, and why


@dataclass(slots=True, eq=False)
class Handed:
    """An order that a site has."""

    order: WorkOrder
    at: float  # monotonic, and
    epoch: float
    every: dict[str, Placement]  # by digest: all of it
    open: dict[str, Placement]  # neither answered, as far as is known, nor withdrawn
    pace: Pace
    work: float  # seconds between two shards, if no link is waited for
    progress: OrderProgress | None = None
    heard: float = 0.0  # when that was new
    withdrawn: set[str] = field(default_factory=set)
    send: set[str] = field(default_factory=set)  # keys of shards that others need
    complete: float = 0.0  # since when all that is open is known to be in the ledger


class State:
    """Everything between two events.

    A shard that is not answered is in one place: open in an order, waiting, stranded or moving. A copy may be in others.
    """

    def __init__(
        self, plan: Plan, problem: Problem, sites: Iterable[Site], hands: Hands, store: Store, patience: Patience
    ) -> None:
        """Before the first order is handed over."""
        self.first, self.plan, self.hands, self.store, self.patience = plan, plan, hands, store, patience
        self._problem = problem
        self.sites = {site.name: site for site in sites}
        self.places = {site.name: _answering(site, plan.cards[site.name].digest) for site in problem.sites}
        self.placed = {p.shard.digest: p for p in plan.placements}  # as planned at first
        self.origins = {origin.site: origin for origin in problem.origins}
        self.running: dict[str, Handed] = {}  # by site
        self.waiting: dict[str, dict[str, Placement]] = {name: {} for name in self.places}  # for a site's next order
        self.stranded: dict[str, dict[str, Placement]] = {}  # at a site that is gone
        self.moving: dict[str, Placement] = {}  # as they will be
        self.gone: dict[str, tuple[float, CloudEdgeError]] = {}  # since when, and why
        self.fatal: dict[str, BaseException] = {}  # what no other site would do better
        self.factors: dict[str, float] = {}  # speeds that were seen, times the measured ones
        self.numbers: dict[str, int] = {}  # of a site's last order
        self.answered: dict[str, Placement] = {}
        self.left: dict[str, Placement] = {}  # not answered when the time was over, where an order has them
        self.result = Watched(plan)
        self.events: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.SimpleQueue()
        self.uploads = 0
        self.joined: set[str] = set()  # sites that were not there at first
        self.sent_beside = 0.0  # bytes that moves have cost beside those of the shards where they are
        self.hurry = False  # something has changed: look now, and plan whatever the last look found
        self.put_off = self.pause = 0.0  # no plan is made before that, and for how long it was put off

    @property
    def problem(self) -> Problem:
        """What was planned, with the sites that there are now."""
        return replace(self._problem, sites=tuple(self.places.values()))

    @property
    def open_problem(self) -> Problem:
        """The same, less what moves have cost of a cap on bytes that is not in the places of the shards."""
        return less_sent(self.problem, self.sent_beside)

    def seconds(self, placement: Placement, place: PlaceSite) -> float:
        """Between two shards like this one at a site."""
        origin = replace(self.origins[placement.shard.origin], rows=float(placement.shard.rows))
        return shard_seconds(place, origin, place.variants[0].name)

    def as_seen(self, site: str) -> PlaceSite:
        """The site with the speed that was seen."""
        return as_seen(self.places[site], self.factors.get(site, 1.0))

    def saw(self, site: str, handed: Handed, seconds: float) -> None:
        """Believe seconds between two shards."""
        self.factors[site] = believed(handed.pace, handed.work, seconds, self.factors.get(site, 1.0))

    def in_ledger(self, placements: Iterable[Placement]) -> set[str]:
        """Those of the results that are there."""
        names = {keys.result(p.result): p.result for p in placements}
        return {names[key] for key in self.store.present(list(names))} if names else set()

    def undone(self, site: str, there: set[str]) -> dict[str, Placement]:
        """What a site has still to compute of its order, in the order's order."""
        handed = self.running.get(site)
        return {d: p for d, p in handed.open.items() if p.result not in there and not p.reused} if handed else {}

    def movable(self, placements: Iterable[Placement]) -> list[Placement]:
        """Those that can be had without a site that is gone, and are not on their way already."""
        found = [p for p in placements if p.shard.digest not in self.moving]
        lost = [p.key for p in found if p.shard.origin in self.gone]
        there = self.store.present(lost) if lost else set()
        return [p for p in found if p.shard.origin not in self.gone or p.key in there]

    def returned(self, site: str) -> None:
        """It is not gone after all."""
        if self.gone.pop(site, None):
            self.waiting[site].update(self.stranded.pop(site, {}))

    def aside(self, call: Callable[[], None], name: str) -> None:
        """Call it in a thread that nothing waits for, in the flow run's context; it tells by `events`."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(call,), name=name, daemon=True).start()


def _answering(site: PlaceSite, variant: str) -> PlaceSite:
    """The site with the variant that it answers with, and no other."""
    return replace(site, variants=tuple(v for v in site.variants if v.name == variant))
