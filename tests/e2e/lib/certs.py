"""A certificate authority and its certificates, made with the openssl command."""
import subprocess

CONFIG = """
[ca]
default_ca = own
[own]
new_certs_dir = .
database = index.txt
serial = serial
default_md = sha256
policy = any
email_in_dn = no
rand_serial = yes
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[v3_ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"""
GOOD_NAMES = "DNS:localhost,IP:127.0.0.1"


class Authority:
    """ca_file, and pairs of files by name: cert("good"), key("good")."""

    def __init__(self, folder, name):
        self.folder, self.name = folder / name, name
        self.folder.mkdir()
        (self.folder / "ca.conf").write_text(CONFIG)
        (self.folder / "index.txt").write_text("")
        self._openssl("req", "-x509", *self._new_key("ca"), "-days", "30", "-subj", f"/CN={name}",
                      "-config", "ca.conf", "-extensions", "v3_ca", "-out", "ca.crt")

    def _openssl(self, *args):
        done = subprocess.run(["openssl", *args], cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _new_key(name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]

    def issue(self, name, alternatives=GOOD_NAMES, common_name="localhost",
              start="20200101000000Z", end="20491231235959Z"):
        self._openssl("req", "-new", *self._new_key(name), "-subj", f"/CN={common_name}", "-config", "ca.conf",
                      "-addext", f"subjectAltName={alternatives}", "-out", f"{name}.csr")
        self._openssl("ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.crt", "-keyfile", "ca.key",
                      "-startdate", start, "-enddate", end, "-in", f"{name}.csr", "-out", f"{name}.crt")
        return self

    @property
    def ca_file(self):
        return self.folder / "ca.crt"

    def cert(self, name):
        return self.folder / f"{name}.crt"

    def key(self, name):
        return self.folder / f"{name}.key"


def make(folder):
    """(ours, a stranger): ours has good, expired, wrong-host and client; the stranger has good."""
    ours = Authority(folder, "ours")
    ours.issue("good")
    ours.issue("expired", start="20200101000000Z", end="20200201000000Z")
    ours.issue("wrong-host", alternatives="DNS:elsewhere.test", common_name="elsewhere.test")
    ours.issue("client", alternatives="DNS:app.test", common_name="the-app")
    stranger = Authority(folder, "stranger").issue("good")
    return ours, stranger
