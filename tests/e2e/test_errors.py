"""The error section of the troubleshooting guide, row by row: texts, statuses, fields, flags, counters."""
import contextlib
import json
import re
import socket
import threading
import time
import uuid

import pytest

from lib import parallel
from lib.raw import Incomplete
from lib.servers import pattern
from lib.wait import free_port, until

ONE_TRY = {"retry": {"max_attempts": 1}}


def proxy_status(answer):
    """(error, parameters) of our own entry in Proxy-Status."""
    value = answer["proxy-status"]
    assert value and value.split(";")[0].strip() == "rhc", value
    found = dict(re.findall(r';\s*([a-z-]+)=("[^"]*"|[^;]+)', value))
    return found.get("error"), {k: v.strip('"') for k, v in found.items()}


def check_own(answer, status, error, proxy_error, flag, exception, upstream):
    """Everything the error table promises of an answer made by the sidecar."""
    assert answer.status == status, answer
    problem = answer.problem
    assert problem["type"] == f"urn:rhc:error:{error}" and problem["status"] == status
    assert problem.get("upstream") == upstream
    got, parameters = proxy_status(answer)
    assert got == proxy_error
    assert error in parameters["details"] and set(flag.split(",")) <= set(re.findall(r"[A-Z]+", parameters["details"]))
    assert answer["x-rhc-error"] == exception
    return problem


def check_access(sidecar, answer, status, error, flag):
    line = sidecar.access(answer["x-request-id"])
    assert line["response_code"] == status and line["response_code_details"] == error
    assert set(flag.split(",")) <= set(line["response_flags"].split(",")), line
    return line


# ---- PoolTimeoutError ----

@pytest.mark.parametrize("wait, text", [(1, "1.0s"), (0.5, "0.5s")])
def test_a_saturated_bulkhead_is_a_pool_timeout_error_after_the_configured_wait(wait, text, sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2,
                  defaults={"bulkhead": {"max_concurrency": 1, "acquisition_timeout": wait}})
    holder = parallel.start(1, lambda _: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    began = time.monotonic()
    answer = one.call("orders", "GET", "/")
    waited = time.monotonic() - began
    problem = check_own(answer, 503, "bulkhead_timeout", "connection_limit_reached", "UO", "PoolTimeoutError", "orders")
    assert problem["title"] == f"Failed to acquire connection slot within {text} - client is saturated"
    assert wait <= waited < wait + 4 and answer["retry-after"] == "1"
    check_access(one, answer, 503, "bulkhead_timeout", "UO")
    origin.release()
    assert parallel.finish(holder) == [200]
    assert one.call("orders", "GET", "/").status == 200
    assert origin.stats()["max"] == 1
    one.counted(1, "rhc_bulkhead_rejected_total", upstream="orders", reason="timeout")
    assert one.breaker("orders") == "closed", "our own refusal counted as a failure of the upstream"


def test_a_full_queue_refuses_at_once(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"bulkhead": {"max_concurrency": 1, "max_waiting": 1}})
    calls = [parallel.start(1, lambda _: one.call("orders", "GET", "/gate").status)]
    origin.wait_current(1)
    calls.append(parallel.start(1, lambda _: one.call("orders", "GET", "/").status))
    until("one call waits", 5, lambda: one.metrics().get("rhc_bulkhead_waiting", upstream="orders") == 1)
    answer = one.call("orders", "GET", "/", timeout=5)
    check_own(answer, 503, "bulkhead_queue_full", "connection_limit_reached", "UO", "PoolTimeoutError", "orders")
    origin.release()
    assert [parallel.finish(call) for call in calls] == [[200], [200]]


def test_a_full_connection_pool_is_a_pool_timeout_error_of_its_own(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"pool": {"max_connections": 1}, "timeout": {"pool": 0.3}})
    holder = parallel.start(1, lambda _: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    began = time.monotonic()
    answer = one.call("orders", "GET", "/")
    assert 0.3 <= time.monotonic() - began < 5
    problem = check_own(answer, 503, "pool_timeout", "connection_limit_reached", "UP", "PoolTimeoutError", "orders")
    assert problem["title"].startswith("Failed to acquire pooled connection within 0.3s")
    origin.release()
    assert parallel.finish(holder) == [200]


# ---- APIConnectionError: Circuit breaker is OPEN ----

FAST_RECOVERY = {"retry": {"max_attempts": 1}, "circuit_breaker": {"recovery_timeout": 1.5}}


def open_circuit(one, origin, connections):
    """Five failures spread over the workers' connections; closed before the fifth, open after it."""
    turns = list(connections.values())
    origin.mode("503")
    before = origin.stats()["requests"]
    for count in range(5):
        assert one.breaker("orders") == "closed", f"open after {count} failures"
        answer = turns[count % len(turns)].call("GET", "/", host="orders")
        assert answer.status == 503 and answer.body == b"by mode\n", answer
    until("the circuit is open", 1, lambda: one.breaker("orders") == "open")
    assert origin.stats()["requests"] - before == 5


def test_five_failures_counted_over_all_workers_open_the_circuit_for_all_at_once(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={"retry": {"max_attempts": 1}})
    connections = one.connection_per_worker("orders")
    open_circuit(one, origin, connections)
    seen = origin.stats()["requests"]
    for connection in connections.values():
        answer = connection.call("GET", "/", host="orders")
        problem = check_own(answer, 503, "circuit_open", "destination_unavailable", "CO", "APIConnectionError", "orders")
        assert problem["title"] == "Circuit breaker is OPEN - failing fast"
        assert 25 <= int(answer["retry-after"]) <= 30
    assert origin.stats()["requests"] == seen, "a refused call reached the upstream"
    check_access(one, answer, 503, "circuit_open", "CO")
    assert one.metrics().sum("rhc_circuit_breaker_state", upstream="orders", state="open") == 1
    one.counted(1, "rhc_circuit_breaker_transitions_total", upstream="orders", **{"from": "closed", "to": "open"})
    one.counted(3, "rhc_circuit_breaker_rejected_total", upstream="orders")


def test_after_the_recovery_timeout_exactly_one_probe_goes_through_and_its_success_closes(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults=FAST_RECOVERY)
    open_circuit(one, origin, one.connection_per_worker("orders"))
    origin.mode("ok")
    opened = time.monotonic()
    while (answer := one.call("orders", "GET", "/")).status == 503 and time.monotonic() < opened + 5:
        assert answer.problem["type"] == "urn:rhc:error:circuit_open"
        time.sleep(0.02)
    assert answer.status == 200 and 1.0 <= time.monotonic() - opened < 5, "not closed by the first probe"
    assert one.breaker("orders") == "closed"
    assert {a.status for a in parallel.run(12, lambda i: one.call("orders", "GET", "/"))} == {200}


def test_of_many_calls_after_the_recovery_timeout_one_is_the_probe_and_the_others_are_refused(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults=FAST_RECOVERY)
    open_circuit(one, origin, one.connection_per_worker("orders"))
    origin.reset()
    stop = threading.Event()

    def hammer(_):
        while not stop.is_set():
            answer = one.call("orders", "GET", "/gate")
            if answer.status == 200:
                return "probe"
            assert answer.problem["type"] == "urn:rhc:error:circuit_open"
        return "refused"

    def rejected():
        return one.metrics().sum("rhc_circuit_breaker_rejected_total", upstream="orders")
    handle = parallel.start(12, hammer)
    origin.wait_current(1)
    before = rejected()
    until("fifty more calls were refused while the probe is out", 10, lambda: rejected() >= before + 50)
    assert origin.stats()["requests"] == 1 and one.breaker("orders") == "half_open"
    stop.set()
    until("the refused have ended", 10, lambda: sum(thread.is_alive() for thread in handle[0]) == 1)
    origin.release()
    assert sorted(parallel.finish(handle)) == ["probe"] + ["refused"] * 11
    assert one.breaker("orders") == "closed"


def test_a_failed_probe_opens_the_circuit_again_within_the_same_outage(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults=FAST_RECOVERY)
    open_circuit(one, origin, one.connection_per_worker("orders"))
    seen = origin.stats()["requests"]
    until("a probe went through", 6, lambda: one.call("orders", "GET", "/").body == b"by mode\n", step=0.05)
    assert one.breaker("orders") == "open"
    assert origin.stats()["requests"] == seen + 1
    one.counted(1, "rhc_circuit_breaker_transitions_total", upstream="orders", **{"from": "half_open", "to": "open"})
    one.counted(1, "rhc_circuit_breaker_probes_total", upstream="orders", result="failure")


def test_a_success_in_between_starts_the_count_anew(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults=ONE_TRY)
    for _ in range(3):
        for _ in range(4):
            assert one.call("orders", "GET", "/status/503").body == b"status\n"
        assert one.call("orders", "GET", "/").status == 200
    assert one.breaker("orders") == "closed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 501])
def test_statuses_of_a_working_upstream_never_open_the_circuit(status, sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults=ONE_TRY)
    for _ in range(8):
        assert one.call("orders", "GET", f"/status/{status}").status == status
    assert one.breaker("orders") == "closed"


def test_with_no_listed_status_only_connection_errors_open_the_circuit(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={**ONE_TRY, "circuit_breaker": {"count_statuses": []}})
    for _ in range(8):
        assert one.call("orders", "GET", "/status/503").body == b"status\n"
    assert one.breaker("orders") == "closed"
    for _ in range(5):
        one.call("orders", "GET", "/reset-before-head")
    assert one.breaker("orders") == "open"


def test_one_upstream_with_an_open_circuit_leaves_the_others_alone(sidecar, origin, nginx):
    one = sidecar({"orders": origin.url, "files": nginx.url("plain")}, workers=2, defaults=ONE_TRY)
    open_circuit(one, origin, one.connection_per_worker("orders"))
    assert one.call("files", "GET", "/small").body == pattern(1000)


# ---- APITimeoutError ----

class DeafPort:
    """Listens, but its queue is full: a connect gets no answer at all."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.fill = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fill.append(filler)

    def close(self):
        for each in [*self.fill, self.listener]:
            each.close()


@pytest.fixture
def deaf():
    port = DeafPort()
    yield f"http://127.0.0.1:{port.port}"
    port.close()


def timed(function):
    began = time.monotonic()
    return function(), time.monotonic() - began


def test_a_connect_timeout_is_an_api_timeout_error_that_says_so(sidecar, deaf):
    one = sidecar({"orders": deaf}, defaults={**ONE_TRY, "timeout": {"connect": 0.4}})
    answer, took = timed(lambda: one.call("orders", "GET", "/"))
    problem = check_own(answer, 504, "connect_timeout", "connection_timeout", "UF,UT", "APITimeoutError", "orders")
    assert problem["title"].startswith("Request timed out") and "no connection within 0.4s" in problem["title"]
    assert 0.4 <= took < 5


def test_a_read_timeout_is_an_api_timeout_error_that_says_so(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={**ONE_TRY, "timeout": {"read": 0.4}})
    answer, took = timed(lambda: one.call("orders", "GET", "/hang"))
    problem = check_own(answer, 504, "read_timeout", "http_response_timeout", "UT", "APITimeoutError", "orders")
    assert problem["title"].startswith("Request timed out") and "no response within 0.4s" in problem["title"]
    assert 0.4 <= took < 5
    check_access(one, answer, 504, "read_timeout", "UT")


def test_a_write_timeout_is_an_api_timeout_error_that_says_so(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={**ONE_TRY, "timeout": {"write": 0.4}})
    with one.connect(timeout=10) as connection:
        connection.socket.settimeout(10)
        handle = parallel.start(1, lambda _: connection.request("POST", "/no-read", body=bytes(64 << 20), host="orders"))
        answer = connection.read()
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)
        parallel.finish(handle)
    problem = check_own(answer, 504, "write_timeout", "connection_write_timeout", "UT", "APITimeoutError", "orders")
    assert problem["title"].startswith("Request timed out") and "took no request bytes for 0.4s" in problem["title"]


@pytest.mark.parametrize("pause", [0.1, 0.5, 0.9])
def test_a_slow_app_is_not_mistaken_for_a_slow_upstream(pause, sidecar, origin):
    """The clock of timeout.write runs only while there are bytes the upstream does not take."""
    one = sidecar({"orders": origin.url}, defaults={**ONE_TRY, "timeout": {"write": 0.3, "read": 0.3}})
    with one.connect() as connection:
        connection.send("PUT /sha HTTP/1.1\r\nHost: orders\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(3):
            time.sleep(pause)
            connection.send(pattern(100000))
        answer = connection.read()
    assert answer.status == 200 and b'"bytes":300000' in answer.body, answer


def test_a_write_timeout_comes_also_when_the_body_begins_after_the_head(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={**ONE_TRY, "timeout": {"write": 0.4}})
    with one.connect(timeout=10) as connection:
        connection.send("POST /no-read HTTP/1.1\r\nHost: orders\r\nContent-Length: 67108864\r\n\r\n")
        origin.wait_current(1)  # the head went ahead alone
        handle = parallel.start(1, lambda _: connection.send(bytes(64 << 20)))
        answer = connection.read()
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)
        parallel.finish(handle)
    assert answer.status == 504 and answer.problem["type"] == "urn:rhc:error:write_timeout"


def test_the_total_timeout_bounds_all_attempts_together(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"timeout": {"read": 0.4, "total": 1}})
    answer, took = timed(lambda: one.call("orders", "GET", "/hang?key=total"))
    problem = check_own(answer, 504, "deadline_total", "http_response_timeout", "UMSDR", "APITimeoutError", "orders")
    assert problem["title"].startswith("Request timed out") and "1.0s" in problem["title"]
    assert 0.9 <= took < 5 and origin.attempts("total") >= 2


def test_the_callers_deadline_tightens_the_total_timeout(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults=ONE_TRY)
    answer, took = timed(lambda: one.call("orders", "GET", "/hang", {"x-rhc-timeout": "300ms"}))
    check_own(answer, 504, "deadline_total", "http_response_timeout", "UMSDR", "APITimeoutError", "orders")
    assert took < 5


@pytest.mark.parametrize("path, flag, details", [
    ("/hang-mid-body?of=1000&at=400", "UT", "body_timeout"),
    ("/reset-mid-body?of=1000&at=400", "UC", "response_incomplete"),
    ("/close-mid-body?of=1000&at=400", "UC", "response_incomplete"),
    ("/close-mid-body?chunked=1&at=400", "UC", "response_incomplete"),
])
def test_an_answer_that_breaks_off_is_never_passed_on_as_whole(path, flag, details, sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"timeout": {"read": 0.4}})
    request_id = str(uuid.uuid4())
    with pytest.raises(Incomplete):
        one.call("orders", "GET", f"{path}&key=cut", {"x-request-id": request_id})
    line = one.access(request_id)
    assert flag in line["response_flags"].split(",") and line["response_code_details"] == details
    assert origin.attempts("cut") == 1, "tried again although the app had the head already"


# ---- AuthenticationError, ServerError ----

@pytest.mark.parametrize("status", [401, 403])
def test_a_401_or_403_passes_through_untouched_and_is_annotated(status, sidecar, origin):
    one = sidecar({"orders": origin.url})
    answer = one.call("orders", "GET", f"/auth/{status}?key=auth", {"Authorization": "Bearer stale"})
    assert answer.status == status and answer.body == b'{"error":"who are you"}\n'
    assert answer["www-authenticate"] == 'Bearer realm="origin"' and answer["x-origin"] == "untouched"
    assert answer["content-type"] == "application/json"
    assert answer["x-rhc-error"] == "AuthenticationError"
    assert origin.attempts("auth") == 1 and one.breaker("orders") == "closed"


def test_a_500_passes_through_once_as_a_server_error(sidecar, origin):
    one = sidecar({"orders": origin.url})
    answer = one.call("orders", "GET", "/status/500?key=five")
    assert (answer.status, answer.body) == (500, b"status\n") and answer["x-rhc-error"] == "ServerError"
    assert origin.attempts("five") == 1


def test_a_503_passes_through_after_its_retries_with_what_the_upstream_said(sidecar, origin):
    one = sidecar({"orders": origin.url})
    answer = one.call("orders", "GET", "/retry-after/0?key=last")
    assert (answer.status, answer.body) == (503, b"later\n") and answer["x-rhc-error"] == "ServerError"
    assert answer["retry-after"] == "0" and answer["x-rhc-attempts"] == "3" and origin.attempts("last") == 3
    assert "URX" in one.access(answer["x-request-id"])["response_flags"].split(",")


def test_a_404_is_nothing_to_remark(sidecar, origin):
    answer = sidecar({"orders": origin.url}).call("orders", "GET", "/status/404")
    assert answer.status == 404 and answer["x-rhc-error"] is None


# ---- the other rows of the table ----

@pytest.mark.parametrize("path, status, error, proxy_error, flag, exception", [
    ("/reset-before-head", 502, "reset_before_headers", "connection_terminated", "UC", "APIConnectionError"),
    ("/close-before-head", 502, "reset_before_headers", "connection_terminated", "UC", "APIConnectionError"),
    ("/garbage", 502, "protocol_error", "http_protocol_error", "UPE", "APIConnectionError"),
    ("/raw/status-line", 502, "protocol_error", "http_protocol_error", "UPE", "APIConnectionError"),
    ("/raw/two-lengths", 502, "protocol_error", "http_protocol_error", "UPE", "APIConnectionError"),
    ("/raw/bad-length", 502, "protocol_error", "http_protocol_error", "UPE", "APIConnectionError"),
    ("/raw/nul", 502, "protocol_error", "http_protocol_error", "UPE", "APIConnectionError"),
    ("/huge-head?n=200000", 502, "response_headers_too_large", "http_response_header_section_size", "UPE", None),
])
def test_each_broken_answer_has_its_row_of_the_error_table(path, status, error, proxy_error, flag, exception, sidecar,
                                                           origin):
    one = sidecar({"orders": origin.url}, defaults=ONE_TRY)
    answer = one.call("orders", "GET", path)
    check_own(answer, status, error, proxy_error, flag, exception, "orders")
    check_access(one, answer, status, error, flag)
    one.counted(1, "rhc_requests_total", upstream="orders", source="sidecar", code="5xx")
    assert one.call("orders", "GET", "/").status == 200


def test_a_refused_connection_has_its_row_of_the_error_table(sidecar):
    one = sidecar({"orders": f"http://127.0.0.1:{free_port()}"}, defaults=ONE_TRY)
    answer = one.call("orders", "GET", "/")
    check_own(answer, 502, "connect_refused", "connection_refused", "UF", "APIConnectionError", "orders")
    check_access(one, answer, 502, "connect_refused", "UF")


def test_a_name_that_does_not_exist_is_a_dns_error(sidecar):
    one = sidecar({"orders": "http://no-such-host.invalid:80"}, defaults={**ONE_TRY, "dns": {"timeout": 2}})
    answer = one.call("orders", "GET", "/")
    # where no name server answers at all, the time runs out instead
    expected = {502: ("dns_failure", "dns_error", "APIConnectionError"),
                504: ("dns_timeout", "dns_timeout", "APITimeoutError")}[answer.status]
    check_own(answer, answer.status, expected[0], expected[1], "DF", expected[2], "orders")


def test_a_name_of_the_hosts_file_is_resolved(sidecar, origin):
    one = sidecar({"orders": f"http://localhost:{origin.port}"})
    assert one.call("orders", "GET", "/bytes/9").body == pattern(9)


def test_an_unknown_upstream_is_no_route(sidecar, origin):
    one = sidecar({"orders": origin.url})
    answer = one.call("nobody.example", "GET", "/")
    assert answer.status == 500 and answer.problem["type"] == "urn:rhc:error:no_route"
    assert proxy_status(answer)[0] == "destination_not_found" and answer["x-rhc-error"] is None


def test_a_target_that_is_not_allowed_is_denied(sidecar, origin):
    one = sidecar({"orders": origin.url})
    with one.connect() as connection:
        answer = connection.call("GET", "http://elsewhere.example/", host="elsewhere.example")
    assert answer.status == 403 and answer.problem["type"] == "urn:rhc:error:denied"


def test_a_call_that_came_through_before_is_a_loop(sidecar, origin):
    one = sidecar({"orders": origin.url})
    seen = json.loads(one.call("orders", "GET", "/echo").body)["headers"]
    via = next(value for name, value in seen if name.lower() == "via")
    answer = one.call("orders", "GET", "/", {"Via": via})
    assert answer.status == 502 and answer.problem["type"] == "urn:rhc:error:loop"


def test_a_caller_who_asks_for_text_gets_text(sidecar):
    one = sidecar({"orders": f"http://127.0.0.1:{free_port()}"}, defaults=ONE_TRY)
    answer = one.call("orders", "GET", "/", {"Accept": "text/plain"})
    assert answer.status == 502 and answer["content-type"].startswith("text/plain")
    assert answer.body.startswith(b"Connection refused")


def test_a_head_gets_the_status_of_an_error_without_its_body(sidecar):
    one = sidecar({"orders": f"http://127.0.0.1:{free_port()}"}, defaults=ONE_TRY)
    with one.connect() as connection:
        assert connection.call("HEAD", "/", host="orders").status == 502
        assert connection.call("HEAD", "/", host="orders").status == 502
