"""What a halt, or a new share, changes in one flagd flag: a flag in, a flag out, no files.

A flag gives a variant in three ways: `targeting` (JSONLogic) computes its name; when that is null or missing,
`defaultVariant` counts; when that is null too, or the flag is DISABLED, the caller's code default does.
Rules: flagd.dev/reference/flag-definitions and flagd.dev/reference/custom-operations/fractional-operation.

The treatments' share of a `fractional` becomes 0. Whether they can still be reached is then decided on the safe side:
only `if` and `fractional` are followed, every other operator counts as able to give any variant, and a treatment's
name anywhere outside a pair of weight 0 counts as a way to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from abtest.errors import ActuatorError

_MAX_DECIMALS = 9
"""Weights of a fractional may sum to 2**31 - 1, so a total of 10**9 is the finest."""

_BUCKET_BY = {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}
_FLAG_KEYS = {"state", "variants", "defaultVariant", "targeting", "metadata", "source", "selector"}
_COMPUTED = object()


@dataclass(frozen=True)
class Change:
    """A flag after the change, and what was done to it in words."""

    flag: dict[str, Any]
    notes: tuple[str, ...]


def halted(
    flag: Mapping[str, Any], control: str, treatments: frozenset[str], evaluators: Mapping[str, Any] | None = None
) -> Change:
    """Return the flag with no way left to a treatment.

    Args:
        flag: One entry of `flags`; its `variants` hold all the names.
        control: Variant that everybody gets instead.
        treatments: Variants that nobody may get any more.
        evaluators: The file's `$evaluators`, which `$ref` points to; they are shared, so they are never changed.
    """
    new, notes = dict(flag), list[str]()
    targeting, default = flag.get("targeting"), _name(flag.get("defaultVariant"))
    reason = None
    if flag.get("state") != "ENABLED":
        # DISABLED is no halt: every caller then gets the default in its own code, which abtest cannot know. Rules that
        # slept while the flag was off must not wake up either, so the control is all that is left.
        new["state"] = "ENABLED"
        reason = f"state was {flag.get('state')!r}, which gives every caller its code default instead of {control!r}"
    elif targeting:
        new["targeting"], changed = _without(targeting, control, treatments)
        if changed:
            notes.append(f"{', '.join(sorted(treatments))} set to weight 0 in {changed} fractional")
        reason = _Search(treatments, evaluators or {}).targeting(new["targeting"])
    if reason is None and default in treatments:
        reason = f"defaultVariant was {default!r}"
    if reason is not None:
        removed = "targeting removed and " if new.pop("targeting", None) else ""
        new["defaultVariant"] = control
        return Change(new, (f"{removed}everybody gets {control!r}, because {reason}",))
    if default not in flag["variants"]:
        new["defaultVariant"] = control
        notes.append(f"defaultVariant was {flag.get('defaultVariant')!r} and is now {control!r}")
    return Change(new, tuple(notes))


def shared(
    flag: Mapping[str, Any], control: str, treatment: str, share: float, evaluators: Mapping[str, Any] | None = None
) -> Change:
    """Return the flag with `share` of the units in the treatment, in every fractional that splits the two.

    Users stay where they are while the share grows: the hash of a user is compared with the weight over the total,
    and the order of the pairs is kept. Rules that give the treatment to somebody beside the split stay; a note says so.

    Raises:
        ActuatorError: The flag is not enabled, the share is no weight, or the rules split something else too.
    """
    weight, total = weights(share)
    if flag.get("state") != "ENABLED":
        raise ActuatorError(f"state is {flag.get('state')!r}", hint="set it to ENABLED first; a share does not")
    new, targeting = dict(flag), flag.get("targeting")
    split = {treatment: weight, control: total - weight}
    what = f"{treatment}:{control} is {weight}:{total - weight}"
    if not targeting:
        new["targeting"] = {"fractional": [_BUCKET_BY, *([name, part] for name, part in split.items())]}
        if _name(flag.get("defaultVariant")) not in flag["variants"]:
            new["defaultVariant"] = control
        return Change(new, (f"{what} in a new fractional",))
    changed = 0

    def set_weights(args: list[Any]) -> list[Any]:
        nonlocal changed
        head, pairs = _split(args)
        names = [_name(pair[0]) for pair in pairs or ()]
        if pairs is None or treatment not in names:
            return args
        if any(name not in split for name in names):
            raise ActuatorError(
                f"a fractional splits more than {treatment!r} and {control!r}", hint="set its weights by hand"
            )
        changed += 1
        return head + _weighted(pairs, split)

    new["targeting"] = _map_fractionals(targeting, set_weights)
    if not changed:
        raise ActuatorError(f"no fractional of its targeting has {treatment!r}", hint='add one: {"fractional": [...]}')
    beside = _Search(frozenset({treatment}), evaluators or {}).targeting(
        _without(targeting, control, frozenset({treatment}))[0]
    )
    return Change(new, (f"{what} in {changed} fractional", *([f"beside it, {beside}"] if beside else [])))


def weights(share: float) -> tuple[int, int]:
    """Return a share as exact integers, weight and total: 0.05 is (5, 100), 0.001 is (1, 1000).

    Raises:
        ActuatorError: Outside [0, 1], or more than nine decimals.
    """
    exact = Decimal(str(share))
    if not exact.is_finite() or not 0 <= exact <= 1:
        raise ActuatorError(f"share {share} is not between 0 and 1")
    exponent = exact.normalize().as_tuple().exponent
    decimals = max(2, -exponent) if isinstance(exponent, int) else 2
    if decimals > _MAX_DECIMALS:
        raise ActuatorError(f"share {share} has more than {_MAX_DECIMALS} decimals", hint="round it, for example 0.333")
    total = 10**decimals
    return int(exact * total), total


def refusal(document: Mapping[str, Any]) -> str | None:
    """Return why flagd would refuse this whole file, or None.

    One bad flag is enough: the client then keeps the last good file, which is the canary. The rules are those of
    openfeature-provider-flagd 0.6.1 with flagd-core 2.0.0, the strictest one; a test compares the two.
    """
    if not isinstance(document.get("$evaluators") or {}, dict):
        return "$evaluators is not an object"
    if not _is_metadata(document.get("metadata", {}), allow_empty=False):
        return "the file's metadata is not an object of plain values"
    for key, flag in document["flags"].items():
        if not isinstance(flag, dict):
            return f"flag {key!r} is not an object"
        unknown = sorted(set(flag) - _FLAG_KEYS)
        default = flag.get("defaultVariant")
        if unknown:
            return f"flag {key!r} has the unknown key {unknown[0]!r}"
        if flag.get("state") not in ("ENABLED", "DISABLED"):
            return f"flag {key!r} has the state {flag.get('state')!r}"
        if not isinstance(flag.get("variants"), dict) or not flag["variants"]:
            return f"flag {key!r} has no variants"
        if default and not isinstance(default, (str, bool)):
            return f"flag {key!r} has the defaultVariant {default!r}"
        if not _is_metadata(flag.get("metadata"), allow_empty=True):
            return f"the metadata of flag {key!r} is not an object of plain values"
    return None


def _is_metadata(value: Any, *, allow_empty: bool) -> bool:
    if allow_empty and not value:
        return True
    return isinstance(value, dict) and all(key and isinstance(v, (str, int, float)) for key, v in value.items())


def _name(value: Any) -> Any:
    """Return the variant that a literal names (true names "true"), None for none, _COMPUTED for an expression."""
    if isinstance(value, (dict, list)):
        return _COMPUTED
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value is not None and value != "" else None


def _split(args: list[Any]) -> tuple[list[Any], list[list[Any]] | None]:
    """Return (the bucketing expression, if any) and the pairs of a fractional; None where they are malformed."""
    head = args[:1] if args and not isinstance(args[0], list) else []
    pairs = args[len(head) :]
    well_formed = pairs and all(isinstance(pair, list) and len(pair) in (1, 2) for pair in pairs)
    return head, pairs if well_formed else None


def _is_zero(pair: list[Any]) -> bool:
    """Return whether a pair gets nobody; a pair without a weight has weight 1, a negative one counts as 0."""
    return len(pair) == 2 and type(pair[1]) is int and pair[1] <= 0


def _weighted(pairs: list[list[Any]], split: Mapping[str, int]) -> list[Any]:
    """Return the pairs with these weights; a second pair of the same variant gets 0, a missing one is added."""
    left = dict(split)
    kept = [[pair[0], left.pop(_name(pair[0]), 0)] for pair in pairs]
    return kept + [[name, weight] for name, weight in left.items() if weight]


def _without(targeting: Any, control: str, treatments: frozenset[str]) -> tuple[Any, int]:
    """Return the rule with the treatments at weight 0 in every fractional, and how many fractionals that changed."""
    changed = 0

    def take(args: list[Any]) -> list[Any]:
        nonlocal changed
        head, pairs = _split(args)
        if pairs is None or all(_is_zero(pair) for pair in pairs if _name(pair[0]) in treatments):
            return args
        changed += 1
        names = {_name(pair[0]) for pair in pairs}
        if names <= {control, *treatments}:
            return head + _weighted(pairs, {control: 100})
        # Other variants share this fractional: the control takes over exactly the treatment's range of the hash, so
        # that no user of those variants moves.
        out: list[Any] = []
        for pair in pairs:
            taken = _name(pair[0]) in treatments and not _is_zero(pair)
            out += [[control, *pair[1:]], [pair[0], 0]] if taken else [pair]
        return head + out

    return _map_fractionals(targeting, take), changed


def _map_fractionals(node: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """Return the rule with `change` applied to the arguments of every fractional in it."""
    if isinstance(node, list):
        return [_map_fractionals(item, change) for item in node]
    if not isinstance(node, dict):
        return node
    new = {key: _map_fractionals(value, change) for key, value in node.items()}
    if len(new) == 1 and isinstance(new.get("fractional"), list):
        new["fractional"] = change(new["fractional"])
    return new


@dataclass(frozen=True)
class _Search:
    """Looks for a way to a treatment; every method returns the reason in words, or None when there is none."""

    treatments: frozenset[str]
    evaluators: Mapping[str, Any]
    inside: tuple[str, ...] = ()

    def targeting(self, node: Any) -> str | None:
        return self.result(node) if isinstance(node, dict) else "its targeting is not an object"

    def result(self, node: Any) -> str | None:
        """Look at an expression whose value is the variant."""
        if isinstance(node, list):
            return self.mention(node)
        if not isinstance(node, dict):
            return f"a rule gives {_name(node)!r} directly" if _name(node) in self.treatments else None
        if len(node) != 1:
            return "a rule has not exactly one operator"
        operator, args = next(iter(node.items()))
        if operator == "$ref":
            return self.reference(args, _Search.result)
        if operator == "fractional":
            return self.fractional(args)
        if operator not in ("if", "?:"):
            return f"the operator {operator!r} could give any variant"
        branches = args if isinstance(args, list) else [args]
        last = len(branches) - 1
        looks = (self.mention(b) if i % 2 == 0 and i != last else self.result(b) for i, b in enumerate(branches))
        return next((reason for reason in looks if reason), None)

    def mention(self, node: Any) -> str | None:
        """Look for a treatment's name anywhere in an expression that does not itself give the variant."""
        if isinstance(node, dict):
            if len(node) == 1 and "$ref" in node:
                return self.reference(node["$ref"], _Search.mention)
            if len(node) == 1 and "fractional" in node:
                return self.fractional(node["fractional"])
            node = list(node.values())
        if isinstance(node, list):
            return next((reason for item in node if (reason := self.mention(item))), None)
        named = isinstance(node, str) and node in self.treatments
        return f"a condition names {node!r}, which abtest cannot tell from a way to it" if named else None

    def fractional(self, args: Any) -> str | None:
        head, pairs = _split(args) if isinstance(args, list) else ([], None)
        if pairs is None:
            return "a fractional is malformed"
        for pair in pairs:
            name = _name(pair[0])
            if name is _COMPUTED:
                return "a fractional computes the name of a variant"
            if name in self.treatments and not _is_zero(pair):
                return f"a fractional gives {name!r}"
        return self.mention(head)

    def reference(self, name: Any, look: Callable[[_Search, Any], str | None]) -> str | None:
        if not isinstance(name, str) or name not in self.evaluators or name in self.inside:
            return f"the shared rule {name!r} cannot be followed"
        reason = look(_Search(self.treatments, self.evaluators, (*self.inside, name)), self.evaluators[name])
        return reason and f"{reason} (in the shared rule {name!r})"
