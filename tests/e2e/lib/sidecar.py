"""rhc-sidecar as a test sees it: configured, started, asked, stopped, and searched for bugs."""
import collections
import copy
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid

from .metrics import Metrics
from .raw import Incomplete, Raw
from .servers import build_folder
from .wait import Child, clean_environment, free_port, until

SANITIZERS = re.compile(r"AddressSanitizer|UndefinedBehaviorSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:"
                        r"|Assertion .* failed")
SANITIZER_OPTIONS = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
                     "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1", "LSAN_OPTIONS": "exitcode=99"}
Ctl = collections.namedtuple("Ctl", "code text errors json")


def merge(under, over):
    """over wins; mappings are merged key by key."""
    result = copy.deepcopy(under)
    for key, value in (over or {}).items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else copy.deepcopy(value)
    return result


def yaml(value, indent=0):
    """Block style for what a configuration can hold; strings in the JSON form, which is YAML too."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{key}:{yaml_value(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{pad}-{yaml_value(item, indent)}" for item in value)
    return f"{pad}{json.dumps(value, default=str)}\n"


def yaml_value(value, indent):
    if isinstance(value, (dict, list)) and value:
        return "\n" + yaml(value, indent + 1)
    return f" {json.dumps(value, default=str)}\n"


def run_sidecar(*args, build=None, env=None, timeout=30):
    """rhc-sidecar for a command that ends by itself, as --check-config."""
    return subprocess.run([build or build_folder() / "rhc-sidecar", *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, env=clean_environment({**SANITIZER_OPTIONS, **(env or {})}))


class Sidecar:
    # Waits short enough for tests; everything else as delivered.
    DEFAULTS = {"retry": {"min_wait_seconds": 0.01, "max_wait_seconds": 0.05}}

    def __init__(self, folder, upstreams, workers=1, defaults=None, build=None, env=None, **sections):
        """upstreams: name -> its url, or a mapping with url and policies.  sections: further top-level keys."""
        self.build = pathlib.Path(build or build_folder())
        engine = os.environ.get("RHC_TEST_ENGINE", "auto")
        hostile = {"TEST_HOSTILE_SEED": os.environ.get("TEST_SEED", "1")} if engine == "hostile" else {}
        self.env = {**SANITIZER_OPTIONS, **hostile, **(env or {})}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sidecar-", dir=folder))
        self.shm_folder = pathlib.Path(tempfile.mkdtemp(prefix="rhc-test-", dir="/dev/shm"))
        self.shm = self.shm_folder / "state.shm"
        self.port, self.admin_port, self.telemetry_port = free_port(), free_port(), free_port()
        self.access_path = self.folder / "access.log"
        self.children = []
        self.config = merge({
            "version": 1,
            "workers": workers,
            "io": {"engine": "auto" if hostile else engine},
            "listeners": [{"name": "main", "address": f"127.0.0.1:{self.port}"}],
            "defaults": merge(self.DEFAULTS, defaults),
            "upstreams": {name: u if isinstance(u, dict) else {"url": u} for name, u in upstreams.items()},
            "admin": {"address": f"127.0.0.1:{self.admin_port}", "socket": str(self.folder / "admin.sock")},
            "telemetry": {"address": f"127.0.0.1:{self.telemetry_port}"},
            "shm": {"path": str(self.shm)},
            "logging": {"level": "info", "format": "json",
                        "access_log": {"format": "json", "path": str(self.access_path)}},
            "shutdown": {"max_wait": 5},
        }, sections)
        self.config_path = self.folder / "rhc.yaml"
        self.start()

    # ---- its life ----

    def start(self):
        program = self.build / "rhc-sidecar"
        assert program.exists(), f"{program} is not built; run ./tests/run --e2e"
        self.config_path.write_text(yaml(self.config))
        self.child = Child([program, "--config", self.config_path], self.folder, f"sidecar-{len(self.children)}",
                           env=self.env)
        self.children.append(self.child)
        until("the sidecar is ready", 30, self._is_ready)

    def _is_ready(self):
        self.child.must_live()
        return self.get("/ready")[0] == 200

    def stop(self, number=signal.SIGTERM, seconds=30, code=0):
        """Ends it; the exit code and the log must be those of a program without a bug."""
        ended = self.child.stop(number, seconds)
        self.search_log()
        assert ended == code, f"rhc-sidecar ended with {ended}, not {code}:\n{self.log()[-4000:]}"

    def restart(self):
        self.stop()
        self.start()

    def clean_up(self):
        for child in self.children:
            if child.alive():
                child.process.kill()
                child.process.wait(10)
        shutil.rmtree(self.shm_folder, ignore_errors=True)

    def log(self):
        return "".join(child.logs() for child in self.children)

    def search_log(self):
        found = SANITIZERS.search(self.log())
        assert not found, f"a bug was reported:\n{self.log()[max(0, found.start() - 200):][:8000]}"

    # ---- its processes ----

    @property
    def workers(self):
        """Pids of the worker processes, in the order they were started."""
        children = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text()
        return sorted(int(pid) for pid in children.split())

    # ---- calls through it ----

    def connect(self, timeout=30):
        return Raw(self.port, timeout=timeout)

    def call(self, upstream, method, path, headers=(), body=None, chunks=None, timeout=30):
        """One call on a connection of its own."""
        with self.connect(timeout) as connection:
            return connection.call(method, path, headers, body, chunks, host=upstream)

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    def connection_per_worker(self, upstream, path="/", tries=200):
        """Open connections by worker number, one for each worker.  Which worker has a connection is told
        by the access log; the kernel spreads new connections over the workers' sockets."""
        found, wanted = {}, self.config["workers"]
        for _ in range(tries):
            connection, request_id = self.connect(), f"w-{uuid.uuid4()}"
            answer = connection.call("GET", path, {"x-request-id": request_id}, host=upstream)
            assert answer.status == 200, answer
            worker = self.access(request_id)["worker"]
            if worker in found:
                connection.close()
            else:
                found[worker] = connection
            if len(found) == wanted:
                return found
        raise AssertionError(f"{tries} connections reached only the workers {sorted(found)}")

    # ---- what it tells ----

    def get(self, path, port=None):
        """(status, body) from telemetry, or from another port."""
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.telemetry_port}{path}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, text
        return Metrics(text)

    def counted(self, value, name, seconds=5, **labels):
        """Counters are added up when a call has ended, so a reader may be a moment early."""
        until(f"{name}{labels} is {value}", seconds, lambda: self.metrics().get(name, **labels) == value or None)

    def access_lines(self):
        if not self.access_path.exists():
            return []
        return [json.loads(line) for line in self.access_path.read_text().splitlines()]

    def access(self, request_id):
        """The access-log line of a call.  Only this line is parsed: of a worker that is killed in its write a part stays."""
        def line():
            text = self.access_path.read_text() if self.access_path.exists() else ""
            return next((json.loads(line) for line in text.splitlines() if f'"{request_id}"' in line), None)
        return until(f"the access log has {request_id}", 10, line)

    def ctl(self, *args, check=True, output="json", timeout=20):
        done = subprocess.run([str(self.build / "rhcctl"), "--shm", str(self.shm), "-o", output, *args], text=True,
                              capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL,
                              env=clean_environment(SANITIZER_OPTIONS))
        assert not SANITIZERS.search(done.stderr), done.stderr
        assert not check or done.returncode == 0, f"rhcctl {args}: {done.returncode}\n{done.stdout}{done.stderr}"
        try:
            parsed = json.loads(done.stdout)
        except ValueError:
            parsed = None
        return Ctl(done.returncode, done.stdout, done.stderr, parsed)

    def shown(self, noun, name):
        """What `rhcctl NOUN show NAME` says of one upstream, as a mapping."""
        def search(value):
            if isinstance(value, dict):
                if value.get("name") == name or value.get("upstream") == name:
                    return value
                value = list(value.values())
            if isinstance(value, list):
                return next((hit for hit in map(search, value) if hit is not None), None)
            return None
        answer = self.ctl(noun, "show", name)
        found = search(answer.json)
        assert found is not None, f"rhcctl {noun} show {name} does not tell of {name}: {answer.text}{answer.errors}"
        return found

    def breaker(self, name):
        """closed, open, half_open, isolated or disabled."""
        return self.shown("breaker", name)["state"].lower().replace("-", "_")

    def in_use(self, name):
        return self.shown("bulkhead", name)["in_use"]


def peak_rss(pid):
    """The most memory it ever had resident since reset_peak(), in bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M).group(1)) * 1024


def rss(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M).group(1)) * 1024


def reset_peak(pid):
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


__all__ = ["Incomplete", "Sidecar", "merge", "peak_rss", "reset_peak", "rss", "run_sidecar", "yaml"]
