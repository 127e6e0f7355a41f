"""Who may do what with which data: one policy file, read anew for every decision, judged by casbin.

A rule is a line of the file: who (a user, a role, `*`), does what, with which dataset, of which sensitivity, in which
region, for which purpose, at which hours (UTC), and `allow` or `deny`. Columns but who, hours and effect take names
with `*`, several separated by `|`. A second kind of line gives a user, or a role, another role::

    p, role:operator, run, hospital-*, restricted, eu|ch, care, 8-18, allow
    g, ann, role:operator

Of the rules that fit a request one that denies wins, whatever their order. Where none fits, public data are open and
restricted ones closed. That is RBAC with a hierarchy of roles (D. Ferraiolo, R. Kuhn, Role-based access control, 1992)
and ABAC (NIST SP 800-162), deny overriding.

Who asks is what this process runs as, never a parameter that somebody typed: see `user`. What that is worth is in
`docs/security.md`.
"""

from __future__ import annotations

import os
import pwd
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from data_catalog.errors import AccessDenied, SettingError
from data_catalog.nouns import AccessDecision, Action
from infra.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from data_catalog.nouns import Dataset, Site
    from infra.settings import Settings

SHIPPED = Path(__file__).with_name("policy.csv")
OWNER = "role:owner"  # whoever owns the home's folder, and acts for nobody else
COLUMNS = ("who", "does", "dataset", "sensitivity", "region", "purpose", "hours", "effect")
MODEL = """
[request_definition]
r = who, does, dataset, sensitivity, region, purpose, hour
[policy_definition]
p = who, does, dataset, sensitivity, region, purpose, hours, eft
[role_definition]
g = _, _
[policy_effect]
e = {effect}
[matchers]
m = (p.who == "*" || g(r.who, p.who)) && fits(r.does, p.does) && fits(r.dataset, p.dataset) \
    && fits(r.sensitivity, p.sensitivity) && fits(r.region, p.region) && fits(r.purpose, p.purpose) \
    && within(r.hour, p.hours)
"""
DENY_WINS = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
ANY_ALLOWS = "some(where (p.eft == allow))"


@dataclass(frozen=True)
class Policy:
    """The lines of a policy file."""

    name: str
    rules: Mapping[tuple[str, ...], int]  # columns of a `p` line, and the number of the line
    roles: tuple[tuple[str, str], ...]  # `g` lines: who has which role


def authorise(does: Action, dataset: Dataset, sites: Sequence[Site] = ()) -> tuple[AccessDecision, ...]:
    """The decisions that let this process do that, one for each region of the sites.

    Args:
        does: what is to be done.
        dataset: with its records.
        sites: that take part; none: it is done in one place, which has no region.

    Raises:
        AccessDenied: a rule denies it, or none allows it; names who, what and the rule.
        SettingError: the policy cannot be read.
    """
    regions: dict[str, list[str]] = {}
    for site in sites:
        regions.setdefault(site.region, []).append(site.name)
    return tuple(
        _decide(does, dataset.name, dataset.sensitivity, dataset.purpose, region, names)
        for region, names in (regions or {"": []}).items()
    )


def authorise_order(earlier: Sequence[AccessDecision], site: str) -> AccessDecision:
    """Ask again, now, for what one site is about to be told to do.

    Args:
        earlier: the decisions of the plan that the order belongs to.
        site: which of its sites.

    Raises:
        AccessDenied: the policy, or the hour, allows it no longer; or the plan never asked for that site.
        SettingError: the policy cannot be read.
    """
    before = next((decision for decision in earlier if site in decision.sites), None)
    if before is None:
        raise AccessDenied(f"no order for {site}: the plan has no decision that lets it take part; plan the run again")
    return _decide(before.does, before.dataset, before.sensitivity, before.purpose, before.region, before.sites)


def _decide(
    does: Action, dataset: str, sensitivity: str, purpose: str, region: str, sites: Sequence[str]
) -> AccessDecision:
    settings = read_settings()
    policy = read_policy(settings.policy or SHIPPED)
    who, own = user(settings)
    hour = time.gmtime().tm_hour
    allowed, rule = judge(policy, own, (who, does, dataset, sensitivity, region, purpose, hour))
    if allowed is None:
        allowed, rule = sensitivity == "public", "no rule fits, and public data are open"
    if not allowed:
        where = f", region {region}" if region else ""
        why = f"{policy.name} {rule} denies it" if rule.startswith("line") else f"no rule of {policy.name} allows it"
        raise AccessDenied(
            f"{who} may not {does} {dataset} ({sensitivity}{where}) at {hour:02}h UTC: {why}; ask who keeps the policy"
        )
    return AccessDecision(
        who=who, does=does, dataset=dataset, sensitivity=sensitivity, region=region, sites=tuple(sites), purpose=purpose,
        hour=hour, rule=f"{policy.name} {rule}" if rule.startswith("line") else rule,
    )  # fmt: skip


def judge(policy: Policy, own: Sequence[str], request: tuple[Any, ...]) -> tuple[bool | None, str]:
    """Whether the rules allow it, and the line that says so; None where no rule fits.

    Args:
        policy: that judges.
        own: roles that the user has beside those of the file.
        request: who, does, dataset, sensitivity, region, purpose, hour.
    """
    if not policy.rules:
        return None, ""
    allowed, rule = _enforcer(policy, (request[0], own), DENY_WINS).enforce_ex(*request)
    if allowed:  # casbin names a rule that denied; of those that allow it names one only where nothing can deny
        _, rule = _enforcer(policy, (request[0], own), ANY_ALLOWS).enforce_ex(*request)
    elif not rule:
        return None, ""
    return allowed, f"line {policy.rules[tuple(rule)]}: {', '.join(('p', *rule))}"


def _enforcer(policy: Policy, own: tuple[str, Sequence[str]], effect: str) -> Any:
    import casbin

    model = casbin.Model()
    model.load_model_from_text(MODEL.format(effect=effect).replace("\\\n", ""))
    enforcer = casbin.Enforcer(model)
    enforcer.logger.disabled = True  # it prints every request
    enforcer.add_function("fits", fits)
    enforcer.add_function("within", within)
    for rule in policy.rules:
        enforcer.add_policy(*rule)
    for who, role in (*policy.roles, *((own[0], role) for role in own[1])):
        enforcer.add_grouping_policy(who, role)
    return enforcer


def fits(value: str, column: str) -> bool:
    """Whether a column has the value: names with `*`, separated by `|`. An unknown value, empty, fits `*` alone."""
    return any(fnmatchcase(value, part) for part in column.split("|"))


def within(hour: int, column: str) -> bool:
    """Whether the hour is one of the column's: `8-18` is 8:00 to 17:59, `22-6` goes over midnight, `*` is any."""
    if column == "*":
        return True
    first, _, end = column.partition("-")
    return (hour - int(first)) % 24 < ((int(end) - int(first)) % 24 or 24)


def user(settings: Settings) -> tuple[str, list[str]]:
    """Who this process acts for, and the roles that this alone gives.

    `CLOUDEDGE_USER` where it is set, which whoever starts the process decides; else the operating system's user, not as
    the environment says but as the kernel does. The latter has the role of the owner where the home is theirs: they can
    read its private keys and its store as it is.
    """
    if settings.user:
        return settings.user, []
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:  # a container's
        name = f"uid-{number}"
    return name, [OWNER] if not settings.home.exists() or settings.home.stat().st_uid == number else []


def read_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        SettingError: it cannot be read, or a line of it is neither a rule nor a role; names the line.
    """
    rules: dict[tuple[str, ...], int] = {}
    roles = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"CLOUDEDGE_POLICY={path} cannot be read ({error}); correct the path") from error
    for number, line in enumerate(lines, 1):
        kind, *columns = (column.strip() for column in line.partition("#")[0].split(","))
        if kind == "p":
            if problem := _problem(columns):
                raise SettingError(f"{path} line {number}: {problem}; correct that line")
            rules.setdefault(tuple(columns), number)
        elif kind == "g":
            if len(columns) != 2 or not all(columns) or not columns[1].startswith("role:"):
                raise SettingError(
                    f"{path} line {number}: a role is given as `g, <who>, role:<name>`; correct that line"
                )
            roles.append((columns[0], columns[1]))
        elif kind or columns:
            raise SettingError(f"{path} line {number} begins with {kind!r}, not with `p` or `g`; correct that line")
    return Policy(path.name, rules, tuple(roles))


def _problem(columns: Sequence[str]) -> str:
    """What is wrong with a rule; empty: nothing."""
    if len(columns) != len(COLUMNS):
        return f"a rule has {len(COLUMNS)} columns after `p` ({', '.join(COLUMNS)}), this one {len(columns)}"
    named = dict(zip(COLUMNS, columns, strict=True))
    if empty := [name for name, column in named.items() if not column]:
        return f"`{empty[0]}` is empty; `*` is any"
    if named["effect"] not in ("allow", "deny"):
        return f"effect {named['effect']!r} is neither `allow` nor `deny`"
    for name, known in (("does", get_args(Action)), ("sensitivity", ("public", "restricted"))):
        if wrong := [part for part in named[name].split("|") if part not in (*known, "*")]:
            return f"`{name}` {wrong[0]!r} is none of {', '.join(known)}, *"
    first, _, end = named["hours"].partition("-")
    if named["hours"] != "*" and not all(
        part.isascii() and part.isdigit() and int(part) <= 24 for part in (first, end)
    ):
        return f"hours {named['hours']!r} are not of the form `8-18`, nor `*`"
    return ""
