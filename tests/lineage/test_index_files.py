"""Exports as they come: every kind of file gives the same rows; what cannot be read is counted and named."""

import gzip
import json

import numpy as np
import polars
import pytest
from index_tools import write

from abtest.errors import LogReadError, UsageError
from abtest.lineage.index_drift import index_drift, merged, named_file
from abtest.lineage.index_files import Export, RowError, moment, number, text, vector

ROWS = [
    {"id": "a", "embedding_model_version": "e@1", "dim": 2, "updated_at": "2026-11-02T00:00:00Z", "vector": [0.5, 1.0]},
    {"id": "b", "embedding_model_version": None, "dim": 2, "updated_at": "2026-11-03T00:00:00Z", "vector": [1.0, -2.0]},
]


def as_parquet(path):
    polars.DataFrame(ROWS).with_columns(polars.col("updated_at").str.to_datetime(time_zone="UTC")).write_parquet(path)


def as_csv(path):
    lines = [
        "id,embedding_model_version,dim,updated_at,vector",
        'a,e@1,2,2026-11-02 00:00:00,"[0.5, 1.0]"',
        'b,,2,2026-11-03 00:00:00,"[1.0, -2.0]"',
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


KINDS = {
    "x.ndjson": lambda p: write(p, ROWS),
    "x.json": lambda p: p.write_text(json.dumps(ROWS), encoding="utf-8"),
    "x.ndjson.gz": lambda p: p.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in ROWS).encode())),
    "x [1]*.parquet": as_parquet,
    "x.csv": as_csv,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_says_the_same(name, tmp_path):
    KINDS[name](tmp_path / name)
    found = index_drift(tmp_path / name)
    assert found.inputs[0]["rejected"] == 0
    same = index_drift(ROWS)
    assert found.indexes == same.indexes
    assert found.indexes[0]["dims"] == [{"dim": 2, "rows": 2}]
    assert found.indexes[0]["versions"][0]["first_updated"] in ("2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z")


def test_parquet_gives_the_vectors_that_are_compared_and_the_size_of_the_others(tmp_path):
    KINDS["x [1]*.parquet"](tmp_path / "x.parquet")
    rows = list(Export(tmp_path / "x.parquet", vectors_of=frozenset({"b"})))
    assert [(r["id"], r["vector"], r["vector_size"]) for r in rows] == [("a", None, 2), ("b", [1.0, -2.0], 2)]
    assert "vector_size" not in next(iter(Export(tmp_path / "x.parquet")))
    found = index_drift(tmp_path / "x.parquet", probes=[{"id": "b", "vector": [1.0, -2.0]}])
    assert (found.samples[0]["fits"], found.indexes[0]["dims"]) == (1, [{"dim": 2, "rows": 2}])
    polars.DataFrame({"id": [1, 2], "vector": [[1.0], [2.0]]}).with_columns(
        polars.col("vector").cast(polars.Array(polars.Float32, 1))
    ).write_parquet(tmp_path / "y.parquet")
    assert index_drift(tmp_path / "y.parquet", probes=[{"id": 2, "vector": [5.0]}]).samples[0]["fits"] == 1


def test_a_bad_row_is_counted_and_named(tmp_path):
    lines = [
        json.dumps(ROWS[0]), "{broken", '["no object"]', '{"embedding_model_version": "e@1"}', '{"id": "c", "dim": 2.5}', '{"id": "c", "dim": -1}',
        '{"id": "d", "vector": ["x"]}', '{"id": "e", "vector": []}', '{"id": "f", "vector": [0, 0]}', '{"id": "g", "vector": [1, 1e999]}',
        '{"id": "h", "updated_at": "yesterday"}', '{"id": "i", "embedding_model_version": 7}', '{"id": true}', '{"id": "k"',
    ]  # fmt: skip
    (tmp_path / "x.ndjson").write_text("\n".join(lines), encoding="utf-8")
    (part,) = index_drift(tmp_path / "x.ndjson").inputs
    assert (part["rows"], part["rejected"]) == (14, 12)
    assert part["first_reject"].startswith("row 2: json:")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_an_error(tmp_path, content):
    (tmp_path / "x.ndjson").write_text(content)
    with pytest.raises(LogReadError, match="is empty"):
        index_drift(tmp_path / "x.ndjson")


def test_files_that_are_none(tmp_path):
    with pytest.raises(LogReadError, match="No such file"):
        Export(tmp_path / "nothing")
    with pytest.raises(LogReadError, match="folder"):
        Export(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(LogReadError, match="Parquet is damaged"):
        list(Export(tmp_path / "x.parquet"))
    (tmp_path / "x.ndjson.gz").write_bytes(gzip.compress(b'{"id": "a"}\n' * 9)[:-9])
    with pytest.raises(LogReadError):
        list(Export(tmp_path / "x.ndjson.gz"))


def test_check_names_the_first_bad_row():
    export = Export([{"id": 1}, {}])
    for row in export:
        if not row:
            export.reject("nothing in it")
    with pytest.raises(LogReadError, match="row 2: nothing in it"):
        export.check()


def test_cells():
    row = {
        "t": "x",
        "n": "1.5",
        "i": 7,
        "none": None,
        "empty": "",
        "when": "2026-11-02 10:00:00+02:00",
        "v": "[1, 2.5]",
    }
    assert (text(row, "t"), text(row, "i"), text(row, "none"), text(row, "empty")) == ("x", "7", None, None)
    assert (number(row, "n"), number(row, "i"), number(row, "gone")) == (1.5, 7.0, None)
    assert moment(row, "when") == moment({"when": "2026-11-02T08:00:00Z"}, "when")
    np.testing.assert_array_equal(vector(row, "v"), np.array([1, 2.5], dtype=np.float32))
    for call in (
        lambda: text(row, "none", needed=True), lambda: text({"t": 1.5}, "t"), lambda: number({"n": True}, "n"), lambda: number({"n": "nan"}, "n"),
        lambda: moment({"when": 5}, "when"), lambda: moment({"when": "2026-13-02T00:00:00Z"}, "when"), lambda: vector({}, "v", needed=True),
        lambda: vector({"v": [[1], [2]]}, "v"), lambda: vector({"v": 3}, "v"),
    ):  # fmt: skip
        with pytest.raises(RowError):
            call()


def test_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.ndjson").write_text("{}")
    assert named_file("kb=x.parquet")[0] == "kb"
    assert named_file("a=b.ndjson")[0] is None  # a file of that whole name
    assert named_file("x.parquet")[0] is None
    assert merged([]) is None
    for pairs in ([("a", tmp_path), (None, tmp_path)], [("a", tmp_path), ("a", tmp_path)]):
        with pytest.raises(UsageError, match="name of its own"):
            merged(pairs)
    with pytest.raises(UsageError):
        named_file("kb=")


def test_huge_and_tiny_vectors_have_a_direction():
    index = [{"id": "a", "vector": [1e30, 1e30]}, {"id": "b", "vector": [1e-30, 0.0]}]
    found = index_drift(index, probes=[{"id": "a", "vector": [1, 1]}, {"id": "b", "vector": [1e-20, 0]}])
    assert found.samples[0]["fits"] == 2
