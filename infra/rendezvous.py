"""Which shards go where: weighted rendezvous hashing with bounded load, each site exactly its quota.

A shard prefers the site with the highest score, a pure function of both names and the site's weight (D.
Thaler, C. Ravishankar, Using name-based mappings to increase hit rates, 1998; weights by W. Schindelhauer,
G. Schomaker, Weighted distributed hash tables, 2005). A site that is asked by more shards than its quota keeps those with
the highest scores, and the others ask their next one: deferred acceptance (D. Gale, L. Shapley, 1962), whose
answer is one and the same in any order. So a site keeps its shards from run to run, and a change of one site's share
moves little more than what must move. With exact quotas among very many sites a shard that moves may push on another, and
that one a third; with `slack`, bounded load (V. Mirrokni, M. Thorup, M. Zadimoghaddam, 2018), the chains are short.

Where shards times sites are too many to score, a shard asks a few candidates first: the owners of the slots
that its own sequence of probes hits in a table in which a site has slots by its weight (as in SPOCA, A. Chawla et al.,
2011). A slot's owner depends on few names, so candidates stay too when a site joins or leaves.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
SCORED = 20_000_000  # pairs of shard and site; more are not all scored
CANDIDATES, PROBES = 32, 48  # sites that a shard asks first, where not all pairs are scored; probes to find them
BLOCK = 50_000  # shards that are probed at once
SLOTS = 8  # of the table for a site of mean weight; a power of two


def assign(shards: Sequence[str], quotas: Mapping[str, int], slack: float = 0.0) -> dict[str, str]:
    """Shard to site, each site exactly its quota, or at most a little more.

    Args:
        shards: digests, each once.
        quotas: shards for each site; they add up to the number of shards.
        slack: share of its quota that a site may have more: the load is bounded then, not exact, and fewer shards move.

    Raises:
        ValueError: they do not.
    """
    if sum(quotas.values()) != len(shards):
        raise ValueError(f"quotas for {sum(quotas.values())} shards where there are {len(shards)}")
    names = sorted(site for site, quota in quotas.items() if quota)
    if len(names) == 1:
        return dict.fromkeys(shards, names[0])
    ordered = sorted(shards)
    found = assign_words(words(ordered), words(names), np.array([quotas[name] for name in names], np.int64), slack)
    return {shard: names[site] for shard, site in zip(ordered, found.tolist(), strict=True)}


def words(names: Sequence[str]) -> Words:
    """A random word of 64 bits for every name, (n,)."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def assign_words(shards: Words, sites: Words, quotas: Ints, slack: float = 0.0) -> Ints:
    """Site of every shard (n,), as index; quotas (S,) above 0 that add up to n."""
    everyone = len(shards) * len(sites) <= SCORED
    placed = np.full(len(shards), -1, np.int64)
    left = np.ceil(quotas * (1 + slack)).astype(np.int64)
    rest = np.arange(len(shards))
    while len(rest):
        open_sites = np.flatnonzero(left)
        if everyone or len(rest) * len(open_sites) <= SCORED:
            asked = np.broadcast_to(open_sites, (len(rest), len(open_sites)))
        else:
            asked = _candidates(shards[rest], sites[open_sites], quotas[open_sites])
            asked = np.where(asked >= 0, open_sites[asked], -1)
        found = _accept(shards[rest], sites, quotas, left, asked)
        placed[rest] = found
        left -= np.bincount(found[found >= 0], minlength=len(sites))
        rest = rest[found < 0]
    return placed


def _accept(shards: Words, sites: Words, quotas: Ints, left: Ints, asked: Ints) -> Ints:
    """Deferred acceptance among the sites `asked` (n, k), -1 for none; -1 for a shard that none of them takes."""
    scores = np.where(asked >= 0, _score(shards[:, None], sites[asked], quotas[asked]), -1.0)
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


def _turned_down(at: Ints, scores: npt.NDArray[np.float64], tried: Ints, left: Ints, asking: npt.NDArray[np.bool_],
                 holds: npt.NDArray[np.float64]) -> Ints:  # fmt: skip
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


def _score(shard: Words, site: Words, weight: Ints) -> npt.NDArray[np.float64]:
    uniform = ((_mixed(shard ^ _mixed(site)) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    scores: npt.NDArray[np.float64] = -weight / np.log(uniform)
    return scores


def _mixed(word: Words) -> Words:
    """SplitMix64's finaliser (G. Steele et al., 2014): every bit of the answer depends on every bit of the word."""
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def _candidates(shards: Words, sites: Words, weights: Ints) -> Ints:
    """Sites (n, k) that each shard's probes hit first, as indexes, -1 for an empty slot; a site may stand twice."""
    size = 1 << int(np.ceil(np.log2(4 * SLOTS * len(sites))))
    # Weights count by powers of two here, so that a small change of all weights changes the slots of few sites.
    powers = np.round(np.log2(weights)) - np.round(np.log2(weights.mean()))
    tickets = np.maximum(1, SLOTS * 2.0**powers).astype(np.int64)
    tickets = np.minimum(tickets, size // 2)
    owner = np.repeat(np.arange(len(sites)), tickets)
    nth = (np.arange(len(owner)) - np.repeat(np.cumsum(tickets) - tickets, tickets)).astype(np.uint64)
    ticket = _mixed(sites[owner] + _mixed(nth + np.uint64(1)))
    slot = (ticket & np.uint64(size - 1)).astype(np.int64)
    table = np.full(size, -1, np.int64)
    order = np.argsort(ticket, kind="stable")  # of several tickets for one slot the largest has it
    table[slot[order]] = owner[order]
    salt = np.arange(1, PROBES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = np.full((len(shards), CANDIDATES), -1, np.int64)
    for start in range(0, len(shards), BLOCK):
        asked = table[(_mixed(shards[start : start + BLOCK, None] + salt) & np.uint64(size - 1)).astype(np.int64)]
        ranked = np.sort(asked, axis=1)
        ranked[:, 1:][ranked[:, 1:] == ranked[:, :-1]] = -1
        found[start : start + BLOCK] = -np.sort(-ranked, axis=1)[:, :CANDIDATES]
    return found
