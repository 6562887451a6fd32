"""Starting, pinning, measuring and ending processes; figures from /proc."""
import contextlib
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS = 10
SIGNAL_PARENT_DEATH = 1  # PR_SET_PDEATHSIG
_libc = ctypes.CDLL(None)


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tree(pid):
    """pid and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                    parents[int(entry)] = int(f.read().rpartition(")")[2].split()[1])
    found = [pid]
    for p in found:
        found.extend(child for child, parent in parents.items() if parent == p)
    return found


def cpu_ns(pids):
    """User and system time of all threads, those the kernel made for rings included."""
    total = 0
    for pid in pids:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:  # ended since tree() was asked
            continue
        for task in tasks:
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
    return total


def memory_kib(pids):
    rss = pss = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                text = f.read()
        except OSError:  # ended since tree() was asked
            continue
        rss += int(re.search(r"^Rss:\s+(\d+)", text, re.M)[1])
        pss += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
    return rss, pss


class Env:
    """One run: where things are, on which cores, which niceness."""

    def __init__(self, build, nice):
        self.build, self.nice = build, nice
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            raise Failed("two cores are needed: one for load and origin, one for the proxy")
        self.load_cpu, self.proxy_cpu = {cpus[0]}, {cpus[1]}
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for want in (65536, hard):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (want, max(want, hard)))
                soft = want
                break
        self.files = soft
        self.dir = tempfile.mkdtemp(prefix="rhc-bench-")
        self.shm_dir = tempfile.mkdtemp(prefix="rhc-bench-", dir="/dev/shm")
        self.shm = f"{self.shm_dir}/bench.shm"
        self.ca, self.key = f"{self.dir}/ca.pem", f"{self.dir}/key.pem"
        self.port = self.origin = 0
        self.running = []
        self.call(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                   "-keyout", self.key, "-out", self.ca])

    def tool(self, name):
        return os.path.join(self.build, "tests", "bench", name)

    def program(self, name):
        return os.path.join(self.build, name)

    def call(self, argv, seconds=20):
        r = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
        if r.returncode:
            raise Failed(f"{argv[0]}: {r.stderr.strip()[-400:]}")
        return r.stdout

    def _prepare(self, cpus):
        def child():
            os.sched_setaffinity(0, cpus)
            if self.nice:
                os.nice(self.nice)
            _libc.prctl(SIGNAL_PARENT_DEATH, signal.SIGKILL)  # nothing outlives the run
        return child

    def start(self, argv, cpus, port, name):
        log = open(f"{self.dir}/{name.replace(' ', '-')}.log", "w+", encoding="utf-8", errors="replace")
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                             preexec_fn=self._prepare(cpus))
        p.log = log
        self.running.append(p)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and p.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return p
            time.sleep(0.02)
        log.seek(0)
        text = log.read()[-800:]
        self.stop(p)
        raise Failed(f"{name} does not listen: {text}")

    def stop(self, p):
        """Asks, then insists; its own children are ended by pid too."""
        pids = tree(p.pid) if p.poll() is None else []
        if pids:
            p.send_signal(signal.SIGINT if "nginx" in p.args[0] else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(1)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        p.wait()
        p.log.close()
        if p in self.running:
            self.running.remove(p)

    def load(self, argv, seconds):
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 40,
                           check=False, preexec_fn=self._prepare(self.load_cpu))
        if r.returncode:
            raise Failed(f"{os.path.basename(argv[0])}: {(r.stderr or r.stdout).strip()[-300:]}")
        return r.stdout

    def gated(self, argv, seconds, begin):
        """A load that says "ready" once it is warm; begin() is called, then it may start."""
        p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             preexec_fn=self._prepare(self.load_cpu))
        try:
            ready = p.stdout.readline()  # rhc-load ends by itself when nobody answers
            begin()
            out, err = p.communicate("\n", timeout=seconds + 40)
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
        if p.returncode or not ready:
            raise Failed(f"{os.path.basename(argv[0])}: {err.strip()[-300:]}")
        return out

    def hold(self, argv):
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                preexec_fn=self._prepare(self.load_cpu))

    def close(self):
        for p in list(self.running):
            self.stop(p)
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.shm_dir, ignore_errors=True)


def parse_h2load(text):
    done = re.search(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", text, re.M)
    took = re.search(r"^finished in ([\d.]+)(us|ms|s), ([\d.]+) req/s", text, re.M)
    if not done or not took:
        raise Failed(f"h2load: {text[-300:]}")
    if int(done[2]):
        raise Failed(f"h2load: {done[2]} requests failed")
    return {"answered": int(done[1]), "errors": int(done[3]), "rps": float(took[3]), "bytes": 0}


def h1_load(env, s, port, ms, extra=(), rate=0, begin=lambda: None):
    argv = [env.tool("rhc-load"), f"--to=127.0.0.1:{port}", f"--connections={s.connections}", f"--ms={ms}",
            f"--path={s.path}", f"--hosts={s.hosts}", *extra]
    if "--status=503" not in extra:
        argv.append(f"--expect={0 if s.kind == 'up' else s.size}")
    if s.kind == "up":
        argv.append(f"--post={s.size}")
    if s.kind == "churn":
        argv.append("--close")
    if rate:
        argv.append(f"--rate={rate}")
    if s.kind == "churn":
        begin()
        return json.loads(env.load(argv, ms / 1000))
    return json.loads(env.gated([*argv, "--gate"], ms / 1000, begin))


def h2_load(env, s, port, ms):
    return parse_h2load(env.load(["h2load", "-c8", "-m8", "-t1", f"-D{max(ms, 300)}ms",
                                  f"http://127.0.0.1:{port}{s.path}"], ms / 1000))
