"""Node programs of tests/e2e/node, with their packages from npm (installed once, into build/node)."""
import fcntl
import json
import os
import shutil
import subprocess

import pytest

from .servers import TOP
from .wait import Child, clean_environment, until

SOURCE = TOP / "tests/e2e/node"
FOLDER = TOP / "build/node"
INSTALL_SECONDS = 60  # within the limit of a test


def _same(a, b):
    return b.exists() and a.read_bytes() == b.read_bytes()


def _install():
    """None, or why there are no packages."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = ("package.json", "package-lock.json")
        if (FOLDER / "done").exists() and all(_same(SOURCE / n, FOLDER / n) for n in names):
            return None
        for name in names:
            shutil.copy(SOURCE / name, FOLDER / name)
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=FOLDER, text=True,
                              capture_output=True, timeout=INSTALL_SECONDS)
        if done.returncode:
            return f"npm cannot be reached: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
        (FOLDER / "done").touch()
    return None


_why = []


def need():
    """Skips the test where the packages cannot be had."""
    if not _why:
        try:
            _why.append(_install())
        except subprocess.TimeoutExpired:
            _why.append(f"npm did not end within {INSTALL_SECONDS} s")
    if _why[0]:
        pytest.skip(_why[0])


def environment():
    return {"NODE_PATH": str(FOLDER / "node_modules"), "NO_UPDATE_NOTIFIER": "1"}


class Server:
    """A script that prints its port."""

    def __init__(self, folder, script, *args):
        need()
        self.child = Child(["node", SOURCE / script, *args], folder, script, env=environment())
        self.port = int(until(f"{script} tells its port", 20, self._port))

    def _port(self):
        self.child.must_live()
        return self.child.out.read_text().strip()

    def stop(self):
        self.child.stop()


def run(script, *args, timeout=40):
    """What the script prints, as JSON."""
    need()
    done = subprocess.run(["node", str(SOURCE / script), *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, env=clean_environment({**os.environ, **environment()}))
    assert done.returncode == 0, f"{script} {args}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout.strip().splitlines()[-1])


__all__ = ["Server", "environment", "need", "run"]
