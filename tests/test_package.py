"""The package as a whole: import cost, public names, and imports that only go downwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bmatch

ROOT = Path(bmatch.__file__).parent

FLOORS = [
    {"_core", "arrays", "atomic", "console", "phases", "progress", "kernels"},
    {"costs", "gpu", "streams", "tensor_file", "kernels.dispatch", "kernels.reference"},
    {"host_solver", "gauge", "kernels.batch_sums", "kernels.finalise", "kernels.partial_sums"}
    | {"kernels.pilot", "kernels.row_scan"},
    {"fetching", "kernels.centred", "kernels.cross_moments"},
    {"device_solver"},
    {"assignment"},
    {"moments"},
    {"correlation", "architecture"},
    {"matching", "activations", "background", "checkpoint", "text"},
    {"estimate"},
    {"transport", "transport.weights", "report"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, path


def imports_of(path):
    """Modules of bmatch that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("bmatch."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bmatch":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in names if name.removeprefix("bmatch.") in FLOOR]
            if known or node.module == "bmatch":
                yield from known
            else:
                yield node.module


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: str(value))
def test_imports_only_go_downwards(name, path):
    assert name in FLOOR, f"{name} stands on no floor yet"
    for imported in imports_of(path):
        below = imported.removeprefix("bmatch.")
        inside = below.startswith(f"{name}.")  # a package gathers its own modules
        assert inside or FLOOR[below] < FLOOR[name], f"{name} imports {below}"


def test_no_floor_is_empty_talk():
    assert {name for name, _ in modules()} | {"_core"} == set(FLOOR)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_neither_torch_nor_anything_heavy():
    loaded = run("import sys, bmatch; bmatch.solve; print(*sys.modules)").split()
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

    from bmatch import assignment, correlation, gauge

    for module in (assignment, correlation, gauge):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0, capsys.readouterr().out
