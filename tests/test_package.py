"""The package as a whole: import cost, public names, and imports that only go downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import bmatch

ROOT = Path(bmatch.__file__).parent

FLOORS = (
    ("_core", "_version", "arrays", "kernels"),
    ("taking",),
    ("files",),
    ("groups", "jobs"),
    ("gauge", "rotations"),
    ("orthogonal",),
    ("architecture", "assignment", "correlation"),
    ("compat", "features", "matching", "models", "network_gauge", "procrustes"),
    ("gauge_file", "verdict"),
    ("stream_reading", "stream_sums"),
    ("streams",),
    ("estimate", "footprint", "network", "stream_jobs", "transport"),
    ("align", "audit", "lineage", "trajectory"),
    ("align_stored",),
    ("report",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
"""Packages and modules of bmatch: each imports only from floors below its own."""

ROOMS = {
    "files": (
        *(
            "workplace",
            "atomic",
            "names",
            "pointers",
            "tensor_file",
            "room",
            "mapped",
            "safetensors_copy",
            "torch_copy",
            "containers",
        ),
        *("distributed", "opening"),
    ),
    "jobs": (
        "cores",
        "device",
        "phases",
        "progress",
        "processes",
        "meeting",
        "ranks",
        "restarts",
        "resume",
        "events",
        "metrics",
        "pace",
        "in_turn",
    ),
    "kernels": (
        *("dispatch", "reference", "partial_sums", "batch_sums", "centred", "cross_moments"),
        *("finalise", "pilot", "row_scan"),
    ),
    "assignment": (
        *(
            "entries",
            "ragged",
            "factors",
            "costs",
            "partial",
            "answer",
            "host",
            "cuda",
            "fetched",
            "device",
        ),
        *("sparse", "solver", "certificate", "margins"),
    ),
    "correlation": (
        *("products", "statistics", "chunks", "batch", "pilot", "by_chunks", "by_kernels"),
        *("stretches", "site_moments", "background", "cross_moments"),
    ),
    "features": (
        *("pairs", "strangers", "table", "optimum", "discriminant", "relatives", "match", "labels"),
        "sketch",
    ),
    "compat": ("lap", "torch_ops", "torch_linear_assignment"),
    "architecture": (
        *("wrappers", "expressions", "templates", "spaces", "layout", "rules", "axes"),
        *("spellings", "torchtitan", "megatron"),
        *("stored", "cached", "known"),
        *("forms", "constraints", "labels", "merging", "calls", "elementwise", "contraction"),
        *("movement", "indexing", "parts", "trace", "leaving", "permutations", "signs", "solve"),
        *("reads", "shrink", "pictures"),
        *("sounds", "tiny", "forward_runs", "nesting", "layer_kinds"),
        *(
            "inner",
            "changed",
            "proof",
            "scale",
            "altered",
            "deriving",
            "describing",
            "saved",
            "derived",
            "survey",
        ),
        *(
            "measuring",
            "counting",
            "plans",
            "overlap",
            "classes",
            "tables",
            "table",
            "premise",
            "rotating",
        ),
        "verify",
    ),
    "models": (
        *("digest", "checkpoint", "rewrite", "plan", "hollow", "network_files"),
        *("loading", "blocks"),
        *("activations", "stored_pieces", "zarr_pieces", "stored_activations", "weight_evidence"),
        *("text", "shared_text", "smollm2", "trainer", "runs"),
    ),
    "verdict": ("bootstrap", "decoys", "witness", "calibration", "evidence", "verdict"),
    "network": ("selection", "parts", "gains", "pair", "prints", "settle", "search", "folders"),
    "transport": (
        *("lens", "weights", "network", "objects", "formats", "sae_formats", "hooks"),
        *("slots", "resuming", "moved", "ordering", "optimizer", "pieces", "sharded"),
        "training",
        *("peft_refused", "peft_keys", "lora_gguf", "adapters", "neurons", "neuron_lists"),
        *("sae_configs", "sae_optimizer", "sae", "sae_directions", "vectors"),
        *("probes", "finding", "carrying", "planning", "merge", "by_mergekit"),
    ),
    "trajectory": (
        *("stops", "turn", "hop", "gaps", "reads", "shared", "trajectory", "watch", "callback"),
    ),
    "lineage": ("numbering", "difference", "rotation", "lineage"),
    "audit": ("shares", "claims", "measures", "recipes", "sweep", "runs"),
    "report": ("drawing", "tables", "plots", "networks", "audits", "paths", "heat_map", "features"),
    "cli": (
        *("console", "options", "restarted", "dry_run", "networks", "align", "related", "path"),
        *("watch", "transport", "features", "apply", "merge", "audit", "info", "solve", "demo"),
        "app",
    ),
}
"""Modules of a package: each imports only those that stand before it."""


def modules():
    """Names of all modules, without ``bmatch.``; packages by their own."""
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, path


def imports_of(path):
    """Modules of bmatch that a file imports, at any depth of its code."""
    known = {name for name, _ in modules()} | {"_core"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [p if p.removeprefix("bmatch.") in known else node.module for p in parts]
        else:
            continue
        for name in names:
            if name.startswith("bmatch.") and name.removeprefix("bmatch.") in known:
                yield name.removeprefix("bmatch.")


def floor_of(name):
    room = name.split(".")[0]
    return next(number for number, names in enumerate(FLOORS) if room in names)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_imports_only_go_downwards(name, path):
    """Inside a package, too; a package's own names are gathered above all of its modules."""
    room, _, inside = name.partition(".")
    for imported in imports_of(path):
        other, _, below = imported.partition(".")
        if other != room:
            assert floor_of(imported) < floor_of(name), f"{name} imports {imported}"
        elif inside:
            assert below, f"{name} imports its own package"
            order = ROOMS[room]
            assert order.index(below) < order.index(inside), f"{name} imports {imported}"


def test_no_floor_and_no_room_is_empty_talk():
    found = {name for name, _ in modules()} | {"_core"}
    assert {name.split(".")[0] for name in found} == {n for names in FLOORS for n in names}
    packages = {name.split(".")[0] for name in found if "." in name}
    assert packages == set(ROOMS)
    for room, names in ROOMS.items():
        inside = {n.removeprefix(f"{room}.") for n in found if n.startswith(f"{room}.")}
        assert inside == set(names)
        assert len(names) == len(set(names))


MOST_LINES = {"bmatch/**/*.py": 400, "csrc/**/*.*": 500}


@pytest.mark.parametrize(("pattern", "most"), MOST_LINES.items())
def test_no_file_is_too_long_to_be_read_at_once(pattern, most):
    for path in ROOT.parent.glob(pattern):
        if path.suffix in (".py", ".h", ".cpp", ".cu"):
            assert len(path.read_text().splitlines()) <= most, path


def test_no_two_test_files_have_one_name():
    """pytest imports them by it, and stops at the second; tests/kernels is collected by itself."""
    tests = Path(__file__).parent
    files = [path for path in tests.rglob("test_*.py") if "kernels" not in path.parent.parts]
    assert len(files) > 50
    twice = [name for name, count in Counter(path.name for path in files).items() if count > 1]
    assert not twice


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_neither_torch_nor_anything_heavy():
    loaded = run("import sys, bmatch, bmatch.compat.lap; bmatch.solve; print(*sys.modules)").split()
    heavy = {"torch", "triton", "scipy", "transformers", "safetensors", "typer", "rich"}
    assert not heavy & set(loaded)
    assert "numpy" in loaded


def test_the_solver_needs_numpy_alone():
    """With every optional dependency out of reach, the core still works."""
    blocked = "torch triton scipy transformers safetensors typer rich matplotlib tqdm".split()  # noqa: SIM905
    out = run(
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked}))\n"
        "import numpy as np, bmatch\n"
        "g = bmatch.SignedPermutation.random(4, seed=0)\n"
        "print(bmatch.linear_sum_assignment(np.eye(3))[1], g.apply(np.ones(4)).sum())\n"
        "print(bmatch.match(g.matrix()).gauge == g)\n"
    )
    assert out.splitlines()[1] == "True"


def test_the_command_line_without_its_extra_is_one_sentence():
    code = "import sys; sys.modules['typer'] = None; import bmatch.__main__ as m; m.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the command line needs typer, which is not installed")
    assert len(done.stderr.splitlines()) == 1


def test_public_names_are_there():
    for name in bmatch.__all__:
        assert getattr(bmatch, name) is not None
        assert name in dir(bmatch)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = bmatch.nonsense
    assert (ROOT / "py.typed").exists()


def test_docstring_examples(capsys):
    import doctest

    from bmatch import gauge, orthogonal
    from bmatch.assignment import solver
    from bmatch.correlation import cross_moments

    for module in (solver, cross_moments, gauge, orthogonal):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0, capsys.readouterr().out
