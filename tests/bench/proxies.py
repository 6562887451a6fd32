"""The proxies that are compared: what they can do, their configuration, how they are started.

Each gets what it needs to be fast at this: one worker, keep-alive without an end, no access log but where the
name says so.  "+r" is HAProxy with what comes nearest to rhc's features: queue, observe, retries, stick table.
"""
import os

PATTERN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
LIMIT = 1000  # slots per upstream: above every number of connections here, so nobody queues


def _write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


class Proxy:
    """name; downs, ups: protocols it speaks; only: None or the kinds of scenario it takes part in."""

    downs, ups, only, floor, ours = {"h1", "h2c"}, {"h1", "h1tls", "h2tls"}, None, False, False
    load_extra, path_extra = (), ""

    def __init__(self, name, **changes):
        self.name = name
        self.__dict__.update(changes)

    def takes(self, scenario):
        return (scenario.down in self.downs and scenario.up in self.ups
                and (self.only is None or scenario.kind in self.only))

    def started(self, env):
        """Called once it listens."""


class Relay(Proxy):
    downs, ups, floor, options = {"h1"}, {"h1"}, True, ()

    def argv(self, env, s):
        return [env.tool("rhc-relay"), f"--listen=127.0.0.1:{env.port}", f"--to=127.0.0.1:{env.origin}",
                *self.options]


class Nginx(Proxy):
    ups = {"h1", "h1tls"}

    def argv(self, env, s):
        scheme = "http" if s.up == "h1" else "https"
        text = f"""
{'user root;' if os.geteuid() == 0 else ''}
worker_processes {s.workers}; daemon off; pid {env.dir}/nginx.pid; error_log stderr error;
worker_rlimit_nofile {env.files};
events {{ worker_connections {env.files - 1000}; }}
http {{
  access_log off; tcp_nodelay on; client_max_body_size 0; keepalive_timeout 300; keepalive_requests 1000000000;
  client_body_temp_path {env.dir}/a; proxy_temp_path {env.dir}/b; fastcgi_temp_path {env.dir}/c;
  uwsgi_temp_path {env.dir}/d; scgi_temp_path {env.dir}/e;
  upstream o {{ server 127.0.0.1:{env.origin}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{env.port}{' http2' if s.down == 'h2c' else ''} backlog=4096;
    location / {{
      proxy_pass {scheme}://o; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_request_buffering off; proxy_max_temp_file_size 0;
      proxy_ssl_session_reuse on; proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}
  }}
}}
"""
        return ["nginx", "-p", env.dir, "-c", _write(f"{env.dir}/nginx.conf", text)]


class Haproxy(Proxy):
    resilient = False

    def argv(self, env, s):
        tls = {"h1": "", "h1tls": " ssl verify none alpn http/1.1", "h2tls": " ssl verify none alpn h2"}[s.up]
        front = back = server = ""
        if self.resilient:
            front = ("  stick-table type string len 64 size 1k expire 10m store gpc0,conn_cur,http_req_rate(10s),"
                     "http_err_rate(10s)\n  http-request track-sc0 hdr(host)\n")
            back = ("  timeout queue 30s\n  retries 2\n  option redispatch\n  retry-on conn-failure empty-response "
                    "response-timeout 502 503 504\n")
            server = f" maxconn {LIMIT} maxqueue 1024 observe layer7 error-limit 5 on-error mark-down check inter 10s"
        text = f"""global
  nbthread {s.workers}
  maxconn {(env.files - 200) // 2}
defaults
  mode http
  timeout connect 10s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  http-reuse always
frontend f
  bind 127.0.0.1:{env.port} backlog 4096
{front}  default_backend b
backend b
{back}  server s 127.0.0.1:{env.origin}{tls} pool-max-conn 1024{server}
"""
        return ["haproxy", "-db", "-f", _write(f"{env.dir}/haproxy.cfg", text)]


class Nghttpx(Proxy):
    def argv(self, env, s):
        proto = {"h1": "proto=http/1.1", "h1tls": "proto=http/1.1;tls", "h2tls": "proto=h2;tls"}[s.up]
        return ["nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{env.port};no-tls",
                f"--backend=127.0.0.1,{env.origin};;{proto}", f"--workers={s.workers}", "--insecure",
                "--errorlog-file=/dev/null", "--accesslog-file=/dev/null", "--log-level=FATAL",
                "--frontend-keep-alive-timeout=5m", "--frontend-read-timeout=5m", "--backend-keep-alive-timeout=1m",
                "--backlog=4096", "--single-process"]


class Rhc(Proxy):
    ours, engine, log, folder, extra = True, "auto", False, None, ""

    def argv(self, env, s):
        scheme = "http" if s.up == "h1" else "https"
        http2 = {"h1": "off", "h1tls": "off", "h2tls": "auto"}[s.up]
        one = s.hosts == 1
        upstreams = "".join(
            f"  u{i}: {{url: '{scheme}://127.0.0.1:{env.origin}', hosts: [h{i}.bench]}}\n" for i in range(s.hosts))
        mode = "mode: upstream, upstream: u0" if one else "mode: route"
        text = f"""version: 1
instance: bench-{os.getpid()}
workers: {s.workers}
io: {{engine: {self.engine}}}
listeners: [{{name: main, address: '127.0.0.1:{env.port}', {mode}, max_connections: {min(65536, (env.files - 200) // 2)}}}]
defaults:
  bulkhead: {{max_concurrency: {LIMIT}}}
  pool: {{max_connections: 1024, max_idle: 1024, http2: {http2}}}
  tls: {{ca_file: {env.ca}}}
upstreams:
{upstreams}admin: {{address: null, socket: null}}
telemetry: {{address: null}}
shm: {{path: {env.shm}}}
{self.extra}
logging: {{access_log: {{enabled: {str(self.log).lower()}, format: json, path: {env.dir}/access.log}}}}
"""
        program = os.path.join(self.folder, "rhc-sidecar") if self.folder else env.program("rhc-sidecar")
        return [program, "--state=fresh", f"--config={_write(env.dir + '/rhc.yaml', text)}"]


class Refusing(Rhc):
    """The circuit is open: the request is read, 503 is the answer, no upstream is asked."""

    load_extra = ("--status=503",)

    def started(self, env):
        env.call([env.program("rhcctl"), "breaker", "isolate", "u0", "--shm", env.shm])


BODIES = {"down", "up"}
REQUESTS = {"requests", "churn", "rate"}


def all_proxies():
    return [
        Relay("floor epoll", options=("--engine=epoll",), only=BODIES | REQUESTS | {"scale"}),
        Relay("floor io_uring", options=("--engine=io_uring",), only=BODIES | REQUESTS),
        Relay("floor splice", options=("--splice", "--buffer=65536"), only=BODIES),
        Relay("floor tls", options=("--tls",), ups={"h1tls"}, only={"requests"}),
        Nginx("nginx", only=BODIES | REQUESTS | {"idle", "scale", "workers"}),
        Haproxy("haproxy", only=BODIES | REQUESTS | {"idle"}),
        Haproxy("haproxy +r", resilient=True, only=BODIES | REQUESTS | {"idle", "scale"}),
        Nghttpx("nghttpx", only=BODIES | REQUESTS | {"idle"}),
        Rhc("rhc"),
        Rhc("rhc epoll", engine="epoll", only=BODIES | REQUESTS | {"idle"}),
        Rhc("rhc +log", log=True, only={"requests"}, downs={"h1"}, ups={"h1"}),
        Refusing("rhc refusing", only={"refuse"}),
    ]


def tls_origin(env, port):
    """nginx on the core of the load: HTTP/1.1 and HTTP/2 over TLS, answers of 0 and 1024 bytes."""
    body = (PATTERN * 16)[:1024]
    text = f"""
{'user root;' if os.geteuid() == 0 else ''}
worker_processes 1; daemon off; pid {env.dir}/origin.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 300; keepalive_requests 1000000000; default_type application/octet-stream;
  client_body_temp_path {env.dir}/oa; proxy_temp_path {env.dir}/ob; fastcgi_temp_path {env.dir}/oc;
  uwsgi_temp_path {env.dir}/od; scgi_temp_path {env.dir}/oe;
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096; ssl_certificate {env.ca}; ssl_certificate_key {env.key};
    ssl_protocols TLSv1.3; http2_max_concurrent_streams 256;
    location = /0 {{ return 200 ""; }}
    location = /1024 {{ return 200 "{body}"; }}
  }}
}}
"""
    return ["nginx", "-p", env.dir, "-c", _write(f"{env.dir}/origin.conf", text)]
