"""The supervisor: signals in every state, deaths in every state, descriptors, addresses, what is printed."""
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time

import pytest

from lib import parallel
from lib.sidecar import SANITIZER_OPTIONS, yaml
from lib.wait import Child, answers, clean_environment, free_port, until


def events(one):
    """The log as objects; every line must be one."""
    return [json.loads(line) for line in one.log().splitlines()]


def named(one, name):
    return [e for e in events(one) if e.get("event") == name]


def change(one, **keys):
    """At once, as a ConfigMap changes: a reload that is under way must not see half a file."""
    one.config.setdefault("defaults", {}).setdefault("circuit_breaker", {}).update(keys)
    fresh = one.config_path.with_suffix(".new")
    fresh.write_text(yaml(one.config))
    fresh.rename(one.config_path)


def gone(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def spawn(one, name="other", terminal=None, **sections):
    """Another process with the configuration of `one`, changed; not waited for."""
    path = one.folder / f"{name}.yaml"
    path.write_text(yaml({**one.config, **sections}))
    if terminal is None:
        return Child([one.build / "rhc-sidecar", "--config", path], one.folder, name, env=SANITIZER_OPTIONS)
    return subprocess.Popen([one.build / "rhc-sidecar", "--config", path], stdin=subprocess.DEVNULL, stdout=terminal,
                            stderr=terminal, env=clean_environment(SANITIZER_OPTIONS))


# ---- signals ----

def test_sigterm_at_any_moment_of_the_start_ends_it_cleanly(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    one.stop()
    for wait in [i * 0.004 for i in range(16)]:
        child = spawn(one, f"early-{wait}")
        time.sleep(wait)
        child.kill(signal.SIGTERM)
        code = child.process.wait(10)
        # before main() has begun nobody can take it
        assert code == 0 or (code == -signal.SIGTERM and child.logs() == ""), (wait, code, child.logs())
        assert not answers(one.port) and not (one.folder / "admin.sock").exists()


def test_a_reload_that_is_asked_for_again_and_again_ends_in_the_last_configuration(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    for threshold in range(6, 26):
        change(one, failure_threshold=threshold)
        one.child.kill(signal.SIGHUP)
    until("the last one is in force", 20, lambda: one.shown("breaker", "orders")["failure_threshold"] == 25)
    until("one generation is left", 20, lambda: len(one.workers) == 2)
    assert not named(one, "reload_refused") and one.call("orders", "GET", "/").status == 200


def test_a_reload_waits_while_there_is_no_room_for_another_generation(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=1, shm={"max_workers": 2}, shutdown={"max_wait": 20})
    handle = parallel.start(1, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(1)
    change(one, failure_threshold=7)
    one.child.kill(signal.SIGHUP)
    until("the first serves and the old one drains", 10, lambda: named(one, "worker_draining"))
    change(one, failure_threshold=8)
    one.child.kill(signal.SIGHUP)
    until("it says that it waits", 5, lambda: named(one, "reload_waits"))
    assert one.shown("breaker", "orders")["failure_threshold"] == 7
    origin.release()
    assert parallel.finish(handle) == [200]
    until("the second one follows", 10, lambda: one.shown("breaker", "orders")["failure_threshold"] == 8)
    assert not named(one, "reload_refused")


def test_a_generation_that_never_serves_gives_way_to_a_better_one_while_the_one_before_goes_on(sidecar, origin, tmp_path):
    """Its access log is a directory, which only a worker finds out."""
    one = sidecar({"orders": origin.url}, workers=1, shm={"max_workers": 2},
                  supervisor={"restart_backoff_min": 0.05, "restart_backoff_max": 0.4})
    good = one.config["logging"]["access_log"]["path"]
    one.config["logging"]["access_log"]["path"] = str(tmp_path)
    change(one, failure_threshold=7)
    first = one.workers
    one.child.kill(signal.SIGHUP)
    until("its worker fails again and again", 10, lambda: len(named(one, "worker_start_failed")) >= 2)
    assert one.call("orders", "GET", "/").status == 200, "the one before serves"
    one.config["logging"]["access_log"]["path"] = good
    change(one, failure_threshold=8)
    one.child.kill(signal.SIGHUP)
    until("the better one is in force", 20, lambda: named(one, "rolled_back") and first[0] not in one.workers
          and one.shown("breaker", "orders")["failure_threshold"] == 8)
    assert one.call("orders", "GET", "/").status == 200 and not named(one, "reload_refused")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_reload_ends_both_generations(number, sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    for wait in (0, 0.005, 0.02, 0.05):
        change(one, failure_threshold=6 + int(wait * 1000))
        one.child.kill(signal.SIGHUP)
        time.sleep(wait)
        one.stop(number)
        assert not answers(one.port)
        one.start()


def test_during_min_delay_it_still_serves_replaces_the_dead_and_a_second_sigterm_ends_it(sidecar, origin):
    one = sidecar({"orders": origin.url}, shutdown={"min_delay": 30, "max_wait": 5})
    one.child.kill(signal.SIGTERM)
    until("it says it is draining", 5, lambda: one.get("/ready")[0] == 503)
    assert one.call("orders", "GET", "/").status == 200
    os.kill(one.workers[0], signal.SIGKILL)
    until("there is another worker", 10, lambda: len(named(one, "worker_serving")) == 2)
    assert one.call("orders", "GET", "/").status == 200
    one.child.kill(signal.SIGHUP)
    until("a reload is not begun any more", 5, lambda: named(one, "reload_ignored"))
    one.child.kill(signal.SIGTERM)
    assert one.child.process.wait(5) == 0


def test_sigint_ends_it_at_once_with_0(sidecar, origin):
    one = sidecar({"orders": origin.url})
    with one.connect() as connection:
        connection.request("GET", "/hang", host="orders")
        origin.wait_current(1)
        began = time.monotonic()
        one.stop(signal.SIGINT)
        assert time.monotonic() - began < 3


def test_sigusr2_writes_one_line_with_the_state_and_nothing_ends(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.child.kill(signal.SIGUSR2)
    until("the line is there", 5, lambda: named(one, "state"))
    line = named(one, "state")[0]
    assert line["running"] == 1 and line["segment"] == str(one.shm) and not line["stopping"]
    assert one.call("orders", "GET", "/").status == 200


# ---- deaths ----

def test_a_worker_that_cannot_start_is_tried_again_with_growing_waits_and_never_in_a_loop(sidecar, origin, tmp_path):
    """The access log is opened by each worker; its folder goes away, then comes back."""
    folder = tmp_path / "logs"
    folder.mkdir()
    one = sidecar({"orders": origin.url}, workers=1, supervisor={"restart_backoff_min": 0.05, "restart_backoff_max": 0.4},
                  logging={"access_log": {"path": str(folder / "access.log")}})
    (folder / "access.log").unlink()
    folder.rename(tmp_path / "elsewhere")
    os.kill(one.workers[0], signal.SIGKILL)
    until("it was tried some times", 20, lambda: len(named(one, "worker_start_failed")) >= 4)
    waits = [e["restart_in_ms"] for e in named(one, "worker_died")]
    assert waits[:4] == [0, 50, 100, 200], waits
    cpu = sum(os.times()[:2]), pathlib.Path(f"/proc/{one.child.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    time.sleep(1)
    after = pathlib.Path(f"/proc/{one.child.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    assert sum(map(int, after)) - sum(map(int, cpu[1])) < 50, "the supervisor spins"
    assert len(named(one, "worker_died")) < 12
    (tmp_path / "elsewhere").rename(folder)
    until("it serves again", 10, lambda: one.get("/live")[0] == 200 and len(named(one, "worker_serving")) == 2)
    assert one.call("orders", "GET", "/").status == 200


def test_a_worker_that_dies_while_draining_is_not_replaced_and_does_not_hold_the_end_up(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, shutdown={"max_wait": 30})
    held = one.connection_per_worker("orders").values()  # a worker without a call would be gone at once
    for connection in held:
        connection.request("GET", "/hang", host="orders")
    origin.wait_current(2)
    workers = one.workers
    one.child.kill(signal.SIGTERM)
    until("they drain", 5, lambda: len(named(one, "worker_draining")) == 2)
    began = time.monotonic()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert one.child.process.wait(10) == 0
    assert time.monotonic() - began < 5 and len(named(one, "worker_serving")) == 2


def test_a_worker_of_the_new_generation_that_dies_during_the_reload_is_replaced(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    old = set(one.workers)
    change(one, failure_threshold=9)
    one.child.kill(signal.SIGHUP)
    fresh = until("there is a new worker", 10, lambda: set(one.workers) - old)
    os.kill(min(fresh), signal.SIGKILL)
    until("two serve, none of them old, none of them dead", 20,
          lambda: len(one.workers) == 2 and not old & set(one.workers) and min(fresh) not in one.workers)
    assert one.call("orders", "GET", "/").status == 200


def test_a_worker_that_hangs_is_killed_after_hang_timeout_and_replaced(sidecar, origin):
    one = sidecar({"orders": origin.url}, supervisor={"hang_timeout": 1})
    pid = one.workers[0]
    os.kill(pid, signal.SIGSTOP)
    until("it was replaced", 10, lambda: one.workers and pid not in one.workers)
    assert named(one, "worker_hangs")[0]["pid"] == pid
    assert one.call("orders", "GET", "/").status == 200
    one.counted(1, "rhc_worker_restarts_total", reason="hang")
    one.counted(0, "rhc_worker_restarts_total", reason="signal")


def test_a_sigterm_reaches_workers_that_are_stopped_as_soon_as_they_go_on(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, supervisor={"hang_timeout": "off"})
    workers = one.workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    for _ in range(3):  # bytes in their channels
        one.get("/health")
    one.child.kill(signal.SIGTERM)
    time.sleep(0.2)
    for pid in workers:
        os.kill(pid, signal.SIGCONT)
    assert one.child.process.wait(10) == 0


def test_a_new_supervisor_starts_while_workers_of_a_killed_one_drain(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, defaults={"bulkhead": {"max_concurrency": 3}}, shutdown={"max_wait": 30})
    handle = parallel.start(3, lambda i: one.call("orders", "GET", "/gate").status)
    origin.wait_current(3)
    old = one.workers
    one.child.kill(signal.SIGKILL)
    one.child.process.wait(5)
    until("they saw it", 5, lambda: one.log().count("supervisor_gone") == 2)
    until("those without a call are gone, the others have let the port go", 5, lambda: not answers(one.port))
    one.start()
    alive = [pid for pid in old if not gone(pid)]
    assert alive, "nobody drains"
    rows = [row for row in one.ctl("workers").json["items"]]
    assert {str(pid) for pid in alive} <= set(re.findall(r"\d+", json.dumps(rows)))
    assert one.in_use("orders") == 3, "what they hold still counts"
    origin.release()
    assert parallel.finish(handle) == [200] * 3
    until("they have ended", 10, lambda: all(map(gone, old)))
    until("their slots are free", 5, lambda: one.in_use("orders") == 0)
    assert one.call("orders", "GET", "/").status == 200


def test_without_descriptors_a_worker_is_started_later_and_what_there_is_goes_on(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2, supervisor={"restart_backoff_min": 0.05, "restart_backoff_max": 0.2})
    limits = resource.prlimit(one.child.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(one.child.pid, resource.RLIMIT_NOFILE, (3, limits[1]))  # none that is closed meanwhile is below
    killed = one.workers[0]
    os.kill(killed, signal.SIGKILL)
    until("it was tried some times", 10, lambda: len(named(one, "worker_fork_failed")) >= 3)
    assert named(one, "worker_fork_failed")[0]["error"] == "EMFILE" and len(one.workers) == 1
    assert len(named(one, "worker_fork_failed")) < 20
    resource.prlimit(one.child.pid, resource.RLIMIT_NOFILE, limits)
    until("there are two again", 10, lambda: len(one.workers) == 2 and len(named(one, "worker_serving")) == 3)
    assert one.get("/ready")[0] == 200 and one.call("orders", "GET", "/").status == 200


# ---- descriptors and addresses ----

def sockets_of(pid):
    found = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:
            pass
    return found


def listening():
    """inode -> (port or path) of listening sockets."""
    found = {}
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            found[fields[9]] = int(fields[1].split(":")[1], 16)
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and int(fields[3], 16) & 0x10000:
            found[fields[6]] = fields[7]
    return found


def listens(pid):
    inodes = [m.group(1) for link in sockets_of(pid).values() if (m := re.match(r"socket:\[(\d+)\]", link))]
    return {inode: listening()[inode] for inode in inodes if inode in listening()}


def test_a_worker_holds_its_own_sockets_and_no_other(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    os.kill(one.workers[0], signal.SIGKILL)  # a replacement is forked from a supervisor that has everything open
    until("there is another", 10, lambda: len(named(one, "worker_serving")) == 3)
    own = [listens(pid) for pid in one.workers]
    assert [list(x.values()) for x in own] == [[one.port]] * 2 and own[0].keys() != own[1].keys(), own
    up = sorted(map(str, listens(one.child.pid).values()))
    assert up == sorted(map(str, [one.port, one.port, one.admin_port, one.telemetry_port, one.folder / "admin.sock"]))
    for pid in one.workers:
        kinds = list(sockets_of(pid).values())
        assert not [k for k in kinds if "signalfd" in k], kinds
        assert len([k for k in kinds if k.startswith("socket:")]) <= 4, kinds  # its own, the channel, DNS


def test_an_address_that_is_taken_is_1_with_a_clear_line_and_leaves_the_other_alone(sidecar, origin, tmp_path):
    one = sidecar({"orders": origin.url})
    shm = {"path": str(one.shm_folder / "other.shm")}
    other = spawn(one, admin={"address": None, "socket": None}, telemetry={"address": f"127.0.0.1:{free_port()}"}, shm=shm,
                  listeners=[{"name": "main", "address": f"127.0.0.1:{one.admin_port}"}])
    assert other.process.wait(10) == 1
    line = [json.loads(x) for x in other.logs().splitlines() if "start_failed" in x][0]
    assert str(one.admin_port) in line["reason"] and "in use" in line["reason"]
    other = spawn(one, "same-socket", admin={"address": None, "socket": str(one.folder / "admin.sock")}, shm=shm,
                  telemetry={"address": f"127.0.0.1:{free_port()}"},
                  listeners=[{"name": "main", "address": f"127.0.0.1:{free_port()}"}])
    assert other.process.wait(10) == 1 and "admin.sock" in other.logs()
    with socket.socket(socket.AF_UNIX) as s:  # its socket file is still there
        s.connect(str(one.folder / "admin.sock"))
        s.sendall(b"GET /live HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200")


def test_a_second_sidecar_on_the_same_segment_is_refused_and_disturbs_nothing(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    workers = one.workers
    other = spawn(one)
    assert other.process.wait(10) == 1
    line = [json.loads(x) for x in other.logs().splitlines() if "segment_refused" in x][0]
    assert line["why"] == "other_supervisor" and str(one.shm) in line["reason"]
    assert one.workers == workers and one.call("orders", "GET", "/").status == 200
    assert (one.folder / "admin.sock").exists()


def test_the_admin_socket_has_its_mode_and_goes_with_the_sidecar(sidecar, origin):
    one = sidecar({"orders": origin.url}, admin={"socket_mode": "0600"})
    path = one.folder / "admin.sock"
    assert path.stat().st_mode & 0o7777 == 0o600
    one.stop()
    assert not path.exists()


# ---- what is printed ----

def test_without_findings_every_line_is_an_event_and_stdout_stays_empty(sidecar, origin):
    one = sidecar({"orders": origin.url}, workers=2)
    one.call("orders", "GET", "/")
    one.stop()
    assert one.child.out.read_text() == ""
    for e in events(one):
        assert {"ts", "level", "component", "event"} <= set(e) and re.fullmatch(r"[a-z0-9_]+", e["event"]), e
    assert events(one)[-1]["event"] == "stopped" and events(one)[-1]["exit_code"] == 0
    assert [e for e in events(one) if e["event"] == "lifecycle"][-1]["state"] == "stopped"


def test_findings_of_a_configuration_in_force_are_events_at_start_and_at_a_reload(sidecar, origin):
    one = sidecar({"orders": origin.url}, defaults={"timeout": {"connect": 60, "read": 5}})
    found = named(one, "config_finding")
    assert found and found[0]["level"] == "warn" and found[0]["id"].startswith("W") and found[0]["line"] > 0
    assert {"where", "column", "message"} <= set(found[0])
    one.config_path.write_text(one.config_path.read_text() + "nonsense: 1\n")
    one.child.kill(signal.SIGHUP)
    until("the error is an event, too", 10, lambda: [e for e in named(one, "config_finding") if e["level"] == "error"])
    events(one)


def test_on_a_terminal_the_log_is_text(sidecar, origin):
    one = sidecar({"orders": origin.url})
    one.stop()
    master, slave = os.openpty()
    child = spawn(one, "terminal", terminal=slave, logging={"level": "info"})
    os.close(slave)
    text = b""
    try:
        until("it serves", 20, lambda: one.get("/ready")[0] == 200)
        child.send_signal(signal.SIGTERM)
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        assert child.wait(10) == 0
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(10)
        os.close(master)
    lines = text.decode().replace("\r", "").splitlines()
    assert lines and all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (error|warn |info |debug) +\w+ +\w+", line) for line in lines), lines
