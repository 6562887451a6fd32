"""What it tells: probes, health, metrics, access log, rhcctl."""
import json
import re
import uuid

import pytest

from lib import parallel
from lib.raw import Raw
from lib.wait import free_port, until


@pytest.fixture
def one(sidecar, origin):
    return sidecar({"orders": origin.url, "billing": f"http://127.0.0.1:{free_port()}"}, workers=2,
                   defaults={"retry": {"max_attempts": 1}})


# ---- probes ----

def test_live_and_ready_are_text_and_do_not_depend_on_an_upstream(one):
    assert one.get("/live") == (200, "live\n") and one.get("/ready") == (200, "ready\n")
    assert one.get("/startup")[0] == 200
    for _ in range(6):
        one.call("billing", "GET", "/")
    assert one.breaker("billing") == "open"
    assert one.get("/live")[0] == 200 and one.get("/ready")[0] == 200


def test_unknown_paths_and_methods_are_refused(one):
    assert one.get("/nonsense")[0] == 404
    with Raw(one.telemetry_port) as connection:
        assert connection.call("POST", "/live", body=b"", host="localhost").status == 405


def test_health_has_the_fields_of_the_guide(one):
    for _ in range(5):
        one.call("billing", "GET", "/")
    status, text = one.get("/health")
    health = json.loads(text)
    assert status == 200 and health["client_initialized"] is True
    orders, billing = health["upstreams"]["orders"], health["upstreams"]["billing"]
    assert orders["circuit_breaker_state"] == "closed" and orders["pool_available_slots"] == 50
    assert orders["service_reachable"] is True and 0 <= orders["service_response_time"] < 5
    assert billing["circuit_breaker_state"] == "open" and billing["service_reachable"] is False
    assert "connect_refused" in billing["service_error"] or "refused" in billing["service_error"]
    assert one.breaker("orders") == "closed"


# ---- metrics ----

NAMES = """rhc_build_info rhc_io_engine_info rhc_requests_total rhc_request_duration_seconds
rhc_upstream_attempts_total rhc_retries_total rhc_retry_calls_total rhc_retry_skipped_total
rhc_circuit_breaker_state rhc_circuit_breaker_transitions_total rhc_circuit_breaker_failures
rhc_circuit_breaker_failure_threshold rhc_bulkhead_in_use rhc_bulkhead_max_concurrency rhc_bulkhead_waiting
rhc_bulkhead_rejected_total rhc_upstream_connects_total process_start_time_seconds""".split()


def test_metrics_are_well_formed_and_those_of_the_guide_are_there_from_the_start(one):
    metrics = one.metrics()
    for name in NAMES:
        assert name in metrics.types and metrics.helps.get(name), name
    for name, labels, _ in metrics.samples:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in metrics.types or base in metrics.types, f"{name} has no TYPE"
        if metrics.types.get(name) == "counter":
            assert name.endswith("_total"), name
    seen = [(name, tuple(sorted(labels.items()))) for name, labels, _ in metrics.samples]
    assert len(seen) == len(set(seen)), "a series came twice"
    for upstream in ("orders", "billing"):
        assert metrics.sum("rhc_bulkhead_max_concurrency", upstream=upstream) == 50
        assert metrics.sum("rhc_circuit_breaker_failure_threshold", upstream=upstream) == 5
        assert metrics.sum("rhc_circuit_breaker_state", upstream=upstream) == 1
        assert metrics.sum("rhc_circuit_breaker_state", upstream=upstream, state="closed") == 1
        assert metrics.sum("rhc_requests_total", upstream=upstream) == 0


def test_metrics_count_calls_of_all_workers(one, origin):
    for connection in one.connection_per_worker("orders").values():
        for _ in range(10):
            assert connection.call("GET", "/", host="orders").status == 200
    total = origin.stats()["requests"]
    assert total >= 22
    one.counted(total, "rhc_requests_total", upstream="orders", code="2xx", source="upstream")
    one.counted(total, "rhc_request_duration_seconds_count", upstream="orders")
    one.counted(total, "rhc_upstream_attempts_total", upstream="orders", outcome="success")


def test_a_histogram_adds_up(one):
    for path in ("/", "/delay/30", "/delay/300"):
        one.call("orders", "GET", path)
    one.counted(3, "rhc_request_duration_seconds_count", upstream="orders")
    metrics = one.metrics()
    buckets = [(float(labels["le"].replace("+Inf", "inf")), value) for name, labels, value in metrics.samples
               if name == "rhc_request_duration_seconds_bucket" and labels["upstream"] == "orders"]
    assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets)
    assert buckets[-1] == (float("inf"), 3)
    assert dict(buckets)[0.25] == 2 and dict(buckets)[0.5] == 3
    assert 0.33 <= metrics.sum("rhc_request_duration_seconds_sum", upstream="orders") < 2


def test_openmetrics_is_spoken_to_who_accepts_it(one):
    with Raw(one.telemetry_port) as connection:
        answer = connection.call("GET", "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"},
                                 host="localhost")
        assert answer["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.body.endswith(b"# EOF\n")
        plain = connection.call("GET", "/metrics", host="localhost")
        assert plain["content-type"].startswith("text/plain; version=0.0.4") and b"# EOF" not in plain.body


# ---- access log ----

FIELDS = {"ts": str, "component": str, "start_time": str, "method": str, "path": str, "authority": str, "protocol": str,
          "response_code": int, "response_flags": str, "response_code_details": str, "bytes_received": int,
          "bytes_sent": int, "duration": (int, float), "upstream_cluster": str, "upstream_host": str, "attempts": int,
          "retry_reasons": list, "phases": dict, "overhead_ms": (int, float), "request_id": str, "worker": int,
          "upstream_protocol": str, "downstream_remote_address": str}


def test_a_call_is_one_line_of_json_with_the_known_names(one):
    request_id = str(uuid.uuid4())
    one.call("orders", "POST", "/sha?token=secret", {"x-request-id": request_id, "User-Agent": "te\"st/1"}, body=b"x" * 777)
    line = one.access(request_id)
    for name, kind in FIELDS.items():
        assert isinstance(line.get(name), kind), (name, line)
    assert line["method"] == "POST" and line["path"] == "/sha" and line["authority"] == "orders"
    assert line["response_code"] == 200 and line["response_flags"] == "-" and line["protocol"] == "HTTP/1.1"
    assert line["bytes_received"] == 777 and line["bytes_sent"] > 0 and line["attempts"] == 1
    assert line["upstream_host"].startswith("127.0.0.1:") and line["user_agent"] == 'te"st/1'
    assert {"queue", "pool", "connect", "tls", "ttfb", "backoff"} <= set(line["phases"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
    assert sum(line["phases"].values()) <= line["duration"] + 1
    assert len([x for x in one.access_lines() if x["request_id"] == request_id]) == 1
    assert "secret" not in one.access_path.read_text(), "the query is not for the log"


def test_a_line_says_who_called_and_how_the_connection_to_the_upstream_failed(one):
    ids = [str(uuid.uuid4()) for _ in range(3)]
    with one.connect() as app:
        caller = "127.0.0.1:%d" % app.socket.getsockname()[1]
        for upstream, request_id in zip(("orders", "billing", "orders"), ids):
            app.call("GET", "/", headers={"x-request-id": request_id}, host=upstream)
    lines = [one.access(request_id) for request_id in ids]
    assert [line["downstream_remote_address"] for line in lines] == [caller] * 3
    assert [line["upstream_protocol"] for line in lines] == ["HTTP/1.1", None, "HTTP/1.1"]
    assert lines[0]["upstream_transport_failure_reason"] is lines[2]["upstream_transport_failure_reason"] is None
    assert lines[1]["upstream_transport_failure_reason"].startswith("connection refused (127.0.0.1:")


def test_the_phases_say_where_the_time_went(one):
    request_id = str(uuid.uuid4())
    one.call("orders", "GET", "/delay/200", {"x-request-id": request_id})
    line = one.access(request_id)
    assert 190 <= line["phases"]["ttfb"] <= line["duration"] < 2000


def test_headers_with_secrets_appear_in_no_log(one):
    one.call("orders", "GET", "/", {"Authorization": "Bearer hush-hush", "Cookie": "sid=hush-hush"})
    one.call("billing", "GET", "/", {"Authorization": "Bearer hush-hush"})
    assert "hush-hush" not in one.access_path.read_text() and "hush-hush" not in one.log()


def test_the_log_lines_are_json_objects(one):
    """From the first one on; what is found in the configuration before that is prose for people."""
    lines = one.log().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("{"))
    for line in lines[first:]:
        entry = json.loads(line)
        assert {"ts", "level", "component"} <= set(entry), entry


# ---- rhcctl ----

def test_rhcctl_status_lists_every_upstream_as_table_and_as_json(one):
    for _ in range(5):
        one.call("billing", "GET", "/")
    table = one.ctl("status", output="table").text
    assert re.search(r"^UPSTREAM\s+CIRCUIT\b", table, re.M), table
    assert re.search(r"^orders\s+closed\b", table, re.M | re.I) and re.search(r"^billing\s+OPEN\b", table, re.M | re.I)
    status = one.ctl("status").json
    assert "orders" in json.dumps(status) and "billing" in json.dumps(status)


def test_rhcctl_breaker_show_says_how_many_failures_of_how_many(one):
    for _ in range(3):
        one.call("billing", "GET", "/")
    row = one.shown("breaker", "billing")
    assert (row["failures"], row["failure_threshold"]) == (3, 5) and row["state"] == "closed"
    table = one.ctl("breaker", "show", "billing", output="table").text
    assert re.search(r"\bNAME\s+STATE\b.*\bTHRESHOLD\b", table) and re.search(r"^billing\s+closed\b", table, re.M | re.I)


def test_rhcctl_events_tell_of_the_transition(one):
    for _ in range(5):
        one.call("billing", "GET", "/")
    text = one.ctl("events", output="table").text
    assert re.search(r"^\S+ WARN\s+breaker\b.*\bbilling\b.*\bclosed->open\b", text, re.M), text


def test_rhcctl_workers_lists_their_pids(one):
    text = one.ctl("workers").text
    assert all(re.search(rf"\b{pid}\b", text) for pid in one.workers), text


def test_the_engine_that_runs_is_told(one):
    labels = [labels for name, labels, value in one.metrics().samples if name == "rhc_io_engine_info" and value == 1]
    assert len(labels) == 1 and labels[0]["engine"] in ("io_uring", "epoll")
    wanted = one.config["io"]["engine"]
    assert wanted in ("auto", labels[0]["engine"])


def test_metrics_tell_of_the_oldest_wait_and_of_the_retries_the_budget_allows(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={
        "bulkhead": {"max_concurrency": 1}, "retry": {"budget": {"ratio": 0, "min_per_second": 7}}})
    until("the budget is told", 10, lambda: one.metrics().get("rhc_retry_budget_available", upstream="orders") == 7)
    assert one.metrics().get("rhc_bulkhead_oldest_wait_seconds", upstream="orders") == 0
    holder = parallel.start(1, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    waiter = parallel.start(1, lambda i: one.call("orders", "GET", "/").status)
    until("one waits", 10, lambda: one.metrics().get("rhc_bulkhead_oldest_wait_seconds", upstream="orders") > 0.2)
    assert one.shown("bulkhead", "orders")["oldest_wait_seconds"] > 0.2
    origin.release()
    assert parallel.finish(holder) + parallel.finish(waiter) == [200, 200]


def test_an_upstream_is_told_whole_and_alone(one):
    assert one.call("orders", "GET", "/").status == 200
    row = json.loads(one.get("/api/v1/upstreams/orders", one.admin_port)[1])
    assert (row["kind"], row["name"], row["url"]) == ("Upstream", "orders", one.config["upstreams"]["orders"]["url"])
    assert set(row) >= {"circuit_breaker", "bulkhead", "calls", "attempts", "connections", "health"}
    until("it is counted", 5, lambda: json.loads(one.get("/api/v1/upstreams/orders", one.admin_port)[1])["calls"]["total"] == 1)
    assert row["health"]["service_reachable"] is None and row["bulkhead"]["oldest_wait_seconds"] is None
    every = json.loads(one.get("/api/v1/upstreams", one.admin_port)[1])
    assert every["kind"] == "UpstreamList" and [item["name"] for item in every["items"]] == ["orders", "billing"]
    assert every["items"][1]["calls"]["p50_seconds"] is None
    assert one.get("/api/v1/upstreams/nobody", one.admin_port)[0] == 404
