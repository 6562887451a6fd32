"""Start, drain, end, and what outlives an end."""
import os
import signal
import socket
import time
import urllib.request

import pytest

from lib import parallel
from lib.raw import Incomplete
from lib.servers import pattern
from lib.wait import answers, until


def test_sigterm_lets_calls_in_flight_end_and_leaves_with_0(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    handle = parallel.start(6, lambda i: one.call("orders", "GET", "/gate"))
    origin.wait_current(6)
    one.child.kill(signal.SIGTERM)
    until("new connections are refused", 5, lambda: not answers(one.port))
    assert one.child.alive(), "ended with calls in flight"
    origin.release()
    answers_got = parallel.finish(handle)
    assert [a.status for a in answers_got] == [200] * 6
    assert one.child.process.wait(5) == 0
    one.search_log()


def test_while_draining_it_says_not_ready_and_still_alive(sidecar, origin):
    one = sidecar({"orders": origin.url})
    handle = parallel.start(1, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    one.child.kill(signal.SIGTERM)
    until("it says it is not ready", 5, lambda: one.get("/ready")[0] == 503)
    assert "draining" in one.get("/ready")[1] and one.get("/live")[0] == 200
    origin.release()
    assert parallel.finish(handle) == [200]
    assert one.child.process.wait(5) == 0


def test_a_kept_connection_is_told_to_close_while_draining(sidecar, origin):
    one = sidecar({"orders": origin.url})
    with one.connect() as busy, one.connect() as idle:
        assert idle.call("GET", "/", host="orders").status == 200
        busy.request("GET", "/gate", host="orders")
        origin.wait_current(1)
        one.child.kill(signal.SIGTERM)
        assert idle.closed(), "an idle connection keeps the sidecar"
        origin.release()
        answer = busy.read()
        assert answer.status == 200 and busy.closed()
    assert one.child.process.wait(5) == 0


def test_a_call_longer_than_max_wait_does_not_hold_the_end_up(sidecar, origin):
    one = sidecar({"orders": origin.url}, shutdown={"max_wait": 0.5})
    with one.connect() as connection:
        connection.request("GET", "/hang", host="orders")
        origin.wait_current(1)
        began = time.monotonic()
        one.child.kill(signal.SIGTERM)
        assert one.child.process.wait(10) == 0
        assert 0.4 <= time.monotonic() - began < 5
        try:
            assert connection.read().status == 503
        except Incomplete:
            pass


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(second, sidecar, origin):
    one = sidecar({"orders": origin.url}, shutdown={"max_wait": 60})
    with one.connect() as connection:
        connection.request("GET", "/hang", host="orders")
        origin.wait_current(1)
        workers = one.workers
        one.child.kill(signal.SIGTERM)
        until("it drains", 5, lambda: not answers(one.port))
        began = time.monotonic()
        one.child.kill(second)
        one.child.process.wait(5)
        assert time.monotonic() - began < 2
    until("no worker stays behind", 2, lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))
    one.search_log()


def test_workers_end_when_their_supervisor_is_killed(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    workers = one.workers
    one.child.kill(signal.SIGKILL)
    one.child.process.wait(5)

    def gone(pid):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True
    until("no worker stays behind", 5, lambda: all(map(gone, workers)))
    one.start()
    assert one.call("orders", "GET", "/").status == 200


def test_an_open_circuit_stays_open_over_a_restart_and_recovers_then(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={
        "retry": {"max_attempts": 1}, "circuit_breaker": {"recovery_timeout": 4}})
    origin.mode("503")
    opened = time.monotonic()
    for _ in range(5):
        one.call("orders", "GET", "/")
    assert one.breaker("orders") == "open"
    one.restart()
    origin.reset()
    assert time.monotonic() - opened < 4, "this machine is too slow for this test"
    answer = one.call("orders", "GET", "/")
    assert answer.status == 503 and answer.problem["type"] == "urn:rhc:error:circuit_open"
    assert one.breaker("orders") == "open" and origin.stats()["requests"] == 0
    until("the outage ends as if nothing had happened", 8,
          lambda: one.call("orders", "GET", "/").status == 200, step=0.1)
    assert 3 <= time.monotonic() - opened < 9


def test_counters_go_on_after_a_restart(sidecar, origin):
    one = sidecar({"orders": origin.url})
    for _ in range(3):
        one.call("orders", "GET", "/")
    one.counted(3, "rhc_requests_total", upstream="orders", code="2xx")
    one.restart()
    one.call("orders", "GET", "/")
    one.counted(4, "rhc_requests_total", upstream="orders", code="2xx")


def test_slots_of_a_sidecar_that_was_killed_are_free_after_its_restart(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 2}})
    held = [one.connect() for _ in range(2)]
    for connection in held:
        connection.request("GET", "/gate", host="orders")
    origin.wait_current(2)
    workers = one.workers
    one.child.kill(signal.SIGKILL)
    for pid in workers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    one.child.process.wait(5)
    one.start()
    until("the dead ones' slots are free", 2, lambda: one.in_use("orders") == 0)
    assert one.call("orders", "GET", "/", timeout=5).status == 200


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_segment_is_set_aside_and_rebuilt(damage, sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.stop()
    size = one.shm.stat().st_size
    if damage == "cut":
        os.truncate(one.shm, size // 2)
    elif damage == "empty":
        os.truncate(one.shm, 0)
    else:
        with one.shm.open("r+b") as segment:
            segment.write(os.urandom(4096))
    one.start()
    assert one.call("orders", "GET", "/").status == 200
    assert one.breaker("orders") == "closed"


def test_the_first_call_after_ready_succeeds(sidecar, origin):
    for _ in range(3):
        one = sidecar({"orders": origin.url}, workers=3)
        assert [a.body for a in parallel.run(6, lambda i: one.call("orders", "GET", "/bytes/5"))] == [pattern(5)] * 6


@pytest.mark.parametrize("by", ["rhcctl", "admin"])
def test_a_drain_can_be_taken_back_and_nothing_is_lost_by_it(sidecar, origin, by):
    one = sidecar({"orders": origin.url}, workers=2, admin={"mutations": "loopback"}, shutdown={"max_wait": 60})
    held = one.connect()
    held.request("GET", "/gate", host="orders")
    origin.wait_current(1)

    def ask(word):
        if by == "rhcctl":
            assert one.ctl(word).json["draining"] is (word == "drain")
        else:
            request = urllib.request.Request(f"http://127.0.0.1:{one.admin_port}/{word}", method="POST",
                                             headers={"x-rhc-admin": "1"})
            assert urllib.request.urlopen(request, timeout=10).status == 200

    for _ in range(2):  # what was taken back once can be asked for again
        before = set(one.workers)
        ask("drain")
        until("it drains", 10, lambda: one.get("/ready") == (503, "draining\n"))
        until("nobody listens", 10, lambda: not answers(one.port))
        ask("undrain")
        until("it is ready", 20, lambda: one.get("/ready")[0] == 200)
        assert not before & {row["pid"] for row in one.ctl("workers").json["items"] if row["state"] == "serving"}
        assert one.call("orders", "GET", "/").status == 200
        assert one.in_use("orders") == 1, "the call of the drained worker goes on"
    origin.release()
    assert held.read().status == 200
    until("the drained workers are gone", 10, lambda: len(one.workers) == 2)
    assert one.ctl("audit").code == 0 and one.call("orders", "GET", "/").status == 200


def test_a_drain_is_not_taken_back_from_one_that_ends_and_waits_for_an_address_that_is_taken(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.ctl("drain")
    until("nobody listens", 10, lambda: not answers(one.port))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", one.port))
        other.listen()
        one.ctl("undrain")
        until("it says why not", 10, lambda: "undrain_waits" in one.log())
        assert str(one.port) in next(line for line in one.log().splitlines() if "undrain_waits" in line)
        assert one.get("/ready")[0] == 503
    until("it is ready", 20, lambda: one.get("/ready")[0] == 200)
    assert one.call("orders", "GET", "/").status == 200
