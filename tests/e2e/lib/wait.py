"""Waiting with a bound, ports, child processes."""
import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import time


def until(what, seconds, check, step=0.01):
    """Polls check() until it returns something true; fails with the sentence after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what} (last: {got!r})")
        time.sleep(step)


def port_candidates():
    """Ports below those the kernel gives to outgoing connections: one of these could otherwise take the
    port between our look and the server's bind, or even connect to itself while we poll."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, count = 10000, max(lowest - 10000, 1000)
    start = random.randrange(count)
    while True:
        yield first + start % count
        start += 1


_candidates = port_candidates()


def free_port():
    for port in _candidates:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def answers(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


def clean_environment(extra=None):
    """Ours without RHC_*: these are configuration of the sidecar, and unknown ones an error to it."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("RHC_")}, **(extra or {})}


class Child:
    """A process with its output in files.  stop() is idempotent and never leaves it behind."""

    def __init__(self, args, folder, name, env=None):
        self.name = name
        self.out = pathlib.Path(folder) / f"{name}.out"
        self.err = pathlib.Path(folder) / f"{name}.err"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=err, cwd=folder, env=clean_environment(env))
        self.pid = self.process.pid

    def alive(self):
        return self.process.poll() is None

    def logs(self):
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def must_live(self):
        assert self.alive(), f"{self.name} ended with {self.process.returncode}:\n{self.logs()[-4000:]}"

    def wait_for_port(self, port, seconds=20):
        def up():
            self.must_live()
            return answers(port)
        until(f"{self.name} answers on port {port}", seconds, up)

    def kill(self, number):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, seconds=20):
        if self.alive():
            self.kill(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"{self.name} did not end within {seconds} s of {number!r}:\n"
                                 f"{self.logs()[-4000:]}")
