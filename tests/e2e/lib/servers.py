"""The real servers: nginx (HTTP/1.1, TLS), nghttpd (HTTP/2), and rhc-origin, which fails on request."""
import http.client
import json
import os
import pathlib

from .wait import Child, free_port, until

TOP = pathlib.Path(__file__).resolve().parents[3]
GIB = 1 << 30
FILES = {"empty": 0, "one": 1, "small": 1000, "page": 16384, "edge": 65536, "odd": 65537, "large": 1 << 20}


def build_folder():
    """build/debug, or what RHC_BUILD names."""
    return pathlib.Path(os.environ.get("RHC_BUILD") or TOP / "build/debug")


def release_folder():
    return pathlib.Path(os.environ.get("RHC_RELEASE_BUILD") or TOP / "build/release")


def pattern(count):
    """The bytes that rhc-origin sends and that the files hold: byte i is i % 251."""
    return (bytes(range(251)) * (count // 251 + 1))[:count]


def fnv1a64(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return f"{value:016x}"


def fnv1a64_zeros(count):
    return f"{0xcbf29ce484222325 * pow(0x100000001b3, count, 1 << 64) % (1 << 64):016x}"


def make_files(folder):
    """Pattern files of telling sizes, and zeros.1g, which takes no room."""
    folder.mkdir()
    for name, size in FILES.items():
        (folder / name).write_bytes(pattern(size))
    with (folder / "zeros.1g").open("wb") as zeros:
        zeros.truncate(GIB)
    return folder


class Origin:
    """rhc-origin with its control port."""

    def __init__(self, folder, program=None, name="origin"):
        program = program or next((p for p in (build_folder() / "tests/origin/rhc-origin",
                                               release_folder() / "origin/rhc-origin") if p.exists()), None)
        assert program and pathlib.Path(program).exists(), "rhc-origin is not built; run ./tests/run --e2e"
        self.child = Child([program], folder, name)
        lines = until("rhc-origin tells its ports", 20, self._ports)
        self.port, self.control_port = (int(line.split()[1]) for line in lines)

    def _ports(self):
        self.child.must_live()
        lines = self.child.out.read_text().splitlines()
        return lines if len(lines) == 2 else None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _control(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return json.loads(body)
        finally:
            connection.close()

    def stats(self):
        return self._control("GET", "/stats")

    def attempts(self, key):
        return self.stats()["keys"].get(key, 0)

    def mode(self, name):
        return self._control("POST", f"/control?mode={name}")

    def release(self):
        """Opens the gate for all who wait at /gate now."""
        return self._control("POST", "/control?release=1")

    def reset(self):
        return self._control("POST", "/control?mode=ok&reset=1&release=1")

    def wait_current(self, count, seconds=10):
        until(f"{count} requests are at the origin", seconds, lambda: self.stats()["current"] == count)

    def stop(self):
        code = self.child.stop()
        assert code == 0, f"rhc-origin ended with {code}:\n{self.child.logs()[-4000:]}"


NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    sendfile on;
    keepalive_timeout 60s;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    large_client_header_buffers 8 64k;
    root {files};
    default_type application/octet-stream;
    {servers}
}}
"""
NGINX_BODY = """
        location /origin/ {{
            proxy_pass http://127.0.0.1:{origin}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
        }}
        location /who {{ return 200 "$ssl_client_s_dn|$ssl_protocol|$ssl_session_reused|$ssl_server_name\\n"; }}
"""


class Nginx:
    """Ports by name: plain, good, expired, wrong-host, stranger, client, no-keepalive, no-keepalive-1.2; all
    but plain speak TLS."""

    def __init__(self, folder, files, ours, stranger, origin_port):
        self.folder = folder
        servers, self.ports = [], {}
        pairs = {"plain": None, "good": (ours, "good"), "expired": (ours, "expired"),
                 "wrong-host": (ours, "wrong-host"), "stranger": (stranger, "good"), "client": (ours, "good"),
                 "no-keepalive": (ours, "good"), "no-keepalive-1.2": (ours, "good")}
        for name, pair in pairs.items():
            port = self.ports[name] = free_port()
            lines = [f"listen 127.0.0.1:{port}{' ssl' if pair else ''};"]
            if pair:
                lines += [f"ssl_certificate {pair[0].cert(pair[1])};",
                          f"ssl_certificate_key {pair[0].key(pair[1])};",
                          f"ssl_protocols TLSv1.2{'' if name.endswith('1.2') else ' TLSv1.3'};",
                          f"ssl_session_cache shared:{name}:1m;"]
            if name == "client":
                lines += ["ssl_verify_client on;", f"ssl_client_certificate {ours.ca_file};"]
            if name.startswith("no-keepalive"):
                lines += ["keepalive_timeout 0;"]
            servers.append("server {" + " ".join(lines) + NGINX_BODY.format(origin=origin_port) + "}")
        (folder / "nginx.conf").write_text(NGINX.format(
            folder=folder, files=files, servers="\n".join(servers),
            user="user root;" if os.geteuid() == 0 else ""))
        self.child = Child(["nginx", "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"],
                           folder, "nginx")
        for port in self.ports.values():
            self.child.wait_for_port(port)

    def url(self, name):
        return f"{'http' if name == 'plain' else 'https'}://127.0.0.1:{self.ports[name]}"

    def stop(self):
        code = self.child.stop()
        assert code == 0, (self.folder / "error.log").read_text()


class Nghttpd:
    """HTTP/2 over TLS, or h2c by prior knowledge; POST and PUT get their body back."""

    def __init__(self, folder, files, authority=None):
        self.port = free_port()
        args = ["nghttpd", "-d", files, "--echo-upload", "-a", "127.0.0.1", self.port]
        args += [authority.key("good"), authority.cert("good")] if authority else ["--no-tls"]
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"
        self.child = Child(args, folder, "nghttpd-tls" if authority else "nghttpd-h2c")
        self.child.wait_for_port(self.port)

    def stop(self):
        self.child.stop()
