"""Which shards go where: weighted rendezvous hashing with bounded load, each site exactly its quota.

A shard prefers the site with the highest score, a pure function of both names and the site's weight (D.
Thaler, C. Ravishankar, Using name-based mappings to increase hit rates, 1998; weights by W. Schindelhauer,
G. Schomaker, Weighted distributed hash tables, 2005). A site that is asked by more shards than its quota keeps those with
the highest scores, and the others ask their next one: deferred acceptance (D. Gale, L. Shapley, 1962), whose
answer is one and the same in any order. So a site keeps its shards from run to run, and a change of one site's share
moves little more than what must move.

Among n shards of a site, hashing alone is off by about sqrt(n). With exact quotas all sites are full, and a shard that moves
may push on another, and that one a third. Two remedies: `slack`, bounded load (V. Mirrokni, M. Thorup, M. Zadimoghaddam,
2018), keeps the chains short where it is more than that, and `before`, where the shards were, moves no more than
the quotas force.

Where shards times sites are too many to score, a shard looks only at the sites in its drawer: a hash of the shard
names the drawer, and a site is in as many as its weight has tickets, whose hashes name them. The tickets of one site depend
on no other, so one that joins or leaves changes nobody's candidates but by itself. Tickets come in powers of two, and two of one site
may meet in a drawer: a candidate's weight in its score is its quota for each drawer that it really is in.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
SCORED = 20_000_000  # pairs of shard and site; more are not all scored
TICKETS = 512  # of a site of mean weight; a power of two
LISTED, CANDIDATES = 8, 16  # sites in a drawer, about and at most


def assign(
    shards: Sequence[str], quotas: Mapping[str, int], slack: float = 0.0, before: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Shard to site, each site exactly its quota, or at most a little more.

    Args:
        shards: digests, each once.
        quotas: shards for each site; they add up to the number of shards.
        slack: share of its quota that a site may have more: the load is bounded then, not exact, and fewer shards move.
        before: shard to site as it was, as far as it is known. A site keeps what it had, up to its quota, and no more
            shards move than the quotas force.

    Raises:
        ValueError: they do not.
    """
    if sum(quotas.values()) != len(shards):
        raise ValueError(f"quotas for {sum(quotas.values())} shards where there are {len(shards)}")
    names = sorted(site for site, quota in quotas.items() if quota)
    if len(names) == 1:
        return dict.fromkeys(shards, names[0])
    ordered, index = sorted(shards), {name: i for i, name in enumerate(names)}
    had = np.array([index.get((before or {}).get(shard, ""), -1) for shard in ordered], np.int64)
    found = assign_words(words(ordered), words(names), np.array([quotas[name] for name in names], np.int64), slack, had)
    return {shard: names[site] for shard, site in zip(ordered, found.tolist(), strict=True)}


def words(names: Sequence[str]) -> Words:
    """A random word of 64 bits for every name, (n,)."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def assign_words(shards: Words, sites: Words, quotas: Ints, slack: float = 0.0, had: Ints | None = None) -> Ints:
    """Site of every shard (n,), as index.

    Args:
        shards: (n,).
        sites: (S,).
        quotas: (S,) above 0 that add up to n.
        slack: as of `assign`.
        had: (n,) the site that it was at, -1 for none that is still there.
    """
    everyone = len(shards) * len(sites) <= SCORED
    weights = quotas.astype(np.float64)
    left = np.floor(quotas * (1 + slack) + 1e-9).astype(np.int64)
    placed = np.full(len(shards), -1, np.int64)
    if had is not None:
        placed = _accept(shards, sites, weights, left, had[:, None])
        left -= np.bincount(placed[placed >= 0], minlength=len(sites))
    rest = np.flatnonzero(placed < 0)
    while len(rest):
        open_sites = np.flatnonzero(left)
        if everyone or len(rest) * len(open_sites) <= SCORED:
            asked = np.broadcast_to(open_sites, (len(rest), len(open_sites)))
            found = _accept(shards[rest], sites, weights, left, asked)
        else:
            asked, slots = _candidates(shards[rest], sites[open_sites], quotas[open_sites])
            a_slot = np.zeros(len(sites))
            a_slot[open_sites] = quotas[open_sites] / np.maximum(slots, 1)
            found = _accept(shards[rest], sites, a_slot, left, np.where(asked >= 0, open_sites[asked], -1))
        placed[rest] = found
        left -= np.bincount(found[found >= 0], minlength=len(sites))
        rest = rest[found < 0]
    return placed


def _accept(shards: Words, sites: Words, weights: Floats, left: Ints, asked: Ints) -> Ints:
    """Deferred acceptance among the sites `asked` (n, k), -1 for none; -1 for a shard that none of them takes."""
    scores = np.where(asked >= 0, _score(shards[:, None], sites[asked], weights[asked]), -1.0)
    order = np.argsort(-scores, axis=1, kind="stable")
    sites_in_order = np.take_along_axis(asked, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    k = asked.shape[1]
    tried = np.zeros(len(shards), np.int64)  # how many sites have turned each shard down
    holds = np.zeros(len(left))  # the score below which a full site takes nobody
    active = np.arange(len(shards))
    at = np.full(len(shards), -1, np.int64)
    while len(active):
        active = active[tried[active] < k]
        choice = sites_in_order[active, tried[active]]
        score = scores[active, tried[active]]
        poor = (choice < 0) | (score <= holds[choice])
        tried[active[poor & (choice >= 0)]] += 1
        tried[active[choice < 0]] = k
        at[active[~poor]] = choice[~poor]
        asking = np.zeros(len(left), bool)
        asking[choice[~poor]] = True
        turned = _turned_down(at, scores, tried, left, asking, holds)
        at[turned] = -1
        tried[turned] += 1
        active = np.concatenate([active[poor], turned])
    return at


def _turned_down(
    at: Ints, scores: Floats, tried: Ints, left: Ints, asking: npt.NDArray[np.bool_], holds: Floats
) -> Ints:
    """Shards beyond the quotas of the sites that were just asked; notes the scores that those sites now ask for."""
    crowd = np.flatnonzero((at >= 0) & asking[at])
    site, score = at[crowd], scores[crowd, tried[crowd]]
    order = np.lexsort((crowd, -score, site))
    site, score, crowd = site[order], score[order], crowd[order]
    starts = np.searchsorted(site, np.arange(len(left)))
    rank = np.arange(len(site)) - starts[site]
    last = rank == left[site] - 1
    holds[site[last]] = score[last]
    return crowd[rank >= left[site]]


def _score(shard: Words, site: Words, weight: Floats) -> Floats:
    uniform = ((_mixed(shard ^ _mixed(site)) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    scores: Floats = -weight / np.log(uniform)
    return scores


def _mixed(word: Words) -> Words:
    """SplitMix64's finaliser (G. Steele et al., 2014): every bit of the answer depends on every bit of the word."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def _candidates(shards: Words, sites: Words, weights: Ints) -> tuple[Ints, Ints]:
    """Sites (n, k) in the drawer of each shard, as indexes, each once, -1 for none; and the drawers that each site is in."""
    drawers = 1 << round(np.log2(TICKETS * len(sites) / LISTED))
    # Weights count by powers of two here, so that a small change of all weights changes the tickets of few sites.
    powers = np.round(np.log2(weights)) - np.round(np.log2(weights.mean()))
    tickets = np.clip(TICKETS * 2.0**powers, 1, 4 * drawers).astype(np.int64)
    owner = np.repeat(np.arange(len(sites)), tickets)
    nth = (np.arange(len(owner)) - np.repeat(np.cumsum(tickets) - tickets, tickets)).astype(np.uint64)
    ticket = _mixed(sites[owner] + _mixed(nth + np.uint64(1)))
    drawer = (ticket & np.uint64(drawers - 1)).astype(np.int64)
    pairs = np.unique(drawer * len(sites) + owner)
    drawer, owner = pairs // len(sites), pairs % len(sites)
    order = np.lexsort((_mixed(sites[owner] ^ _mixed(drawer.astype(np.uint64))), drawer))  # of too many the first ones
    drawer, owner = drawer[order], owner[order]
    place = np.arange(len(drawer)) - np.searchsorted(drawer, drawer)
    fits = place < CANDIDATES
    table = np.full((drawers, CANDIDATES), -1, np.int64)
    table[drawer[fits], place[fits]] = owner[fits]
    mine = (_mixed(shards) & np.uint64(drawers - 1)).astype(np.int64)
    return table[mine, : int(place[fits].max(initial=0)) + 1], np.bincount(owner[fits], minlength=len(sites))
