"""Workers that die or hang take nothing with them, and the tool works without them."""
import os
import select
import signal
import subprocess
import time

import pytest

from lib import parallel
from lib.raw import Incomplete
from lib.servers import pattern
from lib.wait import until


def readable(connection):
    return bool(select.select([connection.socket], [], [], 0)[0])


def hold(one, connections, each):
    """Keeps `each` calls at the gate per worker, on connections of their own; {worker: connections}."""
    held = {worker: [connection] for worker, connection in connections.items()}
    for _ in range(400):
        if all(len(them) >= each for them in held.values()):
            break
        for worker, connection in one.connection_per_worker("orders").items():
            held[worker].append(connection) if len(held[worker]) < each else connection.close()
    for them in held.values():
        assert len(them) == each
        for connection in them:
            connection.request("GET", "/gate", host="orders")
    return held


def test_a_killed_worker_loses_only_its_calls_and_its_slots_come_back_within_a_second(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={"bulkhead": {"max_concurrency": 9}})
    held = hold(one, one.connection_per_worker("orders"), 3)
    origin.wait_current(9)
    assert one.in_use("orders") == 9
    victim = sorted(held)[1]
    before = one.workers  # none was replaced yet, so they stand in the order of their numbers
    os.kill(before[victim], signal.SIGKILL)
    killed = time.monotonic()
    until("the dead worker's slots are back", 1, lambda: one.in_use("orders") == 6)
    for connection in held.pop(victim):
        with pytest.raises(Incomplete):
            connection.read()
    # a call that needs one of these slots gets it
    assert one.call("orders", "GET", "/", timeout=5).status == 200 and time.monotonic() - killed < 6
    origin.release()
    for connection in (c for them in held.values() for c in them):
        assert connection.read().body == b"through the gate\n"
    until("a new worker stands in its place", 10, lambda: len(one.workers) == 3 and one.workers != before)
    assert set(one.connection_per_worker("orders")) == {0, 1, 2}
    until("every slot is back", 2, lambda: one.in_use("orders") == 0)
    assert one.breaker("orders") == "closed"
    one.counted(3, "rhc_bulkhead_reaped_total", upstream="orders")


def test_a_worker_that_dies_with_the_probe_gives_it_back(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={
        "retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 1, "recovery_timeout": 0.3}})
    connections = one.connection_per_worker("orders")
    origin.mode("503")
    connections[0].call("GET", "/", host="orders")
    origin.reset()

    def probe_is_out():
        connections[0].request("GET", "/gate", host="orders")
        until("refused or at the origin", 5, lambda: origin.stats()["current"] == 1 or readable(connections[0]))
        if origin.stats()["current"] == 1:
            return True
        assert connections[0].read().status == 503
        return False
    until("the probe of worker 0 is out", 5, probe_is_out)
    os.kill(one.workers[0], signal.SIGKILL)
    until("another call became the probe and closed the circuit", 5,
          lambda: connections[1].call("GET", "/", host="orders").status == 200)
    assert one.breaker("orders") == "closed"


def test_under_load_a_killed_worker_costs_only_what_it_held(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={"bulkhead": {"max_concurrency": 30}})
    victim = one.workers[0]
    end = time.monotonic() + 3

    def load(i):
        good, broken = 0, 0
        while time.monotonic() < end:
            try:
                with one.connect(timeout=10) as connection:
                    for _ in range(5):
                        answer = connection.call("GET", "/bytes/100", host="orders")
                        assert (answer.status, answer.body) == (200, pattern(100)), answer
                        good += 1
            except (Incomplete, ConnectionError):
                broken += 1
            if i == 0 and good > 50 and victim in one.workers:
                os.kill(victim, signal.SIGKILL)
        return good, broken
    results = parallel.run(12, load)
    assert sum(good for good, _ in results) > 200
    # each thread has one call at a time, so at most one each is hit; those whose connection waited
    # in the dead worker's queue are served by its successor
    assert all(broken <= 1 for _, broken in results), results
    until("every slot is back", 2, lambda: one.in_use("orders") == 0)


def test_rhcctl_shows_and_resets_a_breaker_while_every_worker_hangs(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"retry": {"max_attempts": 1}},
                  supervisor={"hang_timeout": "off"})
    origin.mode("503")
    for _ in range(5):
        one.call("orders", "GET", "/")
    origin.mode("ok")
    assert one.breaker("orders") == "open"
    workers = one.workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert one.ctl("status").code == 0
        assert one.ctl("breaker", "reset", "orders").code == 0
        assert one.breaker("orders") == "closed"
        assert one.get("/metrics")[0] == 200, "telemetry hangs with the workers"
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
    assert one.call("orders", "GET", "/").status == 200


def test_an_isolated_breaker_refuses_until_it_is_closed_by_hand(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    one.ctl("breaker", "isolate", "orders", "--reason", "provider is down")
    assert one.breaker("orders") == "isolated"
    answer = one.call("orders", "GET", "/")
    assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:circuit_open"
    assert "provider is down" in one.ctl("breaker", "show", "orders", output="json").text + \
        one.ctl("events", output="json").text
    one.ctl("breaker", "close", "orders")
    assert one.call("orders", "GET", "/").status == 200


def test_rhcctl_says_what_is_wrong_in_its_exit_code(sidecar, origin, tmp_path):
    one = sidecar({"orders": origin.url})
    unknown = one.ctl("breaker", "show", "nobody", check=False)
    assert unknown.code == 6 and "rhcctl: no upstream 'nobody'" in unknown.errors
    assert one.ctl("nonsense", check=False).code == 2
    done = subprocess.run([one.build / "rhcctl", "--shm", tmp_path / "none.shm", "status"], capture_output=True)
    assert done.returncode == 3


def test_workers_that_die_at_once_again_and_again_are_restarted_with_growing_waits(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=1)
    for _ in range(4):
        pid = until("there is a worker", 10, lambda: one.workers)[0]
        os.kill(pid, signal.SIGKILL)
        until("it is gone", 5, lambda: pid not in one.workers)
    until("it serves again", 10, lambda: one.workers)
    assert one.call("orders", "GET", "/", timeout=15).status == 200
    one.counted(4, "rhc_worker_restarts_total")
