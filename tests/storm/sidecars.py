"""A storm over one whole sidecar: its workers are killed and stopped, rhcctl changes it, calls go on all the time.

What is asked of every phase
  * the origin never has more requests at once than the limit allows, but for requests of clients that were killed
  * in phases that should flow, no pause between good answers longer than PAUSE_MAX
  * no counter falls; nobody gets an answer that is not the origin's or a known refusal of ours
  * when it is quiet again: no slot, waiter or probe is left, audit finds nothing, every worker serves
"""
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from lib.servers import Origin  # noqa: E402
from lib.sidecar import Sidecar  # noqa: E402
from lib.wait import clean_environment, until  # noqa: E402

WORKERS, LIMIT, CALLERS, DELAY_MS = 4, 7, 32, 4
ROUND = 0.5  # seconds between looks at the origin's maximum
PAUSE_MAX = 3.0  # a reap is due at once, a worker's tick each second; the rest is a slow machine
PHASES = [  # name, weights of the events, must calls flow?
    ("kills", {"kill": 1}, True),
    ("stops", {"stop": 1}, True),
    ("kills and stops", {"kill": 2, "stop": 3}, True),
    ("rhcctl", {"ctl": 1}, False),
    ("everything", {"kill": 3, "stop": 3, "ctl": 2}, False),
]
COMMANDS = [
    "breaker isolate orders --for 30ms --reason storm", "breaker open orders", "breaker close orders",
    "breaker disable orders --for 50ms", "breaker enable orders", "breaker reset orders", "breaker reset --all",
    "bulkhead set orders --max-concurrency {limit} --for 200ms", "bulkhead set orders --max-concurrency {limit}",
    "bulkhead clear orders", "reap {worker}", "audit", "status", "workers", "overrides", "events --since 1s",
]


class Failure(Exception):
    pass


class Callers:
    def __init__(self, port):
        program = pathlib.Path(__file__).with_name("load.py")
        self.process = subprocess.Popen([sys.executable, program, *map(str, (port, CALLERS, DELAY_MS))],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.last, self.wrong = {"counts": {}, "busy": CALLERS, "longest": 0, "longest_gap": 0}, []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "wrong" in told:
                self.wrong.append(told["wrong"])
            else:
                self.last = told

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class Storm:
    def __init__(self, folder, seed, build, say):
        self.random, self.build, self.say = random.Random(seed), build, say
        self.origin = Origin(folder, program=next(p for p in (build / "tests/origin/rhc-origin", build / "origin/rhc-origin")
                                                  if p.exists()))
        self.one = Sidecar(
            folder, {"orders": self.origin.url}, workers=WORKERS, build=build,
            defaults={"bulkhead": {"max_concurrency": LIMIT, "acquisition_timeout": 10},
                      "circuit_breaker": {"recovery_timeout": 0.05, "failure_threshold": 1000}, "retry": {"max_attempts": 1}},
            supervisor={"hang_timeout": "off", "restart_backoff_min": "10ms", "restart_backoff_max": "20ms"},
            logging={"level": "warn", "format": "json"})
        self.callers = Callers(self.one.port)
        self.stopped, self.events = {}, {"kill": 0, "stop": 0, "ctl": 0}
        self.totals = {}
        self.changing = []

    # ---- events ----

    @staticmethod
    def send(pid, number):
        with contextlib.suppress(ProcessLookupError):  # it was a zombie when we looked
            os.kill(pid, number)

    def kill(self):
        workers = self.one.workers
        if workers:
            pid = self.random.choice(workers)
            self.send(pid, signal.SIGKILL)
            self.stopped.pop(pid, None)

    def stop(self):
        free = [pid for pid in self.one.workers if pid not in self.stopped]
        if len(free) > 1:  # one at least goes on, or nothing could flow
            pid = self.random.choice(free)
            self.send(pid, signal.SIGSTOP)
            self.stopped[pid] = time.monotonic() + self.random.choice((0.01, 0.05, 0.1, 0.3))

    def go_on(self, everybody=False):
        for pid, until_ in list(self.stopped.items()):
            if everybody or time.monotonic() >= until_:
                del self.stopped[pid]
                self.send(pid, signal.SIGCONT)

    def ctl(self):
        limit = self.random.randint(1, 2 * LIMIT)
        command = self.random.choice(COMMANDS).format(limit=limit, worker=self.random.randrange(WORKERS))
        if "bulkhead set" in command:
            self.limits.append(limit)  # before it is asked for
        self.changing = [child for child in self.changing if child[1].poll() is None or self._judge(*child)]
        while len(self.changing) >= 4:
            self._judge(*self.changing.pop(0))
        self.changing.append((command, subprocess.Popen(
            [self.build / "rhcctl", "--shm", self.one.shm, *command.split()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment())))

    def _judge(self, command, child):
        errors = child.communicate(timeout=20)[1].decode()
        allowed = {"reap": (0, 6), "audit": (0, 1)}.get(command.split()[0], (0,))
        if child.returncode not in allowed:
            raise Failure(f"rhcctl {command} ended with {child.returncode}: {errors}")
        return False

    # ---- looking ----

    def look_at_origin(self):
        """Once a round: what the origin had at once, against the limits and the killed of this round and the one before."""
        stats = self.origin.stats()
        self.origin._control("POST", "/control?reset=1")
        limit, reaped = self.one.shown("bulkhead", "orders")["max_concurrency"], self.reaped()
        highest = max(self.limits + self.limits_before)
        if stats["max"] > highest + reaped - self.reaped_at[0]:
            raise Failure(f"the origin had {stats['max']} requests at once; the limit was {highest}, "
                          f"{reaped - self.reaped_at[0]} slots were taken back from killed workers")
        self.limits_before, self.limits = self.limits, [limit]
        self.reaped_at = [self.reaped_at[1], reaped]

    def reaped(self):
        return self.one.metrics().sum("rhc_bulkhead_reaped_total", upstream="orders")

    def look_at_counters(self):
        metrics = self.one.metrics()
        for name, labels, value in metrics.samples:
            if metrics.types.get(name) != "counter":
                continue
            key = (name, tuple(sorted(labels.items())))
            if value < self.totals.get(key, 0):
                raise Failure(f"{name}{labels} fell from {self.totals[key]} to {value}")
            self.totals[key] = value

    def quiet(self):
        """Everybody goes on, nothing is overridden, nobody calls: nothing may be left."""
        self.go_on(everybody=True)
        self.callers.tell("pause")
        for child in self.changing:
            self._judge(*child)
        self.changing = []
        self.one.ctl("bulkhead", "clear", "orders", output="table")
        self.one.ctl("breaker", "close", "orders", output="table")
        until("every call has ended", 30, lambda: self.callers.last["busy"] == 0)
        until("the workers are all there", 20, lambda: len(self.one.workers) == WORKERS)
        until("every slot is back", 5, lambda: self.one.in_use("orders") == 0)
        if self.one.shown("bulkhead", "orders")["waiting"] or self.one.shown("breaker", "orders")["probes"]:
            raise Failure("a waiter or a probe is left")
        audit = self.one.ctl("audit", check=False)
        if audit.code:
            raise Failure(f"audit: {audit.text}")
        for connection in self.one.connection_per_worker("orders").values():
            connection.close()
        if self.one.breaker("orders") != "closed":
            raise Failure("the breaker is not closed")
        if self.callers.wrong:
            raise Failure(f"wrong answers: {self.callers.wrong[:3]}")
        self.look_at_counters()

    # ---- phases ----

    def phase(self, name, weights, flows, seconds):
        self.limits, self.limits_before = [LIMIT], []
        self.reaped_at = [self.reaped()] * 2  # a round ago, now
        good = self.callers.last["counts"].get("ok", 0)
        events = {"kill": 0, "stop": 0, "ctl": 0}
        self.origin._control("POST", "/control?reset=1")
        self.callers.tell("go")
        end, look = time.monotonic() + seconds, time.monotonic() + ROUND
        kinds, shares = list(weights), list(weights.values())
        while time.monotonic() < end:
            kind = self.random.choices(kinds, shares)[0]
            getattr(self, kind)()
            events[kind] += 1
            self.go_on()
            if time.monotonic() >= look:
                self.look_at_origin()
                look = time.monotonic() + ROUND
            time.sleep(self.random.random() * 0.01)
            self.one.child.must_live()
        gap = self.callers.last["longest_gap"]
        self.quiet()
        if flows and gap > PAUSE_MAX:
            raise Failure(f"no good answer for {gap:.1f} s")
        good = self.callers.last["counts"].get("ok", 0) - good
        if not good:
            raise Failure("no call got through")
        for kind, count in events.items():
            self.events[kind] += count
        self.say(f"{name}: {events['kill']} kills, {events['stop']} stops, {events['ctl']} commands; {good} good calls, "
                 f"longest pause {gap:.2f} s, longest call {self.callers.last['longest']:.2f} s")

    def run(self, seconds):
        end = time.monotonic() + seconds
        each = min(4.0, max(1.0, seconds / len(PHASES) - 0.6))
        first = True
        while first or time.monotonic() + each < end:
            for name, weights, flows in PHASES:
                if first or time.monotonic() < end:
                    self.phase(name, weights, flows, each)
            first = False
        self.say(f"all: {sum(self.events.values())} events {self.events}, answers {self.callers.last['counts']}")

    def close(self, well):
        self.go_on(everybody=True)
        self.callers.stop()
        try:
            if well:
                self.one.stop()
        finally:
            self.one.clean_up()
            self.origin.child.process.kill()
            self.origin.child.process.wait(10)
