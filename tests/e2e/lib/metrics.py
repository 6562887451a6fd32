"""Prometheus text, read strictly enough to notice what a scraper would refuse."""
import re

LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?[0-9.eE+-]+|(?i:NaN|[+-]Inf))$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    def __init__(self, text):
        self.text = text
        self.types, self.helps, self.samples = {}, {}, []
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                assert name not in self.types, f"two TYPE lines for {name}"
                self.types[name] = kind
            elif line.startswith("# HELP "):
                name, help_text = line.split(" ", 3)[2:]
                self.helps[name] = help_text
            elif line and not line.startswith("#"):
                found = LINE.match(line)
                assert found, f"not a sample: {line!r}"
                name, labels, value = found.groups()
                self.samples.append((name, dict(LABEL.findall(labels or "")), float(value)))

    def sum(self, name, **labels):
        """The sum over the series with these labels; a name that is not there at all fails."""
        found = [value for n, own, value in self.samples
                 if n == name and all(own.get(k) == v for k, v in labels.items())]
        assert found, f"no series {name}{labels}; there are {sorted({n for n, _, _ in self.samples})}"
        return sum(found)

    def get(self, name, **labels):
        try:
            return self.sum(name, **labels)
        except AssertionError:
            return 0.0
