"""The commands of `cloudedge models`: the registry in the store, and what each group of sites answers with."""

from __future__ import annotations

import getpass
import json
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cloudedge.site_keys import opened
from data_catalog.catalog import Catalog
from data_catalog.errors import BadInput, StoreFull, UnknownName
from infra import model_registry, retention, rollout
from infra.report import variant_chart
from infra.settings import read_settings
from infra.sites import host_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from data_catalog.nouns import Pointed, VariantCard
    from infra.storage import Store

WIDE = 200  # columns where nobody looks
SHOWN = 12  # digits of a digest


def list_versions(model: str, *, as_json: bool) -> None:
    """Print the published versions of one model, or of all, newest first, and who answers with them."""
    with opened() as (store, _):
        known = model_registry.models(store)
        if model and model not in known:
            raise UnknownName.among("model in the registry", model, known, "MODEL")
        found = {
            name: (model_registry.versions(store, name), _told(store, name)) for name in ([model] if model else known)
        }
    if as_json:
        _print_json({
            name: {
                "versions": {version: sorted(cards) for version, cards in versions.items()},
                "groups": {group: entry.model_dump() for group, entry in told.items()},
            }
            for name, (versions, told) in found.items()
        })  # fmt: skip
        return
    if not any(versions for versions, _ in found.values()):
        sys.stdout.write("the registry has no model: a run trains and publishes one\n")
        return
    table = _table("model", "version", "published", "variants", "answered by")
    for name, (versions, told) in found.items():
        for version, cards in versions.items():
            published = max(card.published_at for card in cards.values())
            groups = [f"{group} ({entry.variant})" for group, entry in told.items() if entry.version == version]
            table.add_row(name, version, _moment(published), ", ".join(sorted(cards)), ", ".join(groups))
    _console().print(table)


def show(model: str, version: str, variant: str, *, as_json: bool) -> None:
    """Print a variant's card, or of a version its variants and what the groups of sites answer with and did before."""
    with opened() as (store, home):
        version, cards = _version(store, model, version)
        logs = rollout.pointers(store, model)
        if variant:
            card = model_registry.read_card(store, model, version, variant)
            page = home / "models" / model / f"{version}-{variant}.html"
            _write(page, _page(card))
            if as_json:
                _print_json(card.model_dump())
            else:
                _show_card(card, page)
            return
    if as_json:
        _print_json({
            "version": version,
            "variants": {name: card.model_dump() for name, card in cards.items()},
            "groups": {group: [entry.model_dump() for entry in log] for group, log in logs.items()},
        })  # fmt: skip
        return
    _console().print(_compared(model, version, cards))
    for group, log in logs.items():
        table = _table("when", "by", "variant", "version", title=f"group {group}, newest first")
        for entry in reversed(log):
            what = f"back to {entry.variant or 'the catalog'}" if entry.back else entry.variant
            table.add_row(_moment(entry.at), entry.by, what, entry.version)
        _console().print()
        _console().print(table)


def compare(model: str, version: str, picture: Path | None, *, as_json: bool) -> None:
    """Print a version's variants side by side and draw them, the Pareto front marked."""
    with opened() as (store, home):
        version, cards = _version(store, model, version)
    path = picture or home / "models" / model / f"{version}.svg"
    title = f"Variants of {model} {version}"
    _write(path, variant_chart.variants(title, list(cards.values())))
    best = variant_chart.front(list(cards.values()))
    if as_json:
        listed = [card.model_dump() | {"on_the_front": name in best} for name, card in cards.items()]
        _print_json({"model": model, "version": version, "variants": listed, "picture": str(path)})
        return
    _console().print(_compared(model, version, cards))
    sys.stdout.write(f"\npicture: {path}\n")


def push(model: str, variant: str, version: str, group: str, catalog: Sequence[Path], *, as_json: bool) -> None:
    """Let a group of sites answer with a variant from their next run on."""
    with opened() as (store, _):
        version, _ = _version(store, model, version)
        card = model_registry.read_card(store, model, version, variant)
        group = group or card.tier
        _require_group(group, card, catalog)
        entry = rollout.push(store, card, group, _who())
    _say(entry, as_json=as_json)


def rollback(model: str, group: str, *, as_json: bool) -> None:
    """Let a group of sites answer with what it did before the last push."""
    with opened() as (store, _):
        _require_model(store, model)
        entry = rollout.rollback(store, model, group, _who())
    _say(entry, as_json=as_json)


def prune(model: str, keep: int, history: int, *, really: bool, as_json: bool) -> None:
    """Delete versions that nobody needs; without `really` only say which."""
    with opened() as (store, _):
        _require_model(store, model)
        found = retention.examine(store, model, keep, history)
        going = [kept for kept in found if not kept.reasons]
        objects = retention.remove(store, model, [kept.version for kept in going]) if really else 0
    if as_json:
        _print_json({
            "kept": {kept.version: kept.reasons for kept in found if kept.reasons},
            "removed" if really else "would_remove": [kept.version for kept in going],
        })  # fmt: skip
        return
    table = _table("version", "variants", "bytes", "")
    for kept in found:
        size = sum(variant_chart.sent_bytes(card) for card in kept.variants.values())
        why = "; ".join(kept.reasons) if kept.reasons else "removed" if really else "would be removed"
        table.add_row(kept.version, f"{len(kept.variants)}", f"{size:,}", why)
    _console().print(table)
    if really:
        sys.stdout.write(f"{len(going)} versions removed, {objects} objects\n")
    else:
        sys.stdout.write(f"{len(going)} versions would be removed; --yes removes them\n")


def _require_model(store: Store, model: str) -> None:
    known = model_registry.models(store)
    if model not in known:
        raise UnknownName.among("model in the registry", model, known, "MODEL")


def _version(store: Store, model: str, beginning: str) -> tuple[str, dict[str, VariantCard]]:
    """The version that begins so, or the newest."""
    _require_model(store, model)
    found = model_registry.versions(store, model)
    fitting = [version for version in found if version.startswith(beginning)]
    if not fitting:
        raise UnknownName.among(f"version of {model}", beginning, found, "--version")
    if beginning and len(fitting) > 1:
        raise BadInput(f"--version {beginning} is the beginning of {len(fitting)} versions of {model}; give more of it")
    return fitting[0], found[fitting[0]]


def _require_group(group: str, card: VariantCard, catalog: Sequence[Path]) -> None:
    """Refuse a group that no site of the catalog is in, or whose sites are of the other tier."""
    entries = Catalog([*(folder.absolute() for folder in catalog), *read_settings().catalog_folders])
    tiers: dict[str, set[str]] = {}
    for name in entries.names("sites"):
        site = entries.site(name)
        tiers.setdefault(site.group, set()).add(site.tier)
    if group not in tiers:
        raise UnknownName.among("group of sites", group, tiers, "--group")
    if tiers[group] != {card.tier}:
        raise BadInput(
            f"variant {card.name} of {card.model} is for the {card.tier}, and group {group} has sites of the"
            f" {' and '.join(sorted(tiers[group]))}; name another variant or group"
        )


def _told(store: Store, model: str) -> dict[str, Pointed]:
    """By group: what it answers with, if something was pushed."""
    logs = rollout.pointers(store, model)
    return {group: told[-1] for group, log in logs.items() if (told := rollout.standing(log))}


def _compared(model: str, version: str, cards: Mapping[str, VariantCard]) -> Table:
    best = variant_chart.front(list(cards.values()))
    table = _table("variant", "tier", "runtime", title=f"{model} {version} (* on the Pareto front)")
    for name in ("bytes", "as sent", "accuracy", "95 % interval", "agrees", "rows/s", "one row"):
        table.add_column(name, justify="right")
    for name, card in sorted(cards.items()):
        low, high = card.accuracy_interval
        table.add_row(
            f"{name} *" if name in best else name, card.tier, f"{card.runtime} {card.lowest_runtime}".strip(),
            f"{card.bytes:,}", f"{variant_chart.sent_bytes(card):,}", f"{card.accuracy:.2%}", f"{low:.2%} to {high:.2%}",
            f"{card.agreement:.2%}", f"{card.rows_per_second:,.0f}" if card.rows_per_second else "",
            f"{card.latency_seconds * 1000:.3f} ms" if card.latency_seconds else "",
        )  # fmt: skip
    return table


def _page(card: VariantCard) -> str:
    from infra.report import card_page

    return card_page.page(card)


def _show_card(card: VariantCard, page: Path) -> None:
    table = _table("", "", title=f"{card.model} {card.version}, variant {card.name}")
    for name, value in card.model_dump(mode="json").items():
        table.add_row(name, value if isinstance(value, str) else json.dumps(value))
    _console().print(table)
    sys.stdout.write(f"\npage: {page}\n")


def _say(entry: Pointed, *, as_json: bool) -> None:
    if as_json:
        _print_json(entry.model_dump())
        return
    what = (
        f"{entry.variant} of {entry.model} {entry.version}"
        if entry.version
        else f"what the catalog trains of {entry.model}"
    )
    sys.stdout.write(f"group {entry.group} answers with {what} from its next run on\n")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreFull(f"{path} cannot be written ({error}); free some space, or name another file") from error


def _who() -> str:
    return f"{getpass.getuser()}@{host_name()}"


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) if at else ""


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name)
    return table


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def _print_json(found: object) -> None:
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
