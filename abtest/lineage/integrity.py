"""What should not be in what ran: pure rules over counts, the same rows and registry give the same answer.

| code | what | severity |
|---|---|---|
| prompt_content_changed | one prompt version with two contents (hashes), or another content than registered | error |
| silent_swap | the model that answered is another than asked for (`models`) | error, warning up to 1 % of the calls |
| response_model_changed | the same request is answered by another model than before | warning; in a release: error |
| fingerprint_changed | the provider's system fingerprint changed | warning |
| unregistered_version | runs where the registry is in use, and was never registered | warning |
| retired_running | was retired and still gets calls | error |
| never_ran | was registered more than a day ago and never ran | info |

"Changed" means: it came later than the others, and chance does not explain its absence before (once in a million).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from abtest.display import format_time
from abtest.lineage.manifest import Manifest
from abtest.lineage.models import is_alias, is_swap
from abtest.lineage.registry import Registry
from abtest.lineage.seen import Seen
from abtest.results import Finding, Severity

CODES = ("prompt_content_changed", "silent_swap", "response_model_changed", "fingerprint_changed", "unregistered_version",
         "retired_running", "never_ran")  # fmt: skip
_SURE = math.log(1e-6)
_SMALL = 0.01
_DAY_US = 86_400_000_000
_NAMED = 3
"""Manifests that one sentence names."""


@dataclass(frozen=True)
class Sum:
    """Calls of one kind: how many, and when the first and the last."""

    calls: int
    first_us: int
    last_us: int
    rows: tuple[Seen, ...] = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[Seen]) -> Sum:
        """Add up rows; there is at least one."""
        rows = tuple(rows)
        return cls(sum(r.calls for r in rows), min(r.first_us for r in rows), max(r.last_us for r in rows), rows)

    def before(self, at_us: int) -> float:
        """Return how many of the calls came before a moment, those of one row spread evenly over its time."""
        return sum(
            r.calls * min(max((at_us - r.first_us) / max(r.last_us - r.first_us, 1), 0.0), 1.0) for r in self.rows
        )


def integrity(
    rows: Sequence[Seen],
    registry: Registry,
    *,
    as_of_us: int,
    running_since_us: int = 0,
    release: bool = False,
    hourly: Callable[[], Sequence[Seen]] | None = None,
) -> list[Finding]:
    """Return everything that should not be.

    Args:
        rows: What ran, by surface, up to `as_of_us`.
        registry: What may run.
        as_of_us: The moment that is looked at.
        running_since_us: Leave out what has ended before.
        release: The rows are those of one release: what is not among them may run elsewhere, and an answer that changed in
            more than 1 % of its calls is an error, because two models are compared as one.
        hourly: Returns the same rows hour by hour; they are asked for before something is said to have changed.
    """
    found = changed(rows, running_since_us, registry, strict=release, hourly=hourly) + swaps(rows, running_since_us)
    if registry:
        found += unregistered(rows, registry, running_since_us)
        if not release:
            found += [*retired(rows, registry, running_since_us), *never_ran(rows, registry, as_of_us)]
    return found


def changed(
    rows: Sequence[Seen],
    since_us: int,
    registry: Registry,
    *,
    strict: bool,
    hourly: Callable[[], Sequence[Seen]] | None,
) -> list[Finding]:
    """Return what is another than before: by sums first, which costs little, and by hours where those find something."""
    found = [
        *prompt_content(rows, registry, since_us),
        *answers_changed(rows, since_us, strict=strict),
        *fingerprints(rows, since_us),
    ]
    return changed(hourly(), since_us, registry, strict=strict, hourly=None) if found and hourly is not None else found


# -- deterministic, from the logs alone ----------------------------------------------------------------------------------


def prompt_content(rows: Sequence[Seen], registry: Registry, since_us: int) -> list[Finding]:
    """Find prompt versions with more than one content; a prompt without a name belongs to its surface."""
    registered: dict[tuple[str | None, str], str] = {}
    for r in registry.manifests:
        f = r.manifest.fields
        if f["prompt_version"] is not None and f["prompt_sha256"] is not None:
            registered.setdefault((f["prompt_name"], f["prompt_version"]), f["prompt_sha256"])
    found: list[Finding] = []
    groups = _groups(
        rows,
        lambda m, s: (m["prompt_name"], m["prompt_version"], s if m["prompt_name"] is None else ""),
        "prompt_sha256",
    )
    for (name, version, _), hashes in groups.items():
        if version is None:
            continue
        words = f"{name} {version}" if name else str(version)
        true = registered.get((name, version))
        wrong = {h: s for h, s in hashes.items() if true is not None and h != true and s.last_us >= since_us}
        if wrong:
            h, s = _most(wrong)
            text = f"prompt {words} runs with the content {h[:12]}, registered is {str(true)[:12]}: {_counted(s)}"
            found.append(Finding("prompt_content_changed", "error", None, text))
            continue
        late = {h: s for h, s in hashes.items() if len(hashes) > 1 and (name is not None or _came_later(h, hashes))}
        if late and max(s.last_us for s in late.values()) >= since_us:
            new = max(late, key=lambda h: (late[h].first_us, h))
            old = _most({h: s for h, s in hashes.items() if h != new})[0]
            text = f"prompt {words} has {len(hashes)} contents: {new[:12]} beside {old[:12]}, {_counted(late[new])}"
            found.append(Finding("prompt_content_changed", "error", None, text))
    return found


def swaps(rows: Sequence[Seen], since_us: int) -> list[Finding]:
    """Find answers of another model than the one asked for."""
    found: list[Finding] = []
    for (surface, model), answers in _groups(rows, lambda m, s: (s, m["model"]), "model_version").items():
        told = sum(s.calls for s in answers.values())
        for answered, s in answers.items():
            if s.last_us >= since_us and is_swap(str(model), answered):
                severity: Severity = "error" if s.calls > _SMALL * told else "warning"
                text = f"{model} was asked for{_on(surface)}, {answered} answered: {_counted(s)}, {100 * s.calls / told:.3g} % of those that tell"
                found.append(Finding("silent_swap", severity, None, text))
    return found


def answers_changed(rows: Sequence[Seen], since_us: int, *, strict: bool = False) -> list[Finding]:
    """Find models whose answers come from another model than before, without being asked for."""
    found: list[Finding] = []
    for (surface, model), answers in _groups(rows, lambda m, s: (s, m["model"]), "model_version").items():
        for new, s in answers.items():
            others = {v: o for v, o in answers.items() if v != new and not is_alias(v, new) and o.first_us < s.first_us}
            if (
                not others
                or s.last_us < since_us
                or is_swap(str(model), new)
                or not _came_later(new, {**others, new: s})
            ):
                continue
            old = _most(others)[0]
            told = sum(each.calls for each in answers.values())
            severity: Severity = "error" if strict and s.calls > _SMALL * told else "warning"
            text = f"{model}{_on(surface)} is answered by {new} instead of {old}: {_counted(s)}"
            found.append(Finding("response_model_changed", severity, None, text))
    return found


def fingerprints(rows: Sequence[Seen], since_us: int) -> list[Finding]:
    """Find models whose system fingerprint is another than before; several from the beginning are the provider's habit."""
    found: list[Finding] = []
    groups = _groups(rows, lambda m, s: (s, m["model"], m["model_version"]), "system_fingerprint")
    for (surface, model, _), prints in groups.items():
        new = [p for p, s in prints.items() if s.last_us >= since_us and _came_later(p, prints)]
        if new:
            first = min(new, key=lambda p: (prints[p].first_us, p))
            others = {p: s for p, s in prints.items() if p not in new}
            old = _most(others)[0] if others else "another one"
            more = f", {len(new)} new ones in all" if len(new) > 1 else ""
            text = f"the system fingerprint of {model}{_on(surface)} changed from {old} to {first}: {_counted(prints[first])}{more}"
            found.append(Finding("fingerprint_changed", "warning", None, text))
    return found


# -- against the registry ------------------------------------------------------------------------------------------------


def unregistered(rows: Sequence[Seen], registry: Registry, since_us: int) -> list[Finding]:
    """Find what runs and was never registered, one finding a surface, where the registry is in use."""
    found: list[Finding] = []
    for surface, mine in _by_surface(rows).items():
        unknown = {
            m: s
            for m, s in mine.items()
            if s.last_us >= since_us and registry.covers(m, surface) and registry.knows(m, surface) is False
        }
        if unknown:
            most = sorted(unknown, key=lambda m: (-unknown[m].calls, m.manifest_id))
            named = ", ".join(f"{m.words} ({m.short}, {unknown[m].calls:,} calls)" for m in most[:_NAMED])
            more = f" and {len(most) - _NAMED} more" if len(most) > _NAMED else ""
            text = f"never registered{_on(surface)}: {named}{more}"
            found.append(Finding("unregistered_version", "warning", None, text))
    return found


def retired(rows: Sequence[Seen], registry: Registry, since_us: int) -> list[Finding]:
    """Find what was retired and has calls later than that."""
    found: list[Finding] = []
    for surface, mine in _by_surface(rows).items():
        for m, s in mine.items():
            known = registry.match(m, surface)
            at_us = registry.retired.get(known.manifest.manifest_id) if known else None
            if at_us is not None and s.last_us > at_us and s.last_us >= since_us:
                text = (
                    f"{m.words}{_on(surface)} was retired on {_when(at_us)} and was called last on {_when(s.last_us)}"
                )
                found.append(Finding("retired_running", "error", None, text))
    return found


def never_ran(rows: Sequence[Seen], registry: Registry, as_of_us: int) -> list[Finding]:
    """Find what was registered more than a day before and never ran."""
    ran: set[str] = set()
    for surface, mine in _by_surface(rows).items():
        ran |= {known.manifest.manifest_id for m in mine if (known := registry.match(m, surface))}
    found: list[Finding] = []
    for r in registry.manifests:
        ident = r.manifest.manifest_id
        if ident not in ran and ident not in registry.retired and as_of_us - r.registered_us > _DAY_US:
            text = f"{r.name or r.manifest.words} ({r.manifest.short}) was registered on {_when(r.registered_us)} and never ran"
            found.append(Finding("never_ran", "info", None, text))
    return found


# -- parts ---------------------------------------------------------------------------------------------------------------


def _groups(
    rows: Sequence[Seen], key: Callable[[dict[str, str | None], str | None], tuple[str | None, ...]], field: str
) -> dict[tuple[str | None, ...], dict[str, Sum]]:
    """Return key -> value of a field -> calls, in a fixed order; rows that do not tell the field are left out."""
    lists: dict[tuple[str | None, ...], dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        value = r.manifest.fields[field]
        if value is not None:
            lists[key(r.manifest.fields, r.surface)][value].append(r)
    ordered = sorted(lists, key=lambda k: tuple((part is None, part or "") for part in k))
    return {k: {value: Sum.of(lists[k][value]) for value in sorted(lists[k])} for k in ordered}


def _by_surface(rows: Sequence[Seen]) -> dict[str | None, dict[Manifest, Sum]]:
    lists: dict[str | None, dict[Manifest, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        lists[r.surface][r.manifest].append(r)
    surfaces = sorted(lists, key=lambda s: (s is None, s or ""))
    return {s: {m: Sum.of(lists[s][m]) for m in sorted(lists[s], key=lambda m: m.manifest_id)} for s in surfaces}


def _came_later(value: str, sums: dict[str, Sum]) -> bool:
    """Tell whether a value is new: at its share since it came, it would have been seen before.

    The others' calls are taken to be spread evenly over the time of each row: a whole history, or an hour of it.
    """
    own = sums[value]
    before, after = 0.0, float(own.calls)
    for other, s in sums.items():
        if other != value:
            earlier = s.before(own.first_us)
            before += earlier
            after += s.calls - earlier
    share = min(own.calls / (after + 1.0), 1.0 - 1e-12)
    return before * math.log1p(-share) < _SURE


def _most(sums: dict[str, Sum]) -> tuple[str, Sum]:
    return min(sums.items(), key=lambda item: (-item[1].calls, item[0]))


def _counted(s: Sum) -> str:
    return f"{s.calls:,} {'call' if s.calls == 1 else 'calls'} since {_when(s.first_us)}"


def _on(surface: str | None) -> str:
    return f" on {surface}" if surface is not None else ""


def _when(us: int) -> str:
    from abtest.analysis.times import to_text

    return format_time(to_text(us - us % 60_000_000))
