"""Our side of the nightly benchmarks, and the hand-written SQL, in a process of their own: their memory is theirs alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from serve import serve

from benchmarks.nightly.hand import TASKS as BY_HAND
from benchmarks.nightly.ours import TASKS as OURS

serve({**OURS, **BY_HAND})
