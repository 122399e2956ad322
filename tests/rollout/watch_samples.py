"""A release that is watched in a test: its spec, its flag file, its log, and a clock that is moved by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from abtest.rollout import publish
from abtest.rollout.watch_inputs import LogFolders, SpecFile
from abtest.rollout.watch_ticks import Watched, Watcher
from abtest.store import ledger
from abtest.store.store import Store

START_US = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z
MINUTE, HOUR = 60 * 10**6, 3600 * 10**6
MARGIN = 0.1

SPEC = """
id = "{id}"
control = "baseline"
treatments = ["candidate"]
[[metrics]]
name = "refusal_rate"
kind = "proportion"
event = "refused"
better = "lower"
guardrail = {{ margin = {{ points = {margin} }}, action = "halt" }}
{ramp}
[halt]
flag = {{ file = "flags.json", key = "support-model" }}
{halt}
{more}
"""
RAMP = """
[[ramp]]
stage = "canary"
share = 0.2
[[ramp]]
stage = "ab"
share = 0.5
"""


def flag_of(share: int) -> dict[str, Any]:
    split = {"fractional": [{"var": "targetingKey"}, ["candidate", share], ["baseline", 100 - share]]}
    return {
        "state": "ENABLED", "variants": {"baseline": "gpt", "candidate": "sonnet"}, "defaultVariant": "baseline", "targeting": split,
    }  # fmt: skip


class Release:
    """An experiment in a folder: `call` writes rows, `tick` lets the watch look."""

    def __init__(
        self, folder: Path, *, name: str = "live", ramp: str = RAMP, halt: str = "", more: str = "", share: int = 20
    ) -> None:
        self.folder, self.name = folder, name
        self.spec, self.flags, self.db, self.logs = (
            folder / f"{name}.toml", folder / "flags.json", folder / "s.duckdb", folder / "logs",
        )  # fmt: skip
        self.parts = {"id": name, "margin": MARGIN, "ramp": ramp, "halt": halt, "more": more}
        self.logs.mkdir(exist_ok=True)
        self.write_spec()
        self.write_flag(share)
        self.now_us = START_US
        self.rows = 0
        self.said: list[str] = []

    def write_spec(self, **changes: Any) -> None:
        self.spec.write_text(SPEC.format(**{**self.parts, **changes}), encoding="utf-8")

    def write_flag(self, share: int) -> None:
        self.flags.write_text(json.dumps({"flags": {"support-model": flag_of(share)}}), encoding="utf-8")

    def weights(self) -> dict[str, int]:
        flag = json.loads(self.flags.read_text())["flags"]["support-model"]
        return {pair[0]: pair[1] for pair in flag["targeting"]["fractional"] if isinstance(pair, list)}

    def call(
        self, control: int, treatment: int, *, refused: float = 0.0, at_us: int | None = None, new: str = "u", file: str = "a.jsonl",
        **fields: Any,
    ) -> None:  # fmt: skip
        """Write a call of that many units of each arm; the first part of the treatment's calls is refused."""
        at = datetime.fromtimestamp((self.now_us if at_us is None else at_us) / 1e6, tz=UTC).isoformat()
        lines: list[str] = []
        for arm, count in (("baseline", control), ("candidate", treatment)):
            for n in range(count):
                self.rows += 1
                row = {
                    "interaction_id": f"{self.name}-{self.rows}", "ts": at, "model": "m", "unit_id": f"{new}-{arm}-{n}",
                    "experiment_id": self.name, "variant": arm, "refused": arm == "candidate" and n < refused * count, **fields,
                }  # fmt: skip
                lines.append(json.dumps(row))
        with (self.logs / file).open("a", encoding="utf-8") as log:
            log.write("".join(f"{line}\n" for line in lines))

    def watcher(self, *others: Release, **more: Any) -> Watcher:
        specs = [Watched(SpecFile.of(one.spec)) for one in (self, *others)]
        return Watcher(
            specs, LogFolders(self.db, [self.logs]), self.db, publish.folder_of(self.db), tell=self.said.append,
            clock=lambda: self.now_us, **more,
        )  # fmt: skip

    @contextmanager
    def store(self) -> Iterator[Store]:
        with Store(self.db) as store:
            yield store

    def entries(self, kind: Any = None) -> list[ledger.Entry]:
        with self.store() as store:
            ledger.verify(store.connection)
            return ledger.entries(store.connection, kind=kind)

    def events(self) -> list[str]:
        return [e.body["event"] for e in self.entries("watch")]

    def done(self) -> list[ledger.Entry]:
        return [e for e in self.entries("action") if e.body["status"] == "done"]

    def published(self) -> Mapping[str, Any]:
        found = publish.get(publish.folder_of(self.db))
        assert found is not None
        return found


def decisions(watcher: Watcher) -> Sequence[tuple[str, str]]:
    return [(w.decision.decision, w.decision.reason) for w in watcher.specs if w.decision is not None]
