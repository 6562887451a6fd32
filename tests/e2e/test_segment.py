"""The segment through whole sidecars: exact over workers, kept over restarts, and refused when it is damaged or foreign."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from lib import parallel
from lib.segment import Segment, upstream_index
from lib.sidecar import SANITIZER_OPTIONS, Incomplete, yaml
from lib.wait import clean_environment, free_port, until

NO_RETRY = {"retry": {"max_attempts": 1}}


def waiting(one, name="orders"):
    return one.shown("bulkhead", name)["waiting"]


# ---- exact ----

@pytest.mark.parametrize("limit", [1, 7, 50])
def test_the_origin_never_sees_more_calls_than_the_limit_and_reaches_it(sidecar, origin, limit):
    one = sidecar({"orders": origin.url}, workers=4, defaults={"bulkhead": {"max_concurrency": limit}})
    held = parallel.start(limit, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(limit)
    others = parallel.start(200 - limit, lambda i: one.call("orders", "GET", "/delay/5").status)
    until("all others wait", 20, lambda: waiting(one) == 200 - limit)
    origin.release()
    assert parallel.finish(held) + parallel.finish(others) == [200] * 200
    assert origin.stats()["max"] == limit
    until("every slot is back", 2, lambda: one.in_use("orders") == 0)
    assert one.ctl("audit").code == 0


def test_waiters_of_all_workers_are_served_in_the_order_they_came(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=4, defaults={"bulkhead": {"max_concurrency": 1}})
    holder = one.connect()
    holder.request("GET", "/gate", host="orders")
    origin.wait_current(1)
    count, callers = 60, []
    for i in range(count):  # one after the other, so that their order is known
        connection = one.connect()
        connection.request("GET", f"/delay/1?n={i}", {"x-request-id": f"n-{i}"}, host="orders")
        callers.append(connection)
        until(f"caller {i} waits", 5, lambda: waiting(one) == i + 1)
    origin.release()
    assert holder.read().status == 200
    assert [connection.read().status for connection in callers] == [200] * count
    lines = until("all are in the log", 10, lambda: (lambda found: found if len(found) == count else None)(
        [line for line in one.access_lines() if line["request_id"].startswith("n-")]))
    # with one slot the calls end in the order they were served; which worker wrote first may cross by one
    served = [int(line["request_id"][2:]) for line in sorted(lines, key=lambda line: line["ts"])]
    workers = {line["worker"] for line in lines}
    overtaken = max(sum(1 for later in served[:place] if later > n) for place, n in enumerate(served))
    print(f"60 waiters of {len(workers)} workers: overtaken at most {overtaken} times")
    assert len(workers) > 1 and overtaken <= len(workers) - 1, served


def test_the_limit_is_never_passed_while_it_is_raised_and_lowered_under_load(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={"bulkhead": {"max_concurrency": 20}})
    handle = parallel.start(200, lambda i: [one.call("orders", "GET", "/delay/10", timeout=60).status for _ in range(4)])
    for limit in (3, 12, 1, 20, 5):
        one.ctl("bulkhead", "set", "orders", "--max-concurrency", str(limit))
        until("what ran above the limit has ended", 5, lambda: one.in_use("orders") <= limit)

        time.sleep(0.05)
        origin._control("POST", "/control?reset=1")
        time.sleep(0.3)
        assert origin.stats()["max"] <= limit, limit
    one.ctl("bulkhead", "set", "orders", "--max-concurrency", "50")
    results = parallel.finish(handle, 60)
    assert all(result == [200] * 4 for result in results)


def test_the_breaker_opens_at_exactly_the_threshold_with_failures_of_all_workers(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=3, defaults={**NO_RETRY, "circuit_breaker": {"failure_threshold": 7}})
    connections = list(one.connection_per_worker("orders").values())
    before = origin.stats()["requests"]
    origin.mode("503")
    for i in range(7):
        assert one.breaker("orders") == "closed"
        assert connections[i % 3].call("GET", "/", host="orders").status == 503
    assert one.breaker("orders") == "open"
    for connection in connections:
        assert connection.call("GET", "/", host="orders").problem["type"] == "urn:rhc:error:circuit_open"
    assert origin.stats()["requests"] == before + 7


@pytest.mark.parametrize("probes", [1, 3])
def test_half_open_lets_exactly_so_many_probes_through_over_all_workers(sidecar, origin, probes):
    one = sidecar({"orders": origin.url}, workers=3, defaults={**NO_RETRY, "circuit_breaker": {
        "failure_threshold": 1, "recovery_timeout": 2, "half_open_max_calls": probes, "success_threshold": probes}})
    one.connection_per_worker("orders")
    origin.mode("503")
    one.call("orders", "GET", "/")
    assert one.breaker("orders") == "open"
    origin.mode("ok")
    time.sleep(2.1)
    origin._control("POST", "/control?reset=1")
    handle = parallel.start(60, lambda i: one.call("orders", "GET", "/gate"))
    origin.wait_current(probes)
    time.sleep(0.3)
    assert origin.stats()["current"] == probes and one.shown("breaker", "orders")["probes"] == probes
    assert one.breaker("orders") == "half_open"
    origin.release()
    answers = parallel.finish(handle)
    assert sum(answer.status == 200 for answer in answers) == probes
    assert sum(answer.status == 503 for answer in answers) == 60 - probes
    until("closed", 5, lambda: one.breaker("orders") == "closed")
    assert origin.stats()["max"] == probes


def test_acquisition_timeout_is_kept_under_load(sidecar, origin):
    one = sidecar({"orders": origin.url, "other": origin.url}, workers=2, defaults={
        **NO_RETRY, "bulkhead": {"max_concurrency": 1, "acquisition_timeout": 0.5}})
    holder = parallel.start(1, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)

    def impatient(i):
        if i >= 40:  # load beside them
            return [one.call("other", "GET", "/").status for _ in range(5)] and None
        start = time.monotonic()
        answer = one.call("orders", "GET", "/")
        assert answer.problem["type"] == "urn:rhc:error:bulkhead_timeout"
        return time.monotonic() - start
    took = sorted(t for t in parallel.run(48, impatient) if t)
    print(f"acquisition_timeout 0.5 s: {took[0]:.3f} to {took[-1]:.3f} s, median {took[len(took) // 2]:.3f} s")
    assert took[0] >= 0.499 and took[-1] < 5
    origin.release()
    assert parallel.finish(holder) == [200]


def test_beyond_max_waiting_a_call_is_refused_at_once(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={**NO_RETRY, "bulkhead": {
        "max_concurrency": 1, "max_waiting": 4}})
    handle = parallel.start(1, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    waiters = parallel.start(4, lambda i: one.call("orders", "GET", "/").status)
    until("four wait", 5, lambda: waiting(one) == 4)
    start = time.monotonic()
    answer = one.call("orders", "GET", "/")
    assert answer.problem["type"] == "urn:rhc:error:bulkhead_queue_full" and time.monotonic() - start < 1
    origin.release()
    assert parallel.finish(handle) + parallel.finish(waiters) == [200] * 5


# ---- nobody is stranded ----

@pytest.fixture
def queued(sidecar, origin):
    """A sidecar whose one slot is held and six calls wait, three at least in each of two workers."""
    one = sidecar({"orders": origin.url}, workers=2, defaults={**NO_RETRY, "bulkhead": {
        "max_concurrency": 1, "acquisition_timeout": 20}}, supervisor={"hang_timeout": "off"})
    by_worker = one.connection_per_worker("orders")
    held = {worker: [] for worker in by_worker}
    for _ in range(200):
        if all(len(connections) >= 3 for connections in held.values()):
            break
        for worker, connection in one.connection_per_worker("orders").items():
            held[worker].append(connection) if len(held[worker]) < 3 else connection.close()
    by_worker[0].request("GET", "/gate", host="orders")
    origin.wait_current(1)
    for connections in held.values():
        for connection in connections:
            connection.request("GET", "/", host="orders")
    until("six wait", 5, lambda: waiting(one) == 6)
    one.holder, one.held = by_worker[0], held
    return one


def test_a_raised_limit_serves_the_waiters_of_all_workers(queued, origin):
    queued.ctl("bulkhead", "set", "orders", "--max-concurrency", "4")
    for connections in queued.held.values():
        assert [connection.read().status for connection in connections] == [200] * 3
    origin.release()
    assert queued.holder.read().status == 200


def test_the_death_of_the_holder_serves_the_waiters_of_the_others(queued, origin):
    os.kill(queued.workers[0], signal.SIGKILL)
    assert [connection.read().status for connection in queued.held[1]] == [200] * 3
    for connection in [queued.holder] + queued.held[0]:
        with pytest.raises(Incomplete):
            connection.read()


def test_the_death_of_waiters_strands_nobody_behind_them(queued, origin):
    os.kill(queued.workers[1], signal.SIGKILL)
    until("their tickets are gone", 3, lambda: waiting(queued) == 3)
    origin.release()
    assert queued.holder.read().status == 200
    assert [connection.read().status for connection in queued.held[0]] == [200] * 3


def test_a_stopped_worker_keeps_its_slot_and_loses_only_its_turn(queued, origin):
    stopped = queued.workers[1]
    os.kill(stopped, signal.SIGSTOP)
    try:
        origin.release()
        assert queued.holder.read().status == 200
        # its waiters hold older tickets than nobody: those of worker 0 are served meanwhile
        assert [connection.read().status for connection in queued.held[0]] == [200] * 3
        assert waiting(queued) == 3 and queued.in_use("orders") <= 1
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert [connection.read().status for connection in queued.held[1]] == [200] * 3
    until("every slot is back", 2, lambda: queued.in_use("orders") == 0)


def test_a_stopped_worker_with_slots_keeps_them_and_others_stay_below_the_limit(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={**NO_RETRY, "bulkhead": {"max_concurrency": 3}},
                  supervisor={"hang_timeout": "off"})
    connections = one.connection_per_worker("orders")
    connections[0].request("GET", "/gate", host="orders")
    origin.wait_current(1)
    os.kill(one.workers[0], signal.SIGSTOP)
    try:
        for _ in range(5):
            connections[1].call("GET", "/delay/300", host="orders")
        assert one.in_use("orders") == 1  # longer than two reap intervals: still its own
    finally:
        os.kill(one.workers[0], signal.SIGCONT)
    origin.release()
    assert connections[0].read().status == 200


def test_the_probe_of_a_stopped_worker_is_taken_over_when_its_lease_ends_and_not_before(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, supervisor={"hang_timeout": "off"}, defaults={
        **NO_RETRY, "timeout": {"connect": 0.5, "read": 1, "write": 0.5, "pool": 0.5},
        "circuit_breaker": {"failure_threshold": 1, "recovery_timeout": 0.2},
        "bulkhead": {"acquisition_timeout": 0.5}})
    connections = one.connection_per_worker("orders")
    origin.mode("503")
    connections[0].call("GET", "/", host="orders")
    origin.mode("ok")
    assert one.breaker("orders") in ("open", "half_open")
    time.sleep(0.3)
    connections[0].request("GET", "/gate", host="orders")
    origin.wait_current(1)
    permit = Segment(one.shm)
    word = permit.word(permit.up(upstream_index(permit, "orders"), "permit"))
    left = (word >> 24 & 0xffffff) * 256 - time.monotonic_ns() // 1000000 % (256 << 24)
    permit.close()
    os.kill(one.workers[0], signal.SIGSTOP)
    try:
        began = time.monotonic()
        until("another worker's call becomes the probe", 30,
              lambda: connections[1].call("GET", "/", host="orders").status == 200, step=0.05)
        took = (time.monotonic() - began) * 1000
        print(f"lease of {left} ms, taken over after {took:.0f} ms")
        assert left - 300 <= took <= left + 2000
        assert one.breaker("orders") == "closed"
    finally:
        os.kill(one.workers[0], signal.SIGCONT)
    origin.release()
    until("no probe is left", 5, lambda: one.shown("breaker", "orders")["probes"] == 0)
    assert one.breaker("orders") == "closed" and one.ctl("audit").code == 0


# ---- kept ----

def test_an_open_breaker_keeps_its_deadline_and_counters_go_on_over_a_restart(sidecar, origin):
    one = sidecar({"orders": origin.url, "dead": "http://127.0.0.1:9"}, workers=2, defaults={
        **NO_RETRY, "circuit_breaker": {"recovery_timeout": 60}})
    for _ in range(5):
        one.call("dead", "GET", "/")
    assert one.call("orders", "GET", "/").status == 200
    row, at = one.shown("breaker", "dead"), time.monotonic()
    deadline = at + row["next_probe_seconds"]
    acquired = one.shown("bulkhead", "orders")["acquired_total"]
    one.restart()
    row = one.shown("breaker", "dead")
    assert row["state"] == "open" and abs(time.monotonic() + row["next_probe_seconds"] - deadline) < 0.2
    assert one.shown("bulkhead", "orders")["acquired_total"] == acquired
    assert one.call("dead", "GET", "/").problem["type"] == "urn:rhc:error:circuit_open"
    assert one.call("orders", "GET", "/").status == 200
    assert one.shown("bulkhead", "orders")["acquired_total"] == acquired + 1
    assert one.shown("breaker", "dead")["outage_seconds"] > time.monotonic() - at


def test_slots_of_a_sidecar_that_was_killed_as_a_whole_are_back_after_its_restart(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 3}})
    handle = parallel.start(3, lambda i: one.call("orders", "GET", "/gate"))
    origin.wait_current(3)
    workers = one.workers
    os.kill(one.child.pid, signal.SIGSTOP)
    for pid in workers + [one.child.pid]:
        os.kill(pid, signal.SIGKILL)
    one.child.process.wait(10)
    parallel.finish(handle)
    assert one.in_use("orders") == 3
    one.start()
    assert one.in_use("orders") == 0 and '"slots_taken_back":3' in one.log()
    assert one.call("orders", "GET", "/").status == 200


def test_overrides_survive_a_restart_until_their_end(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"bulkhead": {"max_concurrency": 5}})
    one.ctl("bulkhead", "set", "orders", "--max-concurrency", "2", "--for", "6s", "--reason", "kept")
    one.ctl("breaker", "isolate", "orders", "--for", "6s", "--reason", "kept too")
    one.restart()
    rows = one.ctl("overrides").json["items"]
    assert sorted(row["reason"] for row in rows) == ["kept", "kept too"]
    assert all(0 < row["left_seconds"] < 6 for row in rows)
    assert one.breaker("orders") == "isolated"
    until("both ended", 10, lambda: one.breaker("orders") == "closed" and
          one.shown("bulkhead", "orders")["max_concurrency"] == 5)


def test_upstreams_are_matched_by_name_and_a_left_record_is_free_when_its_last_slot_is_back(sidecar, origin):
    one = sidecar({"a": origin.url, "b": origin.url}, workers=1, shm={"max_upstreams": 4})
    one.ctl("breaker", "isolate", "b")
    holder = one.connect()
    holder.request("GET", "/gate", host="a")
    origin.wait_current(1)

    def reload(upstreams):
        before = one.log().count('"event":"reloaded"')
        one.config["upstreams"] = {name: {"url": origin.url} for name in upstreams}
        one.config_path.write_text(yaml(one.config))
        one.child.kill(signal.SIGHUP)
        until("reloaded or refused", 15, lambda: one.log().count('"event":"reloaded"') > before)
    reload(["b", "c"])  # the others are in another order, and "a" still holds a slot
    assert one.breaker("b") == "isolated" and one.breaker("c") == "closed"
    origin.release()
    assert holder.read().status == 200
    until("the old worker is gone", 15, lambda: len(one.workers) == 1)
    reload(["b", "d", "e"])  # the record of "a" or of "c" is used again
    until("the old worker is gone", 15, lambda: len(one.workers) == 1)
    assert {row["name"] for row in one.ctl("breaker").json["items"]} == {"b", "d", "e"}
    assert one.breaker("b") == "isolated" and one.breaker("d") == "closed" and one.ctl("audit").code == 0


# ---- damaged or foreign ----

def start_expecting_refusal(one):
    """Starts the binary on its file; it must end by itself with 1 and one message that names the file."""
    done = subprocess.run([one.build / "rhc-sidecar", "--config", one.config_path], capture_output=True, text=True,
                          timeout=30, env=clean_environment(SANITIZER_OPTIONS))
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "segment_refused" in line]
    assert len(lines) == 1 and str(one.shm) in lines[0], done.stderr
    return lines[0]


def ctl_refuses(one):
    answer = one.ctl("status", check=False)
    assert answer.code in (3, 4) and answer.errors.startswith("rhcctl: ") and str(one.shm) in answer.errors, answer
    return answer.errors


def rewrite(change):
    def damage(path):
        segment = Segment(path)
        change(segment)
        segment.close()
    return damage


DAMAGED = {  # what is done to the file, the reason that is told
    "empty": (lambda path: os.truncate(path, 0), "size"),
    "truncated within its header": (lambda path: os.truncate(path, 100), "size"),
    "truncated": (lambda path: os.truncate(path, os.path.getsize(path) // 2), "size"),
    "longer": (lambda path: os.truncate(path, os.path.getsize(path) + 4096), "size"),
    "zeroed": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "magic"),
    "random": (lambda path: path.write_bytes(os.urandom(path.stat().st_size)), "magic"),
    "a bit flipped": (rewrite(lambda s: s.poke_header("max_workers", s.header("max_workers") ^ 1, sign=False)), "checksum"),
    "another layout": (rewrite(lambda s: s.poke_header("layout_hash", 42)), "layout"),
    "another major": (rewrite(lambda s: s.poke_header("abi_major", 99)), "version"),
    "another boot": (rewrite(lambda s: s.poke_header("boot_id", 42)), "boot"),
    "another time namespace": (rewrite(lambda s: s.poke_header("timens_ino", 42)), "timens|time"),
    "impossible geometry": (rewrite(lambda s: s.poke_header("off_up", 8)), "geometry"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_set_aside_with_its_reason_and_the_limit_holds(sidecar, origin, what):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 2}})
    one.ctl("breaker", "isolate", "orders")
    one.stop()
    damage, reason = DAMAGED[what]
    damage(pathlib.Path(one.shm))
    damaged = one.shm.read_bytes()
    if what not in ("another layout",):  # a reader may look at another build's
        ctl_refuses(one)
    one.start()
    line = next(line for line in one.log().splitlines() if "segment_set_aside" in line)
    assert re.search(reason, json.loads(line)["why"]), line
    aside = list(one.shm_folder.glob("*.bad-*"))
    assert [str(path) for path in aside] == [json.loads(line)["file"]] and aside[0].read_bytes() == damaged
    assert one.breaker("orders") == "closed", "the new file begins anew"
    assert parallel.run(20, lambda i: one.call("orders", "GET", "/delay/5").status) == [200] * 20
    assert origin.stats()["max"] == 2


FOREIGN = {
    "a symbolic link": (lambda path: (shutil.move(path, f"{path}.real"), os.symlink(f"{path}.real", path)), "symlink"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "type|regular|directory"),
    "a fifo": (lambda path: (path.unlink(), os.mkfifo(path)), "type|regular"),
    "open to others": (lambda path: path.chmod(0o666), "mode"),
    "a second name": (lambda path: os.link(path, f"{path}.link"), "link"),
    "another owner's": (lambda path: os.chown(path, 12345, 12345), "owner"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_file_is_refused_and_never_touched(sidecar, origin, what):
    if what == "another owner's" and os.geteuid() != 0:
        pytest.skip("needs root")
    one = sidecar({"orders": origin.url})
    one.stop()
    path = pathlib.Path(one.shm)
    change, reason = FOREIGN[what]
    change(path)
    before = os.lstat(path)
    assert re.search(reason, start_expecting_refusal(one))
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode, before.st_mtime_ns) == (after.st_ino, after.st_mode, after.st_mtime_ns)
    assert not list(one.shm_folder.glob("*.bad-*"))
    if what != "another owner's":  # root may look at anybody's
        ctl_refuses(one)


def test_a_second_supervisor_on_the_same_file_is_refused_and_the_first_goes_on(sidecar, origin):
    one = sidecar({"orders": origin.url})
    config = json.loads(json.dumps(one.config, default=str))
    config["listeners"][0]["address"] = f"127.0.0.1:{free_port()}"
    config["admin"] = {"address": f"127.0.0.1:{free_port()}", "socket": str(one.folder / "second.sock")}
    config["telemetry"]["address"] = f"127.0.0.1:{free_port()}"
    (one.folder / "second.yaml").write_text(yaml(config))
    done = subprocess.run([one.build / "rhc-sidecar", "--config", one.folder / "second.yaml"], capture_output=True,
                          text=True, timeout=30, env=clean_environment(SANITIZER_OPTIONS))
    assert done.returncode == 1 and "expected no other supervisor, found one" in done.stdout + done.stderr
    assert one.call("orders", "GET", "/").status == 200 and one.ctl("audit").code == 0


def test_a_full_tmpfs_is_told_and_nothing_runs(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.stop()
    script = f'mount -t tmpfs -o size=64k none "{one.shm_folder}" && exec "$0" --config "$1"'
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, one.build / "rhc-sidecar", one.config_path],
                          capture_output=True, text=True, timeout=30, env=clean_environment(SANITIZER_OPTIONS))
    if "unshare" in done.stderr or "mount" in done.stderr.split("\n")[0]:
        pytest.skip("no private mounts here")
    assert done.returncode == 1
    line = next(line for line in (done.stdout + done.stderr).splitlines() if "segment_refused" in line)
    assert json.loads(line)["why"] in ("full", "no_space", "space") and str(one.shm) in line


def test_a_file_deleted_while_running_is_told_and_the_limit_still_holds(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 2}})
    one.shm.unlink()
    until("it is told", 5, lambda: "segment_lost" in one.log())
    assert str(one.shm) in next(line for line in one.log().splitlines() if "segment_lost" in line)
    assert parallel.run(20, lambda i: one.call("orders", "GET", "/delay/5").status) == [200] * 20
    assert origin.stats()["max"] == 2
    assert one.ctl("status", check=False).code == 3
    one.restart()
    assert one.ctl("audit").code == 0 and one.call("orders", "GET", "/").status == 200


@pytest.mark.parametrize("size", [0, 4096, 65536])
def test_a_file_truncated_while_running_ends_the_sidecar_with_one_line_and_the_next_start_sets_it_aside(
        sidecar, origin, size):
    one = sidecar({"orders": origin.url}, workers=2)
    os.truncate(one.shm, size)
    assert one.child.process.wait(20) == 1, "it must not die of SIGBUS, nor go on"
    told = [line for line in one.log().splitlines() if "SIGBUS" in line]
    assert told and all(str(one.shm) in line and "truncated while in use" in line for line in told), one.log()[-2000:]
    one.search_log()
    until("its workers are gone", 10, lambda: not subprocess.run(
        ["pgrep", "-f", str(one.config_path)], capture_output=True, text=True).stdout)
    ctl_refuses(one)
    one.start()
    assert "segment_set_aside" in one.log() and one.call("orders", "GET", "/").status == 200


def test_rhcctl_that_follows_a_file_that_is_truncated_says_so(sidecar, origin):
    one = sidecar({"orders": origin.url})
    copy = pathlib.Path(tempfile.mkdtemp(prefix="rhc-copy-", dir="/dev/shm")) / "copy.shm"
    try:
        copy.write_bytes(one.shm.read_bytes())
        copy.chmod(0o600)
        for command in (["breaker", "-w100ms"], ["events", "-f"]):
            with subprocess.Popen([one.build / "rhcctl", "--shm", copy, *command], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True) as reader:
                time.sleep(0.5)
                os.truncate(copy, 0)
                errors = reader.communicate(timeout=20)[1]
                assert reader.returncode in (3, 4) and str(copy) in errors and "truncated" in errors, errors
            copy.write_bytes(one.shm.read_bytes())
    finally:
        shutil.rmtree(copy.parent)
