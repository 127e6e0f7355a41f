"""A site that a plan has not, as the programme sees it: one of the catalog, one that a file describes, one like another."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from data_catalog.errors import BadInput, CatalogError
from infra import explain
from infra.problem import place_site
from infra.sites import read_profile

if TYPE_CHECKING:
    from data_catalog.catalog import Catalog
    from data_catalog.nouns import Plan
    from infra.placement import PlaceSite, Problem
    from infra.storage import Store

LIKE = re.compile(r"\s*([a-z0-9][a-z0-9-]*)\s+like\s+(\S+)\s*")


def added_site(store: Store, catalog: Catalog, problem: Problem, plan: Plan, text: str) -> PlaceSite:
    """The site that a text names: `new-1 like edge-1`, a `FILE.yaml`, or a site of the catalog that was measured.

    A file has the key `like`, a site of the plan, and those quantities that differ, written as for a change
    (`uplink: 5 Mbit/s`, `speed: 500 rows/s`). Its stem is the site's name.

    Args:
        store: has the profiles.
        catalog: of sites.
        problem: that the site joins.
        plan: made of it; says which variants there are.
        text: what the user wrote.

    Raises:
        BadInput: it is none of these; or was never measured with a variant of the plan.
    """
    if found := LIKE.fullmatch(text):
        return explain.like(problem, found.group(2), found.group(1))
    if text.endswith((".yaml", ".yml")):
        return _from_file(problem, Path(text))
    site = catalog.site(text, "--add")
    profile = read_profile(store, site.name)
    cards = {card.digest: card for card in (*plan.cards.values(), *plan.variants.values()) if card.tier == site.tier}
    known = [card for digest, card in cards.items() if profile and digest in profile.variants]
    if profile is None or not known:
        some = next(
            (each.name for each in problem.sites if each.cloud == (site.tier == "cloud")), problem.sites[0].name
        )
        raise BadInput(
            f"site {text} was never measured with a variant of this plan; run once with --site {text}, or plan with"
            f" --add '{text}-imagined like {some}'"
        )
    return place_site(site, profile, [(card, plan.cascades.get(card.digest, plan.cascade)) for card in known])


def _from_file(problem: Problem, path: Path) -> PlaceSite:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogError(f"{path}: cannot be read ({' '.join(str(error).split())}); check the file") from error
    if not isinstance(data, dict) or "like" not in data:
        raise CatalogError(f"{path}: key `like`: missing; name a site of the plan that it is like")
    made = explain.like(problem, str(data.pop("like")), path.stem)
    for quantity, value in data.items():
        alone = dataclasses.replace(problem, sites=(made,))
        made = explain.change(alone, f"{quantity} of {path.stem} = {value}").sites[0]
    return made
