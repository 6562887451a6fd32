"""Fixtures: real servers once per session, a sidecar per test, a limit for each test."""
import faulthandler
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from lib import certs, servers  # noqa: E402
from lib.sidecar import Sidecar  # noqa: E402

TEST_SECONDS = 90  # of one test; a mark `limit(seconds)` changes it
running = []  # the sidecars of the test, for its report


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long the test may take")


class TooLong(Exception):
    pass


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else TEST_SECONDS

    def ring(*unused):
        faulthandler.dump_traceback()
        raise TooLong(f"the test did not end within {seconds} s")
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for sidecar in running:
            report.sections.append((f"log of {sidecar.folder.name}", sidecar.log()[-6000:]))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def files(session_folder):
    return servers.make_files(session_folder / "files")


@pytest.fixture(scope="session")
def authorities(session_folder):
    """(ours, a stranger)."""
    return certs.make(session_folder)


@pytest.fixture(scope="session")
def ours(authorities):
    return authorities[0]


@pytest.fixture(scope="session")
def session_origin(session_folder):
    origin = servers.Origin(session_folder)
    yield origin
    origin.stop()


@pytest.fixture
def origin(session_origin):
    """rhc-origin with clean counts, in mode ok; who waits at its gate is let go in the end."""
    session_origin.reset()
    yield session_origin
    session_origin.reset()


@pytest.fixture(scope="session")
def release_origin(session_folder):
    """One without sanitizers, for a GiB of upload."""
    origin = servers.Origin(session_folder, servers.release_folder() / "origin/rhc-origin", "origin-release")
    yield origin
    origin.stop()


@pytest.fixture(scope="session")
def nginx(session_folder, files, authorities, session_origin):
    server = servers.Nginx(session_folder, files, *authorities, session_origin.port)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nghttpd_tls(session_folder, files, ours):
    server = servers.Nghttpd(session_folder, files, ours)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nghttpd_h2c(session_folder, files):
    server = servers.Nghttpd(session_folder, files)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def four(nginx, nghttpd_tls, nghttpd_h2c, ours):
    """The upstreams of a configuration that stand for every protocol spoken upwards."""
    ca = {"ca_file": str(ours.ca_file)}
    return {
        "h1": {"url": nginx.url("plain")},
        "h1-tls": {"url": nginx.url("good"), "tls": ca},
        "h2-tls": {"url": nghttpd_tls.url, "tls": ca},
        "h2c": {"url": nghttpd_h2c.url, "pool": {"http2": "prior_knowledge"}},
    }


@pytest.fixture
def sidecar(tmp_path):
    """sidecar(upstreams, ...) starts one.  In the end each gets SIGTERM and must leave with 0, without
    a word of a sanitizer; a test that ended one itself is not disturbed."""
    running.clear()

    def start(upstreams, **options):
        one = Sidecar.__new__(Sidecar)
        started.append(one)
        one.__init__(tmp_path, upstreams, **options)
        running.append(one)
        return one

    started = []
    yield start
    try:
        for one in started:
            if getattr(one, "child", None) and one.child.alive():
                one.stop()
            elif getattr(one, "child", None):
                one.search_log()
    finally:
        for one in started:
            one.clean_up()
