"""Where the processor's time goes: perf's samples of our processes, summed by what the functions are for."""
import collections
import glob
import os
import re
import subprocess

import measure

BEGIN, END = "<!-- profile: made by run --profile --save -->", "<!-- end of profile -->"
FREQUENCY = 1999  # samples per second
SECONDS = 4

# By folder of the function's library; what is not ours goes by its object file.
PARTS = {
    "shm": "shared state",
    "proto": "codecs",
    "sidecar_http": "connections and messages",
    "sidecar_io": "engine, streams, timers",
    "sidecar_upstream": "pool, guard, retry",
    "sidecar_exchange": "exchange",
    "sidecar_base": "buffers, clock",
    "sidecar_run": "worker",
}
OBJECTS = (("libcrypto", "TLS"), ("libssl", "TLS"), ("libnghttp2", "codecs"), ("libc.so", "libc"), ("libc-", "libc"),
           ("[vdso]", "buffers, clock"), ("[vdso", "buffers, clock"))


def symbols(build):
    """{function: part} of our static libraries."""
    found = {}
    for archive in sorted(glob.glob(os.path.join(build, "librhc_*.a"))):
        folder = re.search(r"librhc_(\w+)\.a", archive)[1]
        text = subprocess.run(["nm", "-A", "--defined-only", archive], capture_output=True, text=True, check=True).stdout
        for line in text.splitlines():
            m = re.search(r":([\w.-]+)\.c\.o:\w+ [tT] (\S+)$", line)
            if m:
                logs = folder == "sidecar_exchange" and m[1].startswith("access")
                found.setdefault(m[2].split(".")[0], "access log" if logs else PARTS.get(folder, folder))
    return found


def kernel_part(name):
    if re.match(r"_*(io_|ioring)", name):
        return "kernel: io_uring"
    if re.search(r"ext4|jbd2|iomap|folio|pagecache|generic_perform_write|vfs_write|shmem", name):
        return "kernel: files"
    return "kernel: TCP, sockets, scheduling"


def part_of(dso, name, known):
    if dso.startswith("[kernel") or dso.startswith("[unknown"):
        return kernel_part(name)
    for start, part in OBJECTS:
        if dso.startswith(start):
            return part
    return known.get(name.split(".")[0], "other of ours" if dso.startswith("rhc") else dso)


def shares(data, known):
    """{part: share of all samples}"""
    text = subprocess.run(["perf", "report", "-i", data, "--no-children", "--stdio", "-g", "none", "-F",
                           "overhead,dso,sym", "-t", "|"], capture_output=True, text=True, check=True).stdout
    total = collections.Counter()
    for line in text.splitlines():
        m = re.match(r"\s*([\d.]+)%\s*\|(\S+)\s*\|\[.\] (\S+)", line)
        if m:
            total[part_of(m[2], m[3], known)] += float(m[1]) / 100
    return total


def record(bench, s, p):
    """({part: share}, CPU µs per request) of one proxy in one scenario."""
    env = bench.env
    bench.origin(s)
    rows = bench.start(s, [p])
    if not rows:
        raise measure.Failed(f"{p.name} did not start")
    data = f"{env.dir}/perf.data"
    pids = ",".join(str(pid) for pid in measure.tree(rows[0][2].pid))
    cpu = bench.once(s, *rows[0], SECONDS * 500)["cpu"]  # without perf beside it
    perf = subprocess.Popen(["perf", "record", "-q", "-F", str(FREQUENCY), "-p", pids, "-o", data, "--", "sleep",
                             str(SECONDS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    bench.once(s, *rows[0], (SECONDS + 1) * 1000)
    _, err = perf.communicate(timeout=SECONDS + 20)
    for process in list(env.running):
        env.stop(process)
    if perf.returncode:
        raise measure.Failed(f"perf: {err.strip()[-300:]}")
    return shares(data, symbols(env.build)), cpu


def table(columns):
    """columns: [(title, {part: share}, µs)]; µs per request of each part, in Markdown."""
    parts = collections.Counter()
    for _, share, _ in columns:
        parts.update(share)
    lines = ["| µs per request | " + " | ".join(title for title, _, _ in columns) + " |",
             "|---" * (len(columns) + 1) + "|"]
    for part, _ in parts.most_common():
        cells = [share[part] * us for _, share, us in columns]
        if max(cells) >= 0.05:
            lines.append(f"| {part} | " + " | ".join(f"{c:.2f}" if c else "–" for c in cells) + " |")
    lines.append("| **all** | " + " | ".join(f"**{us:.1f}**" for _, _, us in columns) + " |")
    return "\n".join(lines)
