"""Publishing: a reader sees the old report or the new one, never half a file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import report_samples as samples

from abtest.errors import NoDataError, UsageError
from abtest.report import html, write_report


def entries():
    return [samples.empty(), samples.unknown()]


def test_writes_all_files_and_returns_their_paths(tmp_path):
    out = tmp_path / "a" / "report"
    paths = write_report(entries(), out, generated_from={"store": "x.duckdb"})
    assert paths == {"html": out / "report.html", "index": out / "index.html", "markdown": out / "report.md",
                     "json": out / "report.json"}  # fmt: skip
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "report.html", "report.json", "report.md"]
    assert paths["index"].read_bytes() == paths["html"].read_bytes()
    document = json.loads(paths["json"].read_text())
    for kind in ("html", "markdown"):
        assert document["report_id"] in paths[kind].read_text(encoding="utf-8")
    assert [p.name for p in out.parent.iterdir()] == ["report"]  # nothing of the staging is left


def test_files_can_be_read_by_a_web_server(tmp_path):
    mask = os.umask(0o022)
    try:
        paths = write_report(entries(), tmp_path / "out")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert stat.S_IMODE(paths["html"].stat().st_mode) == 0o644


def test_writing_again_gives_the_same_bytes_and_leaves_other_files_alone(tmp_path):
    out = tmp_path / "out"
    before = {kind: path.read_bytes() for kind, path in write_report(entries(), out).items()}
    (out / "notes.txt").write_text("mine")
    after = {kind: path.read_bytes() for kind, path in write_report(entries(), out).items()}
    assert after == before
    assert (out / "notes.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failure_while_rendering_leaves_the_old_report(tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = {kind: path.read_bytes() for kind, path in write_report(entries(), out).items()}

    def broken(model):
        raise RuntimeError("template")

    monkeypatch.setattr(html, "render", broken)
    with pytest.raises(RuntimeError, match="template"):
        write_report([samples.unknown()], out)
    assert {kind: (out / name).read_bytes() for kind, name in (("html", "report.html"), ("json", "report.json"))} == {
        kind: before[kind] for kind in ("html", "json")
    }


def test_a_full_disk_leaves_whole_files_and_no_staging(tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_report([samples.empty()], out)
    replace, calls = Path.replace, []

    def second_fails(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", second_fails)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        write_report(entries(), out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    json.loads((out / "report.json").read_text())  # new, and whole
    assert (out / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")  # old, and whole


def test_a_first_report_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch):
    def fails(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(UsageError):
        write_report(entries(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written") as caught:
        write_report(entries(), tmp_path / "out")
    assert caught.value.hint == "give a folder to write to"
    assert (tmp_path / "out").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_to_report_writes_nothing(tmp_path):
    with pytest.raises(NoDataError):
        write_report([], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_hostile_text_can_be_written(tmp_path):
    paths = write_report([samples.hostile()], tmp_path / "out")
    assert all(path.stat().st_size for path in paths.values())
    assert paths["html"].stat().st_size < 500_000
