"""SIGHUP: a new generation of workers, the same sockets, the same segment."""
import os
import signal
import subprocess
import threading

from lib import parallel
from lib.sidecar import SANITIZER_OPTIONS, yaml
from lib.wait import answers, clean_environment, until


def reload(one, **changes):
    """Writes the changed configuration and asks for it; returns the workers there were."""
    before = set(one.workers)
    for path, value in changes.items():
        at = one.config
        *way, last = path.split("__")
        for key in way:
            at = at.setdefault(key, {})
        at[last] = value
    one.config_path.write_text(yaml(one.config))
    one.child.kill(signal.SIGHUP)
    return before


def replaced(one, before):
    until("new workers serve and the old ones are gone", 15, lambda: one.workers and not before & set(one.workers))


def test_a_reload_replaces_the_workers_and_the_new_policy_counts(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    assert one.call("orders", "GET", "/").status == 200
    before = reload(one, defaults__timeout={"read": 0.2}, defaults__retry={"max_attempts": 1})
    replaced(one, before)
    answer = one.call("orders", "GET", "/hang")
    assert answer.status == 504 and "0.2s" in answer.problem["title"]


def test_status_and_events_tell_of_the_configuration_in_force(sidecar, origin):
    one = sidecar({"orders": origin.url})
    before = one.ctl("status").json
    assert before["preset"] == "default"
    replaced(one, reload(one, preset="high-latency"))
    after = one.ctl("status").json
    assert after["preset"] == "high-latency" and after["config_hash"] != before["config_hash"]
    assert one.metrics().get("rhc_config_info", hash=after["config_hash"], preset="high-latency") == 1
    told = [line.split()[-2:] for line in one.ctl("events", "--type", "config", output="table").text.splitlines()
            if " generation=" in line]
    assert told == [["generation=1", f"hash={before['config_hash']}"], ["generation=2", f"hash={after['config_hash']}"]]


def test_a_sidecar_that_was_started_with_closed_descriptors_writes_its_log_nowhere_else(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.stop()
    with subprocess.Popen([one.build / "rhc-sidecar", "--config", one.config_path], preexec_fn=lambda: os.closerange(0, 3),
                          env=clean_environment(SANITIZER_OPTIONS)) as process:
        try:
            until("it is ready", 20, lambda: one.get("/ready")[0] == 200)
            assert all(os.readlink(f"/proc/{process.pid}/fd/{fd}") == "/dev/null" for fd in range(3))
            assert one.call("orders", "GET", "/").status == 200 and one.ctl("audit").code == 0
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_no_call_fails_while_configurations_are_reloaded_under_load(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    stop, statuses = threading.Event(), []

    def caller(_):
        while not stop.is_set():
            statuses.append(one.call("orders", "GET", "/delay/5").status)
    handle = parallel.start(8, caller)
    try:
        for threshold in (6, 7, 8, 9, 6, 7, 8):
            replaced(one, reload(one, defaults__circuit_breaker={"failure_threshold": threshold}))
    finally:
        stop.set()
        parallel.finish(handle)
    assert len(statuses) > 20 and set(statuses) == {200}
    assert one.shown("breaker", "orders")["failure_threshold"] == 8


def test_an_open_breaker_stays_open_over_a_reload_and_the_limit_holds_over_both_generations(sidecar, origin):
    one = sidecar({"orders": origin.url, "dead": "http://127.0.0.1:9"}, workers=2,
                  defaults={"bulkhead": {"max_concurrency": 3}, "retry": {"max_attempts": 1}})
    for _ in range(5):
        one.call("dead", "GET", "/")
    assert one.shown("breaker", "dead")["state"] == "open"
    handle = parallel.start(3, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(3)
    reload(one, defaults__bulkhead={"max_concurrency": 3, "acquisition_timeout": 0.2})
    until("the old generation takes no more", 15, lambda: one.log().count("worker_draining") == 2)
    assert one.call("dead", "GET", "/").problem["type"] == "urn:rhc:error:circuit_open"
    assert one.call("orders", "GET", "/").problem["type"] == "urn:rhc:error:bulkhead_timeout"
    origin.release()
    assert parallel.finish(handle) == [200] * 3
    until("the old generation is gone", 10, lambda: len(one.workers) == 2)
    assert one.call("orders", "GET", "/").status == 200


def test_a_bad_configuration_is_refused_and_the_old_one_goes_on(sidecar, origin):
    one = sidecar({"orders": origin.url})
    before = set(one.workers)
    good = one.config_path.read_text()
    one.config_path.write_text(good + "no_such_key: 1\n")
    one.child.kill(signal.SIGHUP)
    until("it says so", 10, lambda: "reload_refused" in one.log() and "no_such_key" in one.log())
    assert one.call("orders", "GET", "/").status == 200 and set(one.workers) == before


def test_a_key_that_needs_a_restart_is_named_and_nothing_changes(sidecar, origin):
    one = sidecar({"orders": origin.url})
    before = reload(one, workers=2, defaults__timeout={"read": 0.2})
    until("it says so", 10, lambda: "reload_refused" in one.log())
    assert '"key":"workers"' in one.log() and set(one.workers) == before
    assert one.call("orders", "GET", "/delay/400").status == 200


def test_upstreams_come_and_go_and_a_record_is_used_again_by_name(sidecar, origin):
    one = sidecar({"orders": origin.url, "old": origin.url})
    assert one.call("old", "GET", "/").status == 200
    one.config["upstreams"] = {"orders": {"url": origin.url}, "fresh": {"url": origin.url}}
    replaced(one, reload(one))
    assert one.call("fresh", "GET", "/").status == 200 and one.call("orders", "GET", "/").status == 200
    assert one.call("old", "GET", "/").problem["type"] == "urn:rhc:error:no_route"
    names = [row["name"] for row in one.ctl("breaker").json["items"]]
    assert "fresh" in names and "old" not in names
    assert answers(one.port)
