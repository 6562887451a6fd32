"""The house rules of CMakeLists.txt: a tree that breaks one of them is not configured."""
import pathlib
import re
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
FLOORS = re.findall(r"^rhc_folder\((\S+?)[ )]", (TOP / "CMakeLists.txt").read_text(), re.M)


@pytest.fixture
def tree(tmp_path):
    """A tiny tree under the real CMakeLists.txt: each folder holds one header and one source."""
    shutil.copy(TOP / "CMakeLists.txt", tmp_path)
    assert "shm" in FLOORS and "sidecar/run" in FLOORS
    for folder in FLOORS:
        where = tmp_path / folder
        where.mkdir(parents=True)
        name = folder.replace("/", "_")
        (where / f"{name}.h").write_text(f"int {name}_one(void);\n")
        (where / f"{name}.c").write_text(
            f'#include "{folder}/{name}.h"\nint {name}_one(void) {{ return 1; }}\n')
    return tmp_path


def include(tree, file, line):
    path = tree / file
    path.write_text(f"{line}\n{path.read_text()}")


def configure(tree):
    done = subprocess.run(["cmake", "-G", "Ninja", "-S", tree, "-B", tree / "b", "-DRHC_TESTS=OFF"],
                          capture_output=True, text=True, timeout=60)
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_a_tree_that_keeps_the_rules_is_configured_and_built(tree):
    include(tree, "sidecar/run/sidecar_run.c", '#include "shm/shm.h"')
    include(tree, "sidecar/io/sidecar_io.c", "#include <liburing.h>")
    code, text = configure(tree)
    assert code == 0, text
    subprocess.run(["cmake", "--build", tree / "b"], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("file, line, refusal", [
    ("shm/shm.c", '#include "sidecar/base/sidecar_base.h"', "shm stands on"),
    ("proto/proto.h", '#include "shm/shm.h"', "proto stands on"),
    ("ctl/ctl.c", '#include "sidecar/config/sidecar_config.h"', "ctl stands on"),
    ("sidecar/io/sidecar_io.h", '#include "sidecar/config/sidecar_config.h"', "sidecar/io stands on"),
    ("sidecar/upstream/sidecar_upstream.c", '#include "sidecar/exchange/sidecar_exchange.h"',
     "sidecar/upstream stands on"),
    ("sidecar/admin/sidecar_admin.c", '  #  include "sidecar/exchange/sidecar_exchange.h"',
     "sidecar/admin stands on"),
])
def test_an_include_that_points_up_or_aside_fails_the_configure_step(tree, file, line, refusal):
    include(tree, file, line)
    code, text = configure(tree)
    assert code != 0
    assert refusal in text and re.search(r'"(\S+)"', line).group(1) in text


@pytest.mark.parametrize("file, header, library", [
    ("shm/shm.c", "liburing.h", "liburing"),
    ("sidecar/exchange/sidecar_exchange.c", "openssl/ssl.h", "openssl"),
    ("sidecar/upstream/sidecar_upstream.c", "nghttp2/nghttp2.h", "libnghttp2"),
    ("sidecar/io/sidecar_io.h", "ares.h", "libcares"),
    ("ctl/ctl.c", "yaml.h", "yaml-0.1"),
])
def test_a_library_header_in_a_folder_that_may_not_use_it_fails_the_configure_step(
        tree, file, header, library):
    include(tree, file, f"#include <{header}>")
    code, text = configure(tree)
    assert code != 0
    assert f"may not use {library}" in text


def test_standing_on_a_folder_that_is_not_there_fails_the_configure_step(tree):
    rules = tree / "CMakeLists.txt"
    rules.write_text(re.sub(r"^rhc_folder\(ctl USES shm\)", "rhc_folder(ctl USES shm sidecar/cellar)",
                            rules.read_text(), flags=re.M))
    code, text = configure(tree)
    assert code != 0
    assert "USES sidecar/cellar, which is not declared above it" in text


def test_standing_on_a_floor_above_fails_the_configure_step(tree):
    rules = tree / "CMakeLists.txt"
    rules.write_text(re.sub(r"^rhc_folder\(shm\)", "rhc_folder(shm USES sidecar/base)", rules.read_text(),
                            flags=re.M))
    code, text = configure(tree)
    assert code != 0
    assert "USES sidecar/base, which is not declared above it" in text
