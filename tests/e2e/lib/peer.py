"""A server of bytes: what no real one would do, and what a test must see exactly."""
import contextlib
import socket
import ssl
import threading


class Connection:
    def __init__(self, sock):
        self.socket = sock
        self.buffer = bytearray()

    def more(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return len(data)

    def head(self):
        """The next head as text, "" at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return ""
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        return head.decode("latin-1")

    def send(self, data):
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def exactly(self, count):
        while len(self.buffer) < count:
            assert self.more(), f"closed after {bytes(self.buffer)!r}"
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def to_the_end(self):
        while self.more():
            pass
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def finish(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Peer:
    """serve(connection) runs in a thread for each connection; what it raises is told by close()."""

    def __init__(self, serve, tls=None):
        self.serve, self.tls = serve, tls
        self.accepted, self.errors = 0, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        assert not self.errors, self.errors

    def _accept(self):
        while True:
            try:
                sock = self.socket.accept()[0]
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock):
        sock.settimeout(30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            self.serve(Connection(sock))
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass  # the other side ended it
        except Exception as error:  # noqa: BLE001 - a test wants to see it
            self.errors.append(error)
        finally:
            sock.close()
