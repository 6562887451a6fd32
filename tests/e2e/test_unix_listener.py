"""A listener on a path: who may connect, what may lie there, who comes second."""
import os
import signal
import stat
import subprocess

import pytest

from lib.servers import build_folder
from lib.sidecar import SANITIZER_OPTIONS, run_sidecar, yaml
from lib.wait import clean_environment, free_port


def ask(path):
    return subprocess.run(["curl", "-sS", "-m", "20", "--unix-socket", path, "http://orders/bytes/5"],
                          capture_output=True).stdout == bytes(range(5))


@pytest.fixture
def one(sidecar, origin, tmp_path):
    return sidecar({"orders": origin.url}, listeners=[{"name": "sock", "address": f"unix:{tmp_path}/rhc.sock"}])


def other(one, tmp_path):
    """Another instance with the same listener."""
    config = {**one.config, "shm": {"path": f"{one.shm_folder}/other.shm"}, "telemetry": {"address": None},
              "admin": {"address": f"127.0.0.1:{free_port()}", "socket": None}}
    path = tmp_path / "other.yaml"
    path.write_text(yaml(config))
    return subprocess.run([build_folder() / "rhc-sidecar", "--config", path], capture_output=True, text=True, timeout=60,
                          env=clean_environment(SANITIZER_OPTIONS))


def test_owner_and_group_may_connect_and_nobody_else(one, tmp_path):
    found = os.stat(tmp_path / "rhc.sock")
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o660 and found.st_uid == os.geteuid()
    assert ask(tmp_path / "rhc.sock")


def test_a_second_instance_on_the_same_path_does_not_start_and_takes_nothing_away(one, tmp_path):
    done = other(one, tmp_path)
    assert done.returncode == 1 and f"{tmp_path}/rhc.sock" in done.stdout + done.stderr, (done.returncode, done.stderr)
    assert ask(tmp_path / "rhc.sock")


def test_the_file_of_a_sidecar_that_was_killed_is_replaced(one, tmp_path):
    for pid in [one.child.pid, *one.workers]:
        os.kill(pid, signal.SIGKILL)
    one.child.process.wait(10)
    assert (tmp_path / "rhc.sock").exists() and not ask(tmp_path / "rhc.sock")
    one.start()
    assert ask(tmp_path / "rhc.sock")


@pytest.mark.parametrize("what", ["a file", "a directory", "a link to a file"])
def test_what_is_no_socket_is_left_alone_and_nothing_starts(what, one, tmp_path):
    one.stop()
    path, kept = tmp_path / "rhc.sock", tmp_path / "kept"
    path.unlink(missing_ok=True)
    kept.write_text("precious")
    {"a file": lambda: path.write_text("precious"), "a directory": path.mkdir,
     "a link to a file": lambda: path.symlink_to(kept)}[what]()
    done = other(one, tmp_path)
    assert done.returncode == 1 and str(path) in done.stdout + done.stderr, (done.returncode, done.stderr)
    assert kept.read_text() == "precious" and (path.is_dir() or path.read_text() == "precious")


def test_a_path_longer_than_the_kernel_takes_is_an_error_of_the_configuration(one, tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(yaml({**one.config, "listeners": [{"name": "sock", "address": "unix:/tmp/" + "x" * 120}]}))
    done = run_sidecar("--check-config", path)
    assert done.returncode == 78 and "address" in done.stderr + done.stdout, done
