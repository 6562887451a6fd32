"""Where io_uring is refused, whatever way, the sidecar runs on epoll and says so once; forced, it does not start."""
import ctypes
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile

import pytest

from lib import sidecar as sidecar_lib
from lib.servers import build_folder
from lib.sidecar import SANITIZER_OPTIONS, Sidecar, yaml
from lib.wait import clean_environment, free_port

NR_IO_URING_SETUP, EPERM, ENOSYS = 425, 1, 38
RET_KILL_PROCESS, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00050000, 0x7fff0000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SOMEBODY = 65534

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter knows the numbers of x86-64")


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


LIBC = ctypes.CDLL(None, use_errno=True)


def refuse_io_uring(verdict):
    """For preexec_fn: a seccomp filter as container runtimes have one; it is inherited."""
    program = (Instruction * 4)(
        Instruction(0x20, 0, 0, 0),  # load the number of the system call
        Instruction(0x15, 0, 1, NR_IO_URING_SETUP),  # is it this one?
        Instruction(0x06, 0, 0, verdict),
        Instruction(0x06, 0, 0, RET_ALLOW))
    filters = Program(4, program)

    def install():
        if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
                LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filters), 0, 0):
            os._exit(125)
    return install


def no_locked_memory():
    """For preexec_fn: somebody without CAP_IPC_LOCK who may lock nothing."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    os.setgroups([])
    os.setgid(SOMEBODY)
    os.setuid(SOMEBODY)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start(preexec, config...) is a Sidecar whose process first calls preexec."""
    started, child = [], sidecar_lib.Child

    def new(preexec, upstreams, somebody=False, **sections):
        class Prepared(child):
            def __init__(self, args, folder, name, env=None):
                if somebody:
                    give_away(folder, shm)
                plain = subprocess.Popen

                def popen(*popen_args, **popen_options):
                    return plain(*popen_args, preexec_fn=preexec, **popen_options)
                monkeypatch.setattr(subprocess, "Popen", popen)
                try:
                    super().__init__(args, folder, name, env)
                finally:
                    monkeypatch.setattr(subprocess, "Popen", plain)
        shm = []
        monkeypatch.setattr(sidecar_lib, "Child", Prepared)
        if somebody:
            make = tempfile.mkdtemp

            def mkdtemp(*args, **options):
                shm.append(make(*args, **options))
                return shm[-1]
            monkeypatch.setattr(sidecar_lib.tempfile, "mkdtemp", mkdtemp)
        one = Sidecar.__new__(Sidecar)
        started.append(one)
        one.__init__(folder(somebody, tmp_path), upstreams, **sections)
        monkeypatch.setattr(sidecar_lib, "Child", child)
        return one
    yield new
    for one in started:
        if getattr(one, "child", None) and one.child.alive():
            one.stop()
        one.clean_up()


def folder(somebody, tmp_path):
    """pytest's own folders are closed to others."""
    if not somebody:
        return tmp_path
    path = tempfile.mkdtemp(prefix="rhc-e2e-", dir="/tmp")
    os.chmod(path, 0o755)
    return path


def give_away(config_folder, others):
    for path in [config_folder, *others]:
        os.chown(path, SOMEBODY, SOMEBODY)
    for name in os.listdir(config_folder):
        os.chown(os.path.join(config_folder, name), SOMEBODY, SOMEBODY)


def works_on_epoll(one, reason):
    assert one.call("orders", "GET", "/").status == 200
    metrics = one.metrics()
    found = [labels for name, labels, value in metrics.samples if name == "rhc_io_engine_info" and value == 1]
    assert len(found) == 1 and found[0]["engine"] == "epoll", found
    assert reason in found[0]["reason"], found
    lines = [line for line in one.log().splitlines() if "io_uring_unavailable" in line]
    assert len(lines) == 1, lines
    assert reason in lines[0], lines
    assert all('"engine":"epoll"' in line for line in one.log().splitlines() if "worker_serving" in line)


@pytest.mark.parametrize("verdict, reason", [
    (RET_ERRNO | EPERM, "EPERM"), (RET_ERRNO | ENOSYS, "ENOSYS"), (RET_KILL_PROCESS, "SIGSYS")],
    ids=["EPERM", "ENOSYS", "KILL"])
def test_a_filter_that_refuses_io_uring_ends_in_epoll_with_one_line(verdict, reason, start, origin):
    works_on_epoll(start(refuse_io_uring(verdict), {"orders": origin.url}, workers=2, io={"engine": "auto"}), reason)


def refused_to_start(preexec, tmp_path, origin):
    """What it says."""
    path = tmp_path / "forced.yaml"
    path.write_text(yaml({"version": 1, "workers": 1, "io": {"engine": "io_uring"}, "listeners": [
        {"name": "main", "address": f"127.0.0.1:{free_port()}"}], "upstreams": {"orders": {"url": origin.url}},
        "admin": {"address": None, "socket": None}, "telemetry": {"address": None},
        "shm": {"path": f"/dev/shm/rhc-test-forced-{os.getpid()}.shm"}}))
    try:
        done = subprocess.run([str(build_folder() / "rhc-sidecar"), "--config", str(path)], capture_output=True, text=True,
                              timeout=30, preexec_fn=preexec,
                              env=clean_environment(SANITIZER_OPTIONS))
    finally:
        pathlib.Path(f"/dev/shm/rhc-test-forced-{os.getpid()}.shm").unlink(missing_ok=True)
    assert done.returncode == 78, (done.returncode, done.stderr)
    return done.stderr + done.stdout


@pytest.mark.parametrize("verdict", [RET_ERRNO | EPERM, RET_ERRNO | ENOSYS, RET_KILL_PROCESS],
                         ids=["EPERM", "ENOSYS", "KILL"])
def test_io_uring_forced_and_refused_is_no_start_and_a_hint(verdict, tmp_path, origin):
    said = refused_to_start(refuse_io_uring(verdict), tmp_path, origin)
    assert "io_uring" in said and "io.engine" in said, said


ASK_KERNEL = """
import ctypes, errno
ring = ctypes.CDLL(None, use_errno=True).syscall(425, 128, (ctypes.c_ubyte * 120)())
print("made" if ring >= 0 else errno.errorcode[ctypes.get_errno()])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody")
def test_without_lockable_memory_it_serves_on_what_the_kernel_grants(start, origin):
    """Whether a ring is charged to RLIMIT_MEMLOCK depends on the kernel, so this one is asked first, by the same somebody."""
    granted = subprocess.run(["/usr/bin/python3", "-c", ASK_KERNEL], preexec_fn=no_locked_memory, text=True, timeout=30,
                             capture_output=True, check=True).stdout.strip()
    print(f"a ring without lockable memory: {granted}")
    one = start(no_locked_memory, {"orders": origin.url}, somebody=True, workers=2, io={"engine": "auto"})
    try:
        if granted != "made":
            assert granted == "ENOMEM"
            works_on_epoll(one, granted)
        else:
            assert one.call("orders", "GET", "/").status == 200 and "io_uring_unavailable" not in one.log()
            assert one.metrics().sum("rhc_io_engine_info", engine="io_uring") == 1
    finally:
        one.stop()
        shutil.rmtree(one.folder.parent, ignore_errors=True)


def test_epoll_forced_needs_no_reason_and_no_line(start, origin):
    one = start(None, {"orders": origin.url}, io={"engine": "epoll"})
    assert one.call("orders", "GET", "/").status == 200
    assert "io_uring_unavailable" not in one.log()
    assert one.metrics().sum("rhc_io_engine_info", engine="epoll") == 1
