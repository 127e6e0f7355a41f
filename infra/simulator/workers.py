"""What there is: the sites as they really are, what waits there, what is on its way, and the orders that they were given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from infra.replanning import Pace, Queue, believed, expected, shard_seconds, start_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.placement import PlaceOrigin, PlaceSite


@dataclass(slots=True)
class Order:
    """What a site was handed, as the coordinator keeps it."""

    pace: Pace  # as it was expected then
    work: float  # seconds between two shards, if no link is waited for
    at: float  # when it was handed over
    done: int  # shards that the site had answered before
    withdrawn: int = 0
    first: float | None = None  # when the first answer came


@dataclass(slots=True)
class Worker:
    """One site: what waits for it, what of that has arrived, and since when it works."""

    site: PlaceSite  # as it really is, and
    measured: PlaceSite  # as the plan has it
    alive: bool = True
    died: float = 0.0
    waiting: Queue = field(default_factory=dict)  # not answered
    coming: dict[tuple[str, str], float] = field(default_factory=dict)  # of those, others' shards not yet arrived
    free: float = 0.0  # when it may take up the next shard: after its start, and what it has begun
    seen: float = 0.0  # when it was looked at last
    version: int = 0  # of its finishing event; older ones are void
    warm: bool = False
    answered: Queue = field(default_factory=dict)
    sent: float = 0.0  # bytes up its link: shards that others answer, and escalated rows
    order: Order | None = None
    handed: bool = False  # whether it ever had one
    gone: bool = False  # whether it is taken for dead: the coordinator has heard nothing of it
    factor: float = 1.0  # the speed that is believed, times the measured one

    @property
    def done(self) -> int:
        """Shards answered."""
        return sum(self.answered.values())

    @property
    def open(self) -> int:
        """Shards of its order that are neither answered nor withdrawn."""
        order = self.order
        return order.pace.shards - order.withdrawn - (self.done - order.done) if order else 0

    def hand(self, now: float, origins: dict[str, PlaceOrigin], planned: float = 0.0) -> None:
        """Hand it all that waits as one order; in a plan's first one `planned` are the seconds that the plan says."""
        shards = sum(self.waiting.values())
        if not shards:
            self.order = None
            return
        work = sum(n * shard_seconds(self.measured, origins[o], v) for (o, v), n in self.waiting.items()) / shards
        pace = expected(shards, work, start_seconds(self.measured), planned)
        self.order, self.handed = Order(pace, work, now, self.done), True

    def pace(self, now: float) -> Pace | None:
        """How far its order is, as the site says."""
        order = self.order
        if order is None:
            return None
        answered = self.done - order.done
        since = 0.0 if order.first is None else now - order.first
        return replace(
            order.pace, elapsed=now - order.at, answered=answered, since_first=since, withdrawn=order.withdrawn
        )

    def saw(self, seconds: float) -> None:
        """Believe seconds between two shards of its order."""
        if self.order:
            self.factor = believed(self.order.pace, self.order.work, seconds, self.factor)


@dataclass(slots=True)
class Ground:
    """All of them."""

    now: float
    workers: dict[str, Worker]
    origins: dict[str, PlaceOrigin]
    leaving: dict[str, float]  # by origin: shards still on their way from it

    def shard_seconds(self, name: str, origin: str, variant: str) -> float:
        """Seconds between two shards of that origin at that site, at the speed that it really has."""
        return shard_seconds(self.workers[name].site, self.origins[origin], variant)

    def arrival(self, name: str, origin: str) -> float:
        """Seconds until what still comes from that origin is there: its up-link and this down-link are shared evenly."""
        home, worker = self.workers.get(origin), self.workers[name]
        sent = (
            0.0 if home is None or home.site.cloud else self.leaving[origin] * self.origins[origin].bytes / home.site.up
        )
        received = sum(n * self.origins[o].bytes for (o, _), n in worker.coming.items()) / worker.site.down
        return max(sent, received)

    def remaining(self, name: str) -> float:
        """Seconds from now until a site has answered all that waits for it."""
        worker = self.workers[name]
        each = {key: self.shard_seconds(name, *key) for key in worker.waiting}
        work = max(0.0, worker.free - self.now) + sum(n * each[key] for key, n in worker.waiting.items())
        return max([work, *(self.arrival(name, key[0]) + each[key] for key, n in worker.coming.items() if n > 0)])


def in_turn(name: str, keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """In the order in which a site answers them: its own first, then by name."""
    return sorted(keys, key=lambda key: (key[0] != name, key))
