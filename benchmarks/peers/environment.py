"""A virtual environment for one peer, and a process in it that answers questions, one JSON line each."""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, Self

PEERS = {
    "gbstats": ("gbstats==0.8.0",),
    "tea-tasting": ("tea-tasting==1.14.0",),
    "ville": ("ville==0.1.0",),
    "savvi": ("savvi==0.3.1", "matplotlib"),  # it imports matplotlib without asking for it
}
WORKERS = Path(__file__).parent / "workers"
INSTALL_SECONDS = 600


class PeerUnavailableError(Exception):
    """The peer cannot be had here; the message is the reason."""


class Peer:
    """A peer's process: `with Peer("gbstats") as peer: peer.ask("time", calls=100)`."""

    def __init__(
        self, name: str, environments: Path | None = None, requirements: tuple[str, ...] | None = None
    ) -> None:
        self.name = name
        self._requirements = requirements or PEERS[name]
        self._temporary = tempfile.TemporaryDirectory(prefix="abtest-peer-") if environments is None else None
        self._home = Path(self._temporary.name if self._temporary else environments or "") / name
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._install()
            worker = WORKERS / f"for_{self.name.replace('-', '_')}.py"
            command = [str(self._python), "-W", "ignore", str(worker)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.ask("hello")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate()  # closes its input, on which it ends
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()

    def ask(self, task: str, **arguments: Any) -> Any:
        """Return the worker's answer to one task."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"task": task, **arguments}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerUnavailableError(f"{self.name} was installed but does not run")
        return json.loads(line)

    @property
    def _python(self) -> Path:
        return self._home / ("Scripts" if sys.platform == "win32" else "bin") / "python"

    def _install(self) -> None:
        done, wanted = self._home / ".installed", " ".join(self._requirements)
        if done.exists() and done.read_text(encoding="utf-8") == wanted:
            return
        venv.create(self._home, with_pip=False, clear=True)
        pip = [sys.executable, "-m", "pip", "--python", str(self._python), "--disable-pip-version-check"]
        command = [*pip, "install", "--quiet", *self._requirements]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise PeerUnavailableError(f"{wanted} did not install in {INSTALL_SECONDS} s") from None
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise PeerUnavailableError(errors[-1].removeprefix("ERROR: "))
        done.write_text(wanted, encoding="utf-8")
