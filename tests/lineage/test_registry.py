"""The registry: nothing registered ever changes, labels move, and the ledger knows every move."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from lineage_logs import BEGIN, HOUR, V12, V13, add, calls, steady

from abtest.errors import SpecError, UsageError
from abtest.lineage.diff import diff
from abtest.lineage.manifest import Manifest
from abtest.lineage.registry import Registry, find, label, register, registry, retire
from abtest.lineage.registry_file import read_registrations, registration
from abtest.lineage.versions import versions
from abtest.store import ledger
from abtest.store.store import Store

OLD_TEXT = "You answer questions.\nReturn strictly valid JSON.\nBe brief.\n"
NEW_TEXT = "You answer questions.\nReturn clean, parseable JSON.\nBe brief.\n"


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "store.duckdb") as made:
        yield made


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def manifests(folder: Path) -> Path:
    (folder / "v12.txt").write_text(OLD_TEXT, encoding="utf-8")
    (folder / "v13.txt").write_text(NEW_TEXT, encoding="utf-8")
    path = folder / "manifests.toml"
    path.write_text(
        """
[[manifest]]
name = "answer-12"
surface = "support"
prompt_name = "answer"
prompt_version = "v12"
prompt_file = "v12.txt"
model = "gpt-4o"
[[manifest]]
prompt_name = "answer"
prompt_version = "v13"
prompt_file = "v13.txt"
model = "gpt-4o"
""",
        encoding="utf-8",
    )
    return path


def test_a_file_registers_its_manifests_with_the_texts(store: Store, tmp_path: Path):
    found = register(store, manifests(tmp_path))
    assert [r.manifest.fields["prompt_sha256"] for r in found] == [sha(OLD_TEXT), sha(NEW_TEXT)]
    assert found[0].prompt_text == OLD_TEXT
    assert [e.body["action"] for e in ledger.entries(store.connection, kind="registry")] == ["register", "register"]
    again = register(store, manifests(tmp_path))
    assert again == found
    assert len(ledger.entries(store.connection)) == 2
    assert ledger.verify(store.connection) == 2


def test_the_same_version_with_other_content_is_refused_with_both_hashes(store: Store, tmp_path: Path):
    path = manifests(tmp_path)
    register(store, path)
    (tmp_path / "v13.txt").write_text(NEW_TEXT + "Never mention prices.\n", encoding="utf-8")
    with pytest.raises(UsageError) as error:
        register(store, path)
    assert sha(NEW_TEXT) in str(error.value)
    assert sha(NEW_TEXT + "Never mention prices.\n") in str(error.value)
    assert len(registry(store).manifests) == 2


def test_the_same_name_with_other_content_is_refused_and_nothing_of_the_file_stays(store: Store):
    (first,) = register(store, registration({"name": "a", "model": "gpt-4o"}))
    other = registration({"name": "a", "model": "gpt-4o-mini"})
    with pytest.raises(UsageError) as error:
        register(store, registration({"name": "b", "model": "o3"}), other)
    assert first.manifest.manifest_id in str(error.value)
    assert other.manifest.manifest_id in str(error.value)
    assert [r.name for r in registry(store).manifests] == ["a"]
    with pytest.raises(UsageError, match="under another name"):
        register(store, registration({"name": "c", "model": "gpt-4o"}))


def test_a_prompt_may_run_on_several_models(store: Store):
    both = [
        registration({"prompt_version": "v1", "prompt_text": "x", "model": m}) for m in ("gpt-4o", "claude-sonnet-4-5")
    ]
    assert len(register(store, *both)) == 2


def test_labels_move_and_move_back(store: Store, tmp_path: Path):
    register(store, manifests(tmp_path))
    first = label(store, "production", "v12")
    second = label(store, "production", "v13")
    back = label(store, "production", "answer-12")
    assert (first.before, second.before, back.before) == (None, first.manifest_id, second.manifest_id)
    assert back.manifest_id == first.manifest_id
    have = registry(store)
    assert have.labels() == {"production": first.manifest_id}
    assert have.labels(second.at_us) == {"production": second.manifest_id}
    assert have.labels(first.at_us - 1) == {}
    assert [m.label for m in have.moves] == ["production"] * 3
    assert label(store, "production", "v12") == back  # where it stands already: nothing is written
    assert len(registry(store).moves) == 3
    ledger.verify(store.connection)


def test_a_replay_sees_the_registry_as_it_was(store: Store, tmp_path: Path):
    register(store, manifests(tmp_path))
    label(store, "production", "v12")
    seq = ledger.entries(store.connection)[-1].seq
    label(store, "production", "v13")
    retire(store, "v12")
    before = registry(store, before_seq=seq + 1)
    assert before.labels() == {
        "production": registry(store).by_id[before.manifests[0].manifest.manifest_id].manifest.manifest_id
    }
    assert before.retired == {}
    assert registry(store, before_seq=1) == Registry()


def test_retiring(store: Store, tmp_path: Path):
    register(store, manifests(tmp_path))
    label(store, "production", "v12")
    with pytest.raises(UsageError, match="move the label"):
        retire(store, "v12")
    label(store, "production", "v13")
    ident = retire(store, "v12").manifest.manifest_id
    assert set(registry(store).retired) == {ident}
    retire(store, "v12")
    assert [e.body["action"] for e in ledger.entries(store.connection)].count("retire") == 1
    label(store, "production", "v12")
    assert registry(store).retired == {}


def test_names_that_mean_nothing_or_too_much(store: Store, tmp_path: Path):
    register(store, manifests(tmp_path), registration({"prompt_version": "v13", "model": "o3"}))
    have = registry(store)
    with pytest.raises(UsageError, match="several"):
        find(have, "v13")
    with pytest.raises(UsageError, match="not registered"):
        find(have, "v99")
    ident = have.manifests[0].manifest.manifest_id
    assert find(have, ident[:8]).manifest.manifest_id == ident
    for name in ("", "1st", "a b", "x" * 101, "-x"):
        with pytest.raises(UsageError, match="label"):
            label(store, name, "v12")
    with pytest.raises(UsageError, match="cannot move"):
        label(store, "answer-12", "v12")
    label(store, "live", "v12")
    with pytest.raises(UsageError, match="labels move"):
        register(store, registration({"name": "live", "model": "x"}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[manifest]]\nmodle = 'x'", "model"),
        ("[[manifest]]\nmodel = 3", "text"),
        ("[[manifest]]\nmodel = ''", "text"),
        ("[[manifest]]\nname = 'x'", "nothing"),
        ("[[manifest]]\nprompt_file = 'missing.txt'", "cannot be read"),
        ("[[manifest]]\nprompt_file = 'x'\nprompt_text = 'y'", "not both"),
        ("[[manifest]]\nprompt_text = 'y'\nprompt_sha256 = 'z'", "newline"),
        ("model = ", "TOML"),
        ("manifest = []", "no manifest"),
        ("manifest = [3]", "no table"),
        ("other = 1\n[[manifest]]\nmodel = 'x'", "beside"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, words: str):
    path = tmp_path / "m.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=words) as error:
        read_registrations(path)
    assert str(tmp_path) in str(error.value)


def test_one_table_and_json_are_files_too(tmp_path: Path):
    (tmp_path / "one.toml").write_text('model = "gpt-4o"', encoding="utf-8")
    (tmp_path / "two.json").write_text(json.dumps({"manifest": [{"model": "a"}, {"model": "b"}]}), encoding="utf-8")
    assert len(read_registrations(tmp_path / "one.toml")) == 1
    assert [r.manifest.fields["model"] for r in read_registrations(tmp_path / "two.json")] == ["a", "b"]
    for name, data in (("bad.json", b"{"), ("bytes.toml", b"\xff\xfe"), ("deep.json", b"[" * 100_000)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SpecError):
            read_registrations(tmp_path / name)
    with pytest.raises(SpecError):
        read_registrations(tmp_path)


def test_what_counts_as_registered(store: Store):
    register(
        store,
        registration({"prompt_name": "answer", "prompt_version": "v12", "prompt_sha256": "a" * 64, "model": "gpt-4o"}),
    )
    have = registry(store)
    running = Manifest.of(V12)
    assert have.knows(running, "support") is True
    assert have.knows(Manifest.of({**V12, "prompt_sha256": None}), "support") is True
    assert have.knows(Manifest.of({**V12, "prompt_sha256": "c" * 64}), "support") is False
    assert have.knows(Manifest.of(V13), "support") is False
    assert have.knows(Manifest.of({"prompt_name": "answer", "model": "gpt-4o"}), "support") is None
    assert have.knows(Manifest.of({"model": "o3"}), "support") is False
    assert have.covers(Manifest.of(V13), "support")
    assert not have.covers(Manifest.of({"prompt_name": "rank", "model": "o3"}), "support")


def test_versions_shows_labels_and_what_is_not_registered(store: Store):
    rng = np.random.default_rng(2)
    add(store, steady(V12, BEGIN, BEGIN + HOUR, 90, rng, surface="support"))
    add(store, steady(V13, BEGIN, BEGIN + HOUR, 9, rng, surface="support"))
    register(store, registration({"prompt_name": "answer", "prompt_version": "v12", "model": "gpt-4o"}))
    label(store, "production", "v12")
    found = versions(store)
    assert [(r.registered, r.labels) for r in found.surfaces] == [(True, ("production",)), (False, ())]
    assert [f.code for f in found.findings] == ["unregistered_version"]
    assert "production" in repr(found)
    assert "not registered" in repr(found)
    assert versions(store, at=BEGIN + HOUR).surfaces[0].labels == ()  # at that time the label was not there


def test_diff_of_two_registered_prompts(store: Store, tmp_path: Path):
    register(store, manifests(tmp_path))
    found = diff(store, "v12", "v13")
    assert set(found.fields) == {"prompt_version", "prompt_sha256"}
    assert found.text_diff is not None
    assert "-Return strictly valid JSON." in found.text_diff
    assert "+Return clean, parseable JSON." in found.text_diff
    assert " Be brief." in found.text_diff
    assert (found.a.text_from, found.b.text_from) == ("registry", "registry")
    label(store, "production", "v13")
    assert diff(store, "v12", "production").to_dict()["text_diff"] == list(found.text_diff)
    assert "parseable" in repr(found)
    assert "parseable" in found._repr_html_()


def test_diff_takes_the_text_of_logged_calls(store: Store):
    add(store, {**calls([V12, V12, V13], [BEGIN + 2, BEGIN, BEGIN + 1]), "interaction_id": ["late", "early", "new"]})
    texts = {"late": "other", "early": "old text", "new": "new\n\x1b[31m<b>text"}
    store.connection.executemany("insert into interaction_text values (?, ?, null, 1)", list(texts.items()))
    found = diff(store, "v12", "v13")
    assert found.text_diff is not None
    assert "-old text" in found.text_diff
    assert (found.a.text_from, found.b.text_from) == ("logs", "logs")
    assert "\x1b" not in repr(found)
    assert "<b>" not in found._repr_html_()


def test_diff_without_texts_and_with_bad_names(store: Store):
    add(store, calls([V12, V13, {**V13, "model": "o3"}], [BEGIN, BEGIN + 1, BEGIN + 2]))
    ids = {m.manifest_id: m for m in (Manifest.of(V12), Manifest.of(V13))}
    found = diff(store, *[i[:10] for i in ids])
    assert found.text_diff is None
    assert "a and b" in found.note
    with pytest.raises(UsageError, match="means 2"):
        diff(store, "v12", "v13")
    with pytest.raises(UsageError, match="no manifest"):
        diff(store, "v12", "v99")
    same = diff(store, "v12", "v12")
    assert same.fields == {}
    assert "every field is the same" in repr(same)
