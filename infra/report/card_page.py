"""A variant's card as a page for people: HTML that loads nothing from anywhere, and Markdown for Prefect."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

if TYPE_CHECKING:
    from data_catalog.nouns import VariantCard

TEMPLATE = Path(__file__).with_name("card.html.j2")


def page(card: VariantCard) -> str:
    """The HTML page of a card."""
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(c=card, facts=_facts(card), steps=_steps(card), classes=_classes(card))


def markdown(card: VariantCard) -> str:
    """The same as a Markdown artifact."""
    lines = [f"# {card.model}, variant {card.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _facts(card).items()]
    if steps := _steps(card):
        lines += ["", "## Recipe", "", *(f"{place}. {step}" for place, step in enumerate(steps, 1))]
    lines += ["", "| class | accuracy | below the cloud's |", "|---|---|---|"]
    lines += [f"| {row['name']} | {row['accuracy']} | {row['drop']} |" for row in _classes(card)]
    return "\n".join(lines)


def _facts(card: VariantCard) -> dict[str, str]:
    """What is known of the variant, in words."""
    low, high = card.accuracy_interval
    runs = ", ".join(f"{name} {version}" for name, version in sorted(card.runs_on.items()))
    facts = {
        "version": card.version,
        "tier": card.tier,
        "made by": card.recipe,
        "accuracy": f"{card.accuracy:.2%} on {card.validation_rows:,} validation rows (95 %: {low:.2%} to {high:.2%})",
        "agrees with the cloud": f"{card.agreement:.2%}",
        "calibration error": "" if card.calibration_error is None else f"{card.calibration_error:.4f}",
        "bytes": f"{card.bytes:,}",
        "bytes as stored and sent": f"{card.stored_bytes or card.bytes:,}",
        "weights that are zero": "" if card.sparsity is None else f"{card.sparsity:.1%}",
        "one row takes": "" if card.latency_seconds is None else f"{card.latency_seconds * 1000:.3f} ms",
        "rows a second, one thread": "" if card.rows_per_second is None else f"{card.rows_per_second:,.0f}",
        "judged on": f"{card.runtime} {card.runtime_version}",
        "lowest runtime": card.lowest_runtime,
        "runs on": runs,
        "signature": card.signature or f"{card.dtype}{list(card.shape)} -> {len(card.classes)} logits",
        "temperature": f"{card.temperature:.4g}",
        "made in": f"{card.made_seconds:.0f} s",
        "published": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(card.published_at))
        if card.published_at
        else "",
        "SHA-256": card.digest,
        "training data": card.training_digest,
        "teacher": card.teacher_digest,
        "made from": card.made_from,
        "golden rows": card.golden_digest,
    }
    return {name: value for name, value in facts.items() if value}


def _steps(card: VariantCard) -> list[str]:
    """The recipe's steps with their settings."""
    return [
        f"{step.get('step', '')} " + ", ".join(f"{name} {value}" for name, value in step.items() if name != "step")
        for step in card.recipe_steps
    ]


def _classes(card: VariantCard) -> list[dict[str, Any]]:
    drops = card.class_drop or (None,) * len(card.classes)
    return [
        {"name": name, "accuracy": f"{accuracy:.2%}", "drop": "" if drop is None else f"{drop:.2%}"}
        for name, accuracy, drop in zip(card.classes, card.class_accuracy, drops, strict=False)
    ]
