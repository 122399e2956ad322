"""The published copy: replaced whole, in its folder, and nothing is left behind."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from abtest.rollout import publish


def test_readers_never_see_a_torn_file(tmp_path: Path) -> None:
    stop, problems, reads = threading.Event(), [], []
    publish.put(tmp_path, "x.json", {"n": 0, "text": ""})

    def read() -> None:
        while not stop.is_set():
            try:
                data = json.loads((tmp_path / "x.json").read_text())
                reads.append(len(data["text"]) == data["n"])
            except (OSError, ValueError) as error:
                problems.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(1, 80):
        publish.put(tmp_path, "x.json", {"n": 500 * n, "text": "x" * 500 * n})
    stop.set()
    thread.join()
    assert problems == []
    assert reads
    assert all(reads)
    (tmp_path / ".x.json.abc.tmp").write_text("left behind")
    publish.tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", "ü", ".hidden", "status", "x" * 200])
def test_ids_that_are_no_file_names_stay_in_the_folder(name: str) -> None:
    file = publish.file_of(name)
    assert "/" not in file
    assert not file.startswith(".")
    assert file.isascii()
    assert len(file) < 120
    assert file != publish.STATUS
    assert publish.file_of(name + "2") != file
