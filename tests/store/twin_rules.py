"""What is one call, and what is a silent leg, in plain Python: the rules of `abtest.store.twins` and `abtest.store.legs`."""

from __future__ import annotations

import itertools
import json
from typing import Any

from governance_tools import Con, micros

from abtest.store import legs, twins

WINDOW_S = twins.WINDOW_US // 1_000_000
SOURCES = ("native", "otel", "openinference", "litellm", "openai")
RANK = {"native": 0, "otel": 1, "openinference": 1, "litellm": 3, "openai": 4}


def row(name: str, src: str = "native", ts: float = 0, **fields: Any) -> dict[str, Any]:
    base = dict.fromkeys(
        ("u", "e", "v", "t", "s", "p", "cache", "at", "lat", "rq", "ask", "group", "kind", "fell", "seen")
    )
    return {"id": name, "src": src, "ts": ts, **base, **fields}


def put(con: Con, given: list[dict[str, Any]], file_id: int) -> twins.Twins:
    """Insert raw rows as one load."""
    con.begin()
    for r in given:
        con.execute(
            "INSERT INTO interaction (interaction_id, ts_us, model, unit_id, experiment_id, variant, exposed, turn, trace_id,"
            " span_id, provider_response_id, cache_hit, is_error, latency_ms, attributes, source, file_id, request_id)"
            " VALUES (?, ?, 'm', ?, ?, ?, ?, 1, ?, ?, ?, ?, false, ?, ?, ?, ?, ?)",
            [r["id"], micros(r["ts"]), r["u"], r["e"], r["v"], r["seen"] is not False, r["t"], r["s"], r["p"], r["cache"],
             r["lat"], attributes(r), r["src"], file_id, r["rq"]],
        )  # fmt: skip
    found = twins.find(con, first=file_id, last=file_id)
    twins.forget_search(con)
    for source in {r["src"] for r in given}:
        con.execute(
            "INSERT INTO file_ledger (file_id, path, sha256, bytes, source, lines, records, inserted, duplicates, conflicts,"
            " quarantined, ignored, ingested_us) VALUES (?, 'p', 'h', 0, ?, 0, 0, 0, 0, 0, 0, 0, 0)",
            [file_id, source],
        )
    con.commit()
    return found


def attributes(r: dict[str, Any]) -> str | None:
    names = {"messages_hash": "ask", "model_group": "group", "call_type": "kind", "attempted_fallbacks": "fell"}
    routed = {name: r[key] for name, key in names.items() if r[key] is not None}
    return json.dumps({**json.loads(r["at"] or "{}"), **routed}) if r["at"] or routed else None


def ended(r: dict[str, Any]) -> float:
    """Return the end of a call; of one whose end is not known, a time that compares with nothing."""
    return float("nan") if r["lat"] is None else r["ts"] + r["lat"] / 1000


def twice(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether two rows of one source with one response id are one call."""
    if a["t"] and a["t"] == b["t"] and a["ts"] <= ended(b) and b["ts"] <= ended(a):
        return True
    slack = twins.SLACK_US / 1e6
    within = [x["ts"] <= y["ts"] + slack and ended(y) <= ended(x) + slack for x, y in ((a, b), (b, a))]
    return a["src"] == "openinference" and any(within)


def mirrored(given: list[dict[str, Any]]) -> dict[str, str]:
    """Return leg -> request, straight from the rules of `abtest.store.legs`, in the order in which calls can be told."""
    routed = [
        r for r in given if r["src"] == "litellm" and r["seen"] is not False and r["t"] and r["ask"] and r["group"]
    ]
    crowds = {
        r["id"]: sum((o["t"], o["ask"]) == (r["t"], r["ask"]) and abs(o["ts"] - r["ts"]) <= WINDOW_S for o in routed)
        for r in routed
    }
    routed = [r for r in routed if crowds[r["id"]] <= legs.CROWD]
    same = ("t", "ask", "u", "rq", "e", "v")
    found: dict[str, str] = {}
    for x in sorted(routed, key=lambda r: (r["kind"] == "acompletion", r["ts"])):
        if x["kind"] != "acompletion" or x["fell"]:
            continue
        primaries = [
            p
            for p in routed
            if all(p[k] == x[k] for k in same) and p["group"] != x["group"] and abs(p["ts"] - x["ts"]) <= WINDOW_S
            and p["ts"] < ended(x) and x["ts"] < ended(p) and p["id"] not in found
            and ((p["kind"] == "completion" and p["ts"] <= x["ts"] + legs.LEAD_US / 1e6) or (p["kind"] == "acompletion" and p["ts"] < x["ts"]))
        ]  # fmt: skip
        if primaries:
            nearest = min(primaries, key=lambda p: (abs(p["ts"] - x["ts"]), p["id"]))
            found[x["id"]] = x["rq"] or nearest["id"]
    return found


def keys(r: dict[str, Any]) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    if r["p"] and not r["cache"]:
        found.add((1, r["p"]))
    if r["t"] and r["s"]:
        found.add((2, r["t"], r["s"]))
    return found


def same_arm(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if not (a["v"] and b["v"]):
        return True
    return a["v"] == b["v"] and (not a["e"] or not b["e"] or a["e"] == b["e"])


def by_definition(given: list[dict[str, Any]]) -> tuple[set[Any], set[Any]]:
    """Return calls (id, members) and conflicts, straight from the rules of `abtest.store.twins`."""
    by_id = {r["id"]: r for r in given}
    near = {r["id"]: [o for o in given if abs(o["ts"] - r["ts"]) <= WINDOW_S] for r in given}
    real = {
        r["id"]: {k for k in keys(r) if sum(k in keys(o) for o in near[r["id"]] if o["src"] == r["src"]) <= twins.CROWD}
        for r in given
    }
    best: dict[tuple[str, str], tuple[Any, ...]] = {}
    conflicts, doubles = set(), set()
    for a, b in itertools.permutations(given, 2):
        shared = real[a["id"]] & real[b["id"]]
        if not shared or abs(a["ts"] - b["ts"]) > WINDOW_S:
            continue
        one_source = a["src"] == b["src"]
        if one_source and not (1 in {k[0] for k in shared} and twice(a, b)):
            continue
        if not same_arm(a, b):
            conflicts.add((min(a["id"], b["id"]), max(a["id"], b["id"]), "variant"))
            continue
        if one_source:
            doubles.add((a["id"], b["id"]))
            continue
        rank = (-sum(k[0] for k in shared), abs(a["ts"] - b["ts"]), b["id"])
        best[a["id"], b["src"]] = min(rank, best.get((a["id"], b["src"]), rank))
    edges = {(a, b) for (a, _), (*_, b) in best.items() if best.get((b, by_id[a]["src"]), (None,))[-1] == a} | doubles
    found = set()
    for one in components(edges):
        names = {by_id[x]["v"] for x in one if by_id[x]["v"]}
        spaces = {by_id[x]["e"] for x in one if by_id[x]["v"] and by_id[x]["e"]}
        one_arm = len(names) <= 1 and len(spaces) <= 1
        if one_arm and all(
            by_id[x]["src"] != by_id[y]["src"] or (x, y) in doubles for x, y in itertools.permutations(one, 2)
        ):
            first = min(one, key=lambda x: (not by_id[x]["v"], not by_id[x]["u"], RANK[r := by_id[x]["src"]], r, x))
            found.add((first, tuple(sorted(one))))
        else:
            conflicts |= {(a, b, "source" if one_arm else "variant") for a, b in edges if a in one and a < b}
    taken = {x for _, ids in found for x in ids}
    return found | {(x, (x,)) for x in mirrored(given) if x not in taken}, conflicts


def components(edges: set[tuple[str, str]]) -> list[set[str]]:
    left = {x for pair in edges for x in pair}
    found = []
    while left:
        one, frontier = set[str](), {min(left)}
        while frontier:
            one |= frontier
            frontier = {b for a, b in edges if a in frontier} - one
        found.append(one)
        left -= one
    return found
