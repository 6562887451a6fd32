"""Admin and telemetry over real sockets: slow readers, many at once, stopped workers, changes by curl."""
import json
import os
import signal
import socket
import subprocess
import time

import pytest

from lib import parallel
from lib.metrics import Metrics
from lib.raw import Raw
from lib.wait import until


@pytest.fixture
def one(sidecar, origin):
    return sidecar({"orders": origin.url, "billing": origin.url}, workers=2, defaults={"retry": {"max_attempts": 1}})


@pytest.fixture
def large(sidecar, origin):
    """As many upstreams as there can be."""
    return sidecar({f"upstream-with-a-rather-long-name-{i:03}": origin.url for i in range(255)})


def curl(one, *args):
    done = subprocess.run(["curl", "-sS", "--max-time", "20", "--unix-socket", str(one.folder / "admin.sock"),
                           "-o", "-", "-w", "\n%{http_code}", *args], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def over_socket(one, method, path, headers=(), body=None):
    args = ["-X", method, f"http://admin{path}"]
    for name, value in dict(headers).items():
        args += ["-H", f"{name}: {value}"]
    return curl(one, *args, *(["-d", body] if body is not None else []))


# ---- changes ----

def test_a_breaker_is_changed_with_a_reason_and_an_end(one):
    code, body = over_socket(one, "POST", "/api/v1/breakers/orders/isolate",
                             body='{"reason": "provider is down", "ttl_seconds": 2}')
    assert code == 200 and json.loads(body)["state"] == "isolated"
    assert one.call("orders", "GET", "/").problem["type"] == "urn:rhc:error:circuit_open"
    assert one.call("billing", "GET", "/").status == 200
    listed = {b["name"]: b for b in json.loads(over_socket(one, "GET", "/api/v1/breakers")[1])["items"]}
    assert listed["orders"]["reason"] == "provider is down" and listed["billing"]["state"] == "closed"
    assert one.metrics().sum("rhc_override_active", upstream="orders", kind="breaker") == 1
    until("it ends by itself", 10, lambda: one.call("orders", "GET", "/").status == 200, step=0.1)
    events = json.loads(over_socket(one, "GET", "/api/v1/events?upstream=orders&since=60")[1])["items"]
    assert "brk_override" in {e["type"] for e in events} and all(e["upstream"] == "orders" for e in events)


def test_over_tcp_nothing_is_changed_unless_it_is_allowed(one):
    with Raw(one.admin_port) as c:
        assert c.call("POST", "/drain", {"x-rhc-admin": "1"}, body=b"", host="localhost").status == 403
    with Raw(one.admin_port) as c:
        assert c.call("GET", "/api/v1/status", host="evil.example").status == 403
    assert one.get("/ready")[0] == 200


def test_drain_takes_it_out_and_it_stays_there_alive(one):
    assert over_socket(one, "POST", "/drain")[0] == 200
    until("it is not ready", 5, lambda: one.get("/ready")[0] == 503)
    until("its workers have ended", 10, lambda: not one.workers)
    time.sleep(1.2)
    assert one.child.alive() and one.get("/live") == (200, "live\n")
    assert over_socket(one, "POST", "/drain")[0] == 200, "twice is once"
    assert json.loads(over_socket(one, "GET", "/api/v1/status")[1])["lifecycle"] == "draining"
    one.stop()


def test_quitquitquit_answers_and_ends_with_0(one):
    assert over_socket(one, "POST", "/quitquitquit") == (200, "bye\n")
    assert one.child.process.wait(10) == 0


def test_lists_have_their_kinds_and_numbers_are_numbers(one):
    for name, kind, key in (("breakers", "BreakerList", "failures"), ("bulkheads", "BulkheadList", "in_use"),
                            ("workers", "WorkerList", "pid"), ("events", "EventList", "time")):
        code, body = over_socket(one, "GET", f"/api/v1/{name}")
        answer = json.loads(body)
        assert code == 200 and answer["apiVersion"] == "rhc.dev/v1" and answer["kind"] == kind
        assert answer["items"] and all(key in item for item in answer["items"])
    workers = json.loads(over_socket(one, "GET", "/api/v1/workers")[1])["items"]
    assert {w["pid"] for w in workers} == set(one.workers) and {w["phase"] for w in workers} == {"serving"}


# ---- load and slowness ----

def test_the_metrics_of_255_upstreams_reach_a_slow_reader_whole(large):
    with socket.create_connection(("127.0.0.1", large.telemetry_port), timeout=20) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
        text, n = [], 0
        while piece := s.recv(65536):
            text.append(piece)
            n += len(piece)
            if n < 400000:
                time.sleep(0.01)
            if len(text) == 20:
                assert large.get("/live")[0] == 200, "others wait for the slow one"
    head, _, body = b"".join(text).partition(b"\r\n\r\n")
    assert b"200 OK" in head and f"content-length: {len(body)}".encode() in head.lower()
    assert len(body) > 3_000_000 and len(Metrics(body.decode()).samples) > 30_000


@pytest.mark.limit(240)  # fifty answers of 5 MB from one process with sanitizers
def test_a_hundred_at_once_get_an_answer_or_a_refusal_and_probes_go_on(large):
    def scrape(i):
        with Raw(large.telemetry_port, timeout=200) as c:
            return c.call("GET", "/metrics" if i % 2 else "/live", host="pod").status
    statuses = parallel.finish(parallel.start(100, scrape), 200)
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 64
    assert large.get("/live")[0] == 200


def test_who_only_holds_connections_keeps_no_probe_out(one):
    held = []
    try:
        for _ in range(300):
            s = socket.create_connection(("127.0.0.1", one.telemetry_port), timeout=5)
            held.append(s)
        until("a probe gets through", 10, lambda: one.get("/live")[0] == 200, step=0.1)
        assert one.get("/ready")[0] == 200
    finally:
        for s in held:
            s.close()


# ---- health ----

def test_health_is_bounded_while_every_worker_is_stopped(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, supervisor={"hang_timeout": "off"},
                  defaults={"health": {"timeout": 0.5}})
    for pid in one.workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answers = parallel.finish(parallel.start(8, lambda i: one.get("/health?strict" if i % 2 else "/health")))
        assert 0.5 <= time.monotonic() - began < 5
        assert [code for code, _ in answers] == [200, 503] * 4
        assert all(json.loads(text)["upstreams"]["orders"]["service_error"] for _, text in answers)
        assert one.get("/metrics")[0] == 200
        until("live notices", 10, lambda: one.get("/live")[0] == 503)
    finally:
        for pid in one.workers:
            os.kill(pid, signal.SIGCONT)
    until("live again", 10, lambda: one.get("/live")[0] == 200)
    assert json.loads(one.get("/health")[1])["upstreams"]["orders"]["service_reachable"] is True


def test_one_stopped_worker_does_not_keep_health_from_being_checked(one):
    for pid in one.workers:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.2)  # its beat is old now, the other's is not
        code, text = one.get("/health")
        os.kill(pid, signal.SIGCONT)
        assert code == 200 and json.loads(text)["upstreams"]["orders"]["service_reachable"] is True


def test_a_health_check_that_waits_survives_a_reload(sidecar, origin):
    """The configuration it began with is freed meanwhile."""
    one = sidecar({"orders": origin.url}, defaults={"health": {"timeout": 3}})
    origin.mode("hang")
    handle = parallel.start(4, lambda i: one.get("/health")[0])
    for threshold in (6, 7, 8):
        one.config["defaults"]["circuit_breaker"] = {"failure_threshold": threshold}
        one.config["defaults"]["health"] = {"timeout": 0.2}
        from lib.sidecar import yaml
        one.config_path.write_text(yaml(one.config))
        one.child.kill(signal.SIGHUP)
        time.sleep(0.3)
    assert parallel.finish(handle) == [200] * 4
    origin.reset()


# ---- what the process says of itself ----

def test_processes_and_workers_tell_what_they_cost(one):
    metrics = until("a second has passed", 5, lambda: (lambda m: m if len(
        [s for s in m.samples if s[0] == "rhc_worker_resident_memory_bytes" and s[2] > 0]) == 2 else None)(one.metrics()))
    assert metrics.sum("process_resident_memory_bytes") > metrics.sum("rhc_worker_resident_memory_bytes") > 1_000_000
    assert 20 < metrics.sum("process_open_fds") < metrics.sum("process_max_fds")
    assert abs(metrics.sum("process_start_time_seconds") - time.time()) < 60
    assert metrics.sum("rhc_workers", state="serving") == 2 and metrics.sum("rhc_workers", state="draining") == 0
    assert metrics.sum("rhc_config_last_reload_successful") == 1
    assert abs(metrics.sum("rhc_config_last_reload_success_timestamp_seconds") - time.time()) < 60
    one.config_path.write_text("nonsense")
    one.child.kill(signal.SIGHUP)
    one.counted(1, "rhc_config_reloads_total", result="failure")
    assert one.metrics().sum("rhc_config_last_reload_successful") == 0
