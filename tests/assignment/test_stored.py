"""Matrices of types that are read as they are stored: the answers for a float copy, without one."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from optimality import assert_certified, scipy_objective

import bmatch
from bmatch import _core
from bmatch.arrays import BFLOAT16, as_floats
from bmatch.assignment.costs import Costs, sense_of
from bmatch.assignment.margins import margins

NARROW = ("bool", "int8", "uint8", "int16", "uint16", "float16", "bfloat16")
TYPES = (*NARROW, "int32", "uint32")
SENSES = {
    "minimize": {},
    "maximize": {"maximize": True},
    "magnitude": {"sign_marginalized": True},
}
ANSWER = ("row_ind", "col_ind", "col_of_row", "row_dual", "col_dual", "objective", "gap", "sign")


def bfloat16(values):
    """Numbers rounded towards zero, as bfloat16 is stored."""
    bits = np.asarray(values, np.float32).view(np.uint32) >> 16
    return bits.astype(np.uint16).view(BFLOAT16)


def draw(name, shape, seed=0):
    """Entries over the whole range of a type, both ends among them."""
    r = np.random.default_rng(seed)
    if name == "bool":
        return r.random(shape) < 0.4
    if name == "bfloat16":
        return bfloat16(r.standard_normal(shape))
    if name == "float16":
        return r.standard_normal(shape).astype(np.float16)
    ends = np.iinfo(name)
    entries = r.integers(ends.min, ends.max, shape, name, endpoint=True)
    entries[0, 0], entries[-1, -1] = ends.min, ends.max
    return entries


def wide(stored):
    """The float copy that would be solved in its place, with the strides that it has."""
    copy = np.empty_like(stored, np.float64 if stored.dtype.itemsize == 4 else np.float32)
    copy[...] = as_floats(stored)
    return copy


LAYOUTS = {
    "rows": lambda a: a,
    "columns": lambda a: np.asfortranarray(a),
    "every other": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "backwards": lambda a: a[::-1, ::-1],
}


def assert_same(one, other):
    for name in ANSWER:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.fixture(params=_core.instruction_sets())
def _in_every_set(request):
    before = _core.instruction_set()
    _core.use(request.param)
    yield
    _core.use(before)


@pytest.mark.usefixtures("_in_every_set")
@pytest.mark.parametrize("sense", SENSES)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (5, 40), (33, 18), (400, 400), (390, 500)])
def test_answers_are_those_for_a_float_copy_to_the_last_bit(name, shape, sense):
    options = SENSES[sense]
    for layout in LAYOUTS.values():
        stored = layout(draw(name, shape))
        before = stored.copy()
        found = bmatch.solve(stored, **options)
        assert_same(found, bmatch.solve(wide(stored), **options))
        assert np.array_equal(stored, before)
        exact = as_floats(stored).astype(np.float64)
        assert_certified(exact, found, **options)
        goal = np.abs(exact) if sense == "magnitude" else exact
        best = scipy_objective(goal, maximize=sense != "minimize")
        assert found.objective == pytest.approx(best, rel=1e-13)


def numbers_of(name):
    """Every finite number of a narrow type, or many of a wider one."""
    if name in ("int32", "uint32"):
        return draw(name, (1, 2000), seed=1)[0]
    if name == "bool":
        return np.array([0, 1, 2, 255], np.uint8).view(bool)  # NumPy takes any but 0 for true
    bits = np.arange(256 if name in ("int8", "uint8") else 65536)
    kind = np.uint8 if len(bits) == 256 else np.uint16
    numbers = bits.astype(kind).view(BFLOAT16 if name == "bfloat16" else name)
    return numbers[np.isfinite(as_floats(numbers))]


@pytest.mark.usefixtures("_in_every_set")
@pytest.mark.parametrize("name", TYPES)
def test_every_number_of_a_type_is_read_exactly(name):
    """The dual of a row of equal numbers is that number, where columns are free."""
    numbers = numbers_of(name)
    for some in np.array_split(numbers, -(-len(numbers) // 400)):
        found = bmatch.solve(np.broadcast_to(some[:, None], (len(some), 407)))
        assert not found.col_dual.any()
        assert np.array_equal(found.row_dual, as_floats(some))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_infinities_forbid_and_nan_is_refused(name):
    def stored(values):
        return bfloat16(values) if name == "bfloat16" else np.asarray(values, name)

    cost = np.random.default_rng(0).random((60, 70)).astype(np.float32)
    cost[cost > 0.6] = np.inf
    for n in (20, 60):
        assert_same(bmatch.solve(stored(cost[:n])), bmatch.solve(as_floats(stored(cost[:n]))))
        assert_same(
            bmatch.solve(stored(-cost[:n]), True), bmatch.solve(as_floats(stored(-cost[:n])), True)
        )
    cost[3, 5] = np.nan
    with pytest.raises(ValueError, match="invalid numeric entries: nan in row 3, column 5"):
        bmatch.solve(stored(cost))
    free = bmatch.solve(stored(cost), nonfinite="forbid")
    assert_same(free, bmatch.solve(as_floats(stored(cost)), nonfinite="forbid"))
    assert bmatch.certify(stored(cost), free, nonfinite="forbid").gap == 0
    with pytest.raises(ValueError, match="row 1 has no finite entry"):
        bmatch.solve(stored([[1, 2], [np.inf, np.inf]]))


@pytest.mark.parametrize("name", TYPES)
def test_every_function_takes_them(name):
    stored = draw(name, (30, 30), seed=2)
    floats = wide(stored)
    pairs = bmatch.linear_sum_assignment(floats)
    assert np.array_equal(bmatch.linear_sum_assignment(stored), pairs)
    batch = np.stack([stored, draw(name, (30, 30), seed=3)])
    assert np.array_equal(
        bmatch.batch_linear_sum_assignment(batch),
        bmatch.batch_linear_sum_assignment(as_floats(batch)),
    )
    sizes = [[30, 20], [7, 25]]
    assert np.array_equal(
        bmatch.batch_linear_sum_assignment(batch.swapaxes(1, 2), sizes=sizes),
        bmatch.batch_linear_sum_assignment(as_floats(batch.swapaxes(1, 2)), sizes=sizes),
    )
    for options in SENSES.values():
        found = bmatch.solve(stored, **options)
        assert bmatch.certify(stored, pairs, **options) == bmatch.certify(floats, pairs, **options)
        assert bmatch.certify(stored, found, **options).gap == 0
        assert_same(bmatch.solve(stored, **options, warm_start=found), found)
        sense = sense_of(options.get("maximize", False), options.get("sign_marginalized", False))
        both = [margins(Costs.of(matrix, sense), found) for matrix in (stored, floats)]
        assert np.array_equal(both[0], both[1])
    match, expected = bmatch.match(stored), bmatch.match(floats)
    assert match.gauge == expected.gauge
    assert match.mean_abs_off_diagonal == expected.mean_abs_off_diagonal
    assert np.array_equal(match.no_signal, expected.no_signal)


@pytest.mark.parametrize("name", TYPES)
def test_threads_give_the_same_answer(name):
    stored = draw(name, (500, 600), seed=4)
    alone = bmatch.solve(stored, num_threads=1)
    assert_same(bmatch.solve(stored, num_threads=3), alone)
    batch = np.stack([stored[:40, :50]] * 9)
    assert np.array_equal(
        bmatch.batch_linear_sum_assignment(batch, num_threads=3),
        bmatch.batch_linear_sum_assignment(batch, num_threads=1),
    )


def test_tensors_are_read_where_they_lie():
    torch = pytest.importorskip("torch")
    floats = torch.randn(50, 60, generator=torch.Generator().manual_seed(0))
    for kind in (torch.bfloat16, torch.float16):
        for tensor in (floats.to(kind), floats.to(kind).T, floats.to(kind)[::2, 1::3]):
            costs = Costs.of(tensor, _core.Sense.minimize)
            assert costs.matrix.__array_interface__["data"][0] == tensor.data_ptr()
            found = bmatch.solve(tensor.requires_grad_())
            assert isinstance(found.col_ind, torch.Tensor)
            assert_same(found, bmatch.solve(tensor.detach().float()))
    for kind in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.bool, torch.uint16):
        tensor = (10 * floats).abs().to(kind)
        costs = Costs.of(tensor, _core.Sense.minimize)
        assert costs.matrix.__array_interface__["data"][0] == tensor.data_ptr()
        assert_same(bmatch.solve(tensor), bmatch.solve(tensor.double()))


def test_types_of_other_packages():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.random.default_rng(0).standard_normal((30, 40))
    stored = values.astype(ml_dtypes.bfloat16)
    assert Costs.of(stored, _core.Sense.minimize).matrix.base is stored
    for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        stored = values.astype(kind)
        floats = stored.astype(np.float32)
        assert_same(bmatch.solve(stored), bmatch.solve(floats))
        assert np.array_equal(
            bmatch.linear_sum_assignment(stored), bmatch.linear_sum_assignment(floats)
        )


@pytest.mark.parametrize("name", TYPES)
def test_what_is_not_native_or_aligned_is_copied_as_it_is_stored(name):
    stored = draw(name, (20, 30), seed=5)
    expected = bmatch.solve(stored)
    fields = np.zeros((20, 30), np.dtype([("a", stored.dtype), ("b", "i1")]))
    fields["a"] = stored
    assert_same(bmatch.solve(fields["a"]), expected)
    if name != "bfloat16":
        assert_same(bmatch.solve(stored.astype(stored.dtype.newbyteorder())), expected)


def test_two_bytes_of_no_kind_are_no_numbers():
    for dtype in ("V2", [("a", "u2")], "S2", [("a", "u1"), ("b", "u1")]):
        with pytest.raises(TypeError, match="Cannot cast array data"):
            bmatch.linear_sum_assignment(np.zeros((3, 3), dtype))


MEASURED = """
    import numpy as np
    import bmatch
    from bmatch.jobs.phases import phase

    n = 6000
    entries = np.random.default_rng(0).integers(0, 60, (n, n), np.uint8)
    cost = {cost}
    bmatch.solve(cost[:500, :500])
    phases = []
    with phase("before", phases):
        pass
    with phase("solve", phases):
        bmatch.{solve}(cost)
    print(phases[1].peak_bytes - phases[0].peak_bytes)
"""
ROOM = 9e6  # a quarter of `entries`: lists, prices, what is loaded


@pytest.mark.parametrize("solve", ["solve", "linear_sum_assignment"])
@pytest.mark.parametrize(
    ("cost", "most"),
    [
        ("entries", ROOM),
        ("entries.T", ROOM),
        ("entries > 58", ROOM),
        ("entries[:3000].view(np.float16)", ROOM),
        ("entries[:1500].view(np.int32)", ROOM),
        ("entries[:, :3000]", 6000 * 3000 + ROOM),  # tall, so copied once as it is stored
    ],
)
def test_no_wide_copy_is_made(cost, most, solve):
    code = textwrap.dedent(MEASURED).format(cost=cost, solve=solve)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < most
