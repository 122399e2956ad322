"""`abtest decide` in a fresh process on a store of 10,000 rows, and how much of it is imports."""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.nightly.logs import Logs, make_store, spec_of, toml_of
from benchmarks.options import Options, table
from benchmarks.stats_speed import spread

ROWS = 10_000
RUNS = 15
LOADED = (
    "import sys; old = set(sys.modules); from abtest.cli.main import run; run(sys.argv[1:]);"
    "print('\\n' + ' '.join(m for m in sys.modules if m not in old), file=sys.stderr)"
)
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
"""


def run(options: Options) -> str:
    """Return the table of the two processes, in turns."""
    with TemporaryDirectory(prefix="abtest-decide-") as name:
        here = Path(name)
        logs = Logs(ROWS, treatments=1)
        db = make_store(logs, here / "abtest.duckdb")
        spec = here / "experiment.toml"
        spec.write_text(toml_of(spec_of(logs, covariate=False)), encoding="utf-8")
        decide = ["decide", str(spec), "--db", str(db), "--exit-zero"]
        modules = subprocess.run([sys.executable, "-c", LOADED, *decide], capture_output=True, text=True, check=True)
        names = modules.stderr.strip().splitlines()[-1].split()
        whole, imports, python = [], [], []
        for _ in range(1 if options.quick else RUNS):
            python.append(_seconds(["-c", "pass"]))
            imports.append(_seconds(["-c", IMPORTS, *names]))
            whole.append(_seconds(["-m", "abtest.cli.main", *decide]))
    share = [a / b for a, b in zip(imports, whole, strict=True)]
    rows = [
        ["`abtest decide`, 10,000 rows (target 0.9 s)", "1.00", spread(whole).text()],
        ["Python and the same imports, nothing else", spread(share).text(), spread(imports).text()],
        ["Python alone", spread([a / b for a, b in zip(python, whole, strict=True)]).text(), spread(python).text()],
    ]
    heavy = [n for n in ("scipy.stats", "statsmodels", "polars", "pandas", "altair") if n in names]
    note = f"{len(names)} modules are loaded; of scipy.stats, statsmodels, polars, pandas, altair: {', '.join(heavy) or 'none'}."
    return f"{table(('in a fresh process', 'share of the whole', 'seconds'), rows)}\n\n{note}"


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - start
