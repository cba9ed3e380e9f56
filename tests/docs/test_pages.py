"""What README.md and docs/ say: their code runs and prints what stands below it.

Pages that work on the demo's folder run in test_demo.py.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib

import pages
import pytest
import scipy.optimize._qap

import bmatch

SOLVER = "linear_sum_assignment"
HERE = [page for page in pages.PAGES if pages.runs(page) and not pages.needs_demo(page)]


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.stem)
def test_code_prints_what_stands_below_it(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for module in (scipy.optimize, scipy.optimize._qap):  # a page puts another in its place
        monkeypatch.setattr(module, SOLVER, getattr(module, SOLVER))
    theirs = scipy.optimize.linear_sum_assignment
    pages.check(page)
    monkeypatch.undo()
    assert scipy.optimize.linear_sum_assignment is theirs


def test_a_page_that_is_wrong_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n```text\n2\n```\n")
    with pytest.raises(AssertionError):
        pages.check(page)
    page.write_text("```python\nprint(1)\n```\n")
    with pytest.raises(AssertionError):
        pages.check(page)
    page.write_text("```python\nprint(1)\n```\n```text\n1\n```\n")
    pages.check(page)


def test_every_make_target_that_a_page_names_is_one():
    makefile = (pages.ROOT / "Makefile").read_text()
    for page in (*pages.PAGES, pages.ROOT / "CONTRIBUTING.md", pages.ROOT / "tests/README.md"):
        commands = re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE)
        for target in commands:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


def test_what_make_check_leaves_out_is_there():
    makefile = (pages.ROOT / "Makefile").read_text().replace("\\\n", " ")
    slow = re.search(r"^SLOW = (.*)$", makefile, re.MULTILINE)[1].split()
    for path in slow:
        assert (pages.ROOT / path).exists(), path


def test_files_that_a_recipe_names_are_there():
    text = (pages.ROOT / "CONTRIBUTING.md").read_text() + (
        pages.ROOT / "tests/README.md"
    ).read_text()
    named = re.findall(r"`((?:bmatch|csrc|tests|benchmarks|docs|examples)/[\w./]*)`", text)
    assert len(named) > 20
    for path in named:
        assert (pages.ROOT / path).exists(), path


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (pages.ROOT / "README.md").read_text())
    assert len(links) > 10
    for link in links:
        assert (pages.ROOT / link).exists(), link


def test_the_first_screen_of_the_readme():
    """What it is, an example with its output, installation, six rows."""
    screen = (pages.ROOT / "README.md").read_text().splitlines()[:40]
    assert screen.count("```python") == screen.count("```text") == screen.count("```sh") == 1
    assert sum(line.startswith("|") for line in screen) == 8


def test_every_public_name_has_a_place_in_the_reference():
    reference = "\n".join(page.read_text() for page in (pages.ROOT / "docs/api").glob("*.md"))
    for name in bmatch.__all__:
        public = getattr(bmatch, name)
        inner = [f"{name}.{n}" for n in public.__all__] if inspect.ismodule(public) else [name]
        for path in inner:
            assert f"::: bmatch.{path}\n" in reference, path


MATRICES = {
    'correlations of aligned activations ("planted")': "planted",
    "the same, noisy": "noisy",
    "uniform": "uniform",
    "low rank": "lowrank",
    "distances in the plane": "spatial",
    "integers 0..99": "int100",
}


def test_ratios_of_the_solver_are_those_of_the_results():
    table = (pages.ROOT / "benchmarks/results/assignment.md").read_text()
    page = (pages.ROOT / "docs/benchmarks.md").read_text()
    for matrix, family in MATRICES.items():
        rows = re.findall(rf"^\| {re.escape(matrix)} \| (.*) \|$", page, re.MULTILINE)
        scipy, best = ([float(cell) for cell in row.split(" | ")] for row in rows)
        for k, n in enumerate((1024, 2048, 4096, 8192)):
            line = re.search(rf"^\| {family} \| {n} x {n} \| (.*) \|$", table, re.MULTILINE)[1]
            cells = line.split(" | ")
            found = float(cells[2]), float(cells[-1].split("**")[1])
            assert (scipy[k], best[k]) == pytest.approx(found, abs=0.05), (matrix, n)


def test_the_version_is_stated_once():
    stated = ast.parse((pages.ROOT / "bmatch/_version.py").read_text()).body[-1]
    assert ast.literal_eval(stated.value) == bmatch.__version__
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
