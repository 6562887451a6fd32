"""Tables and the plot, from the figures."""
import json
import os

COLOURS = {"floor": "#b8b8b8", "rhc": "#1f6feb", "peer": "#d9985b"}


def colour(name):
    return COLOURS["floor" if name.startswith("floor") else "rhc" if name.startswith("rhc") else "peer"]


def _figure(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def rows(result):
    """Header and rows of one scenario."""
    if result["kind"] == "idle":
        return (["", "RSS idle MiB", "PSS idle MiB", "PSS held MiB", "KiB per connection"],
                [[name, _figure(m["rss_kib"] / 1024), _figure(m["pss_kib"] / 1024), _figure(m["pss_held_kib"] / 1024),
                  _figure(m["pss_kib_per_1000"] / 1000, 2)] for name, m in result["proxies"].items()])
    if result["kind"] == "rate":
        head = ["", "added p50 µs", "added p99 µs", "added p99.9 µs", "requests/s", "CPU µs/request", "rhc to it"]
        return head, [[name, *(_figure(m.get(f"added_{q}")) for q in ("p50", "p99", "p999")), _figure(m["rps"], 0),
                       _figure(m["cpu"]), _figure(m.get("rhc_to_it"), 2)] for name, m in result["summary"].items()]
    body = result["unit"] == "ms/GB"
    head = ["", "GB/s" if body else "requests/s", "CPU ms/GB" if body else "CPU µs/request", "rhc to it"]
    return head, [[name, _figure(m["gb_s"], 2) if body else _figure(m["rps"], 0), _figure(m["cpu"]),
                   _figure(m.get("rhc_to_it"), 2)] for name, m in result["summary"].items()]


def title(result):
    if result["kind"] == "idle":
        counts = [m["connections"] for m in result["proxies"].values()]
        return f"{result['title']} ({max(counts):,})" if counts else result["title"]
    return f"{result['title']} – {result['rounds']} rounds, spread {100 * result['spread']:.0f} %"


def scenario_text(result):
    head, body = rows(result)
    width = [max(len(r[i]) for r in [head, *body]) for i in range(len(head))]
    lines = [f"\n{result['name']}: {title(result)}"]
    for r in [head, *body]:
        lines.append("  " + r[0].ljust(width[0]) + "".join("  " + c.rjust(w) for c, w in zip(r[1:], width[1:])))
    return "\n".join(lines)


def segment_rows(table):
    head = ["processes", "limit", "taken", "fetch_add pair ns", "kept pair ns", "robust mutex ns", "slot ns", "to pair",
            "to kept", "to mutex", "not calm ns", "call ns", "to pair", "to kept", "with window ns", "refusal ns",
            "to pair"]
    body = []
    for r in table:
        def get(what, key):
            return r.get(what, {}).get(key)
        body.append([str(r["processes"]), str(r["limit"]), str(r["taken"]), _figure(get("fetch_add_pair", "ns")),
                     _figure(get("fetch_add_kept", "ns")), _figure(get("robust_mutex", "ns")),
                     _figure(get("slot", "ns")), _figure(get("slot", "to_add"), 2), _figure(get("slot", "to_kept"), 2),
                     _figure(get("slot", "to_mutex"), 2), _figure(get("slot_strict", "ns")),
                     _figure(get("call", "ns")), _figure(get("call", "to_add"), 2), _figure(get("call", "to_kept"), 2),
                     _figure(get("call_window", "ns")), _figure(get("refusal", "ns")),
                     _figure(get("refusal", "to_add"), 2)])
    return head, body


def segment_text(table):
    head, body = segment_rows(table)
    width = [max(len(r[i]) for r in [head, *body]) for i in range(len(head))]
    lines = ["\nsegment: CPU ns per operation; slot = acquire + release in a calm, call = admit + slot + record"]
    for r in [head, *body]:
        lines.append("  " + "  ".join(c.rjust(w) for c, w in zip(r, width)))
    return "\n".join(lines)


def _markdown(head, body):
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for r in body:
        yield "| " + " | ".join(r) + " |"


def markdown(results):
    m = results["machine"]
    versions = "; ".join(m["versions"].values())
    yield (f"{m['date']}, commit {m['commit']}, {m['cpu']}, {m['cores']} cores, Linux {m['kernel']}; {versions}. "
           f"Mode {results['mode']}: {results['ms']} ms per measurement, load average "
           f"{m['load_at_start']:.1f} before and {m['load_at_end']:.1f} after.")
    for result in results["scenarios"]:
        yield ""
        yield f"**{result['name']}**: {title(result)}"
        yield ""
        yield from _markdown(*rows(result))
        for name, why in result["failed"].items():
            yield ""
            yield f"{name} is missing: {why.splitlines()[0][:120]}"
    if results["segment"]:
        yield ""
        yield "**segment**: CPU ns per operation; slot = acquire + release, call = admit + slot + record"
        yield ""
        yield from _markdown(*segment_rows(results["segment"]))


# ---- plot ----


def write_svg(results, path):
    """One block of bars per scenario, CPU per request or GB, each block with a scale of its own."""
    bar, gap, left, width = 14, 30, 130, 760
    y, parts = 40, []
    for result in results["scenarios"]:
        if "summary" not in result or not result["summary"]:
            continue
        figures = {n: s["cpu"] for n, s in result["summary"].items() if n != "direct"}
        top = max(figures.values(), default=0) or 1
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{result["title"]}</text>')
        y += 8
        for name, value in figures.items():
            length = value / top * (width - left - 110)
            parts.append(f'<text x="{left - 6}" y="{y + 11}" text-anchor="end">{name}</text>'
                         f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}" fill="{colour(name)}"/>'
                         f'<text x="{left + length + 5:.1f}" y="{y + 11}">{value:,.1f}</text>')
            y += bar
        y += gap
    head = f'CPU µs per request (ms per GB for bodies), {results["machine"]["date"]}, shorter is better'
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" '
                f'font-size="11"><rect width="100%" height="100%" fill="white"/>'
                f'<text x="8" y="16" font-size="13">{head}</text>{"".join(parts)}</svg>\n')


# ---- README ----

BEGIN, END = "<!-- figures: made by run --save -->", "<!-- end of figures -->"


def brief(results):
    """Medians, and of the single rounds the CPU alone."""
    scenarios = []
    for r in results["scenarios"]:
        if "summary" in r:
            r = {**r, "proxies": {n: {"cpu": [round(run["cpu"], 2) for run in runs]} for n, runs in r["proxies"].items()}}
        scenarios.append(r)
    text = json.dumps({**results, "scenarios": scenarios}, separators=(",", ":"))
    return text.replace('{"name":', '\n{"name":').replace('"segment":', '\n"segment":')


def save(results, folder):
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as f:
        f.write(brief(results) + "\n")
    write_svg(results, os.path.join(folder, "results.svg"))
    renew(folder, BEGIN, "\n".join(markdown(results)), END)


def renew(folder, begin, text, end):
    """What stands between two marks in the README."""
    path = os.path.join(folder, "README.md")
    with open(path, encoding="utf-8") as f:
        before, _, rest = f.read().partition(begin)
    after = rest.partition(end)[2]
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + begin + "\n" + text + "\n" + end + after)
