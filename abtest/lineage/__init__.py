"""What is running, since when, and what changed: versions, the registry, the timeline, silent swaps, indexes.

manifest.py      Manifest: prompt, model, parameters ... under one id
seen.py          what ran when, from the logs and a small table of hours that is kept; arms.py of one release
versions.py      versions(): what runs now, or at any past minute; changes.py what changed; words.py in words
registry.py      register, label, retire: what may run, with every move in the ledger; registry_file.py reads manifests
diff.py          two manifests side by side
integrity.py     what should not be: a version with two contents, a silent swap, a retired prompt that runs; models.py
findings.py      release_findings(): what of this can hold a release
timeline.py      changes of versions beside changes of metrics; signals.py reads those, drift.py finds change points
silent_swap.py   the watch on an experiment's baseline
index_*.py       embedding versions and index drift
"""
