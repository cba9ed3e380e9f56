"""Arrays and tensors side by side: what becomes what, and where it lies."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from bmatch import arrays


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int8, torch.bool])
def test_tensors_as_arrays_share_their_memory(dtype):
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    array = arrays.as_array(tensor)
    assert array.dtype == np.dtype(str(dtype).removeprefix("torch."))
    assert array.tolist() == tensor.tolist()
    assert np.shares_memory(array, tensor.numpy())


def test_tensors_that_numpy_does_not_take_as_they_are():
    wide = torch.tensor([1.5, -3.0], dtype=torch.bfloat16)
    assert arrays.as_array(wide).dtype == np.float32
    assert arrays.as_array(wide).tolist() == [1.5, -3.0]
    assert arrays.as_array(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
    negated = torch.tensor([1j, 2j]).conj().imag
    assert negated.is_neg()
    assert arrays.as_array(negated).tolist() == [-1, -2]
    assert arrays.as_tensor(negated).numpy().tolist() == [-1, -2]


def test_what_is_no_tensor_becomes_an_array_by_numpys_rules():
    assert arrays.as_array([[1, 2], [3, 4]]).shape == (2, 2)
    array = np.arange(3.0)
    assert arrays.as_array(array) is array


@pytest.mark.filterwarnings("error")
def test_arrays_as_tensors():
    array = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(arrays.as_tensor(array).numpy(), array)
    frozen = array.copy()
    frozen.flags.writeable = False
    for given in (array[::-1], frozen, array.astype(">f8"), array.tolist()):
        assert arrays.as_tensor(given).tolist() == np.asarray(given).tolist()


def test_results_are_of_the_kind_that_was_given():
    results = np.arange(3)
    assert arrays.kind_of([1, 2], False)(results) is results
    made = arrays.kind_of(torch.zeros(2), False)(results)
    assert isinstance(made, torch.Tensor)
    assert made.device.type == "cpu"
    assert np.shares_memory(made.numpy(), results)


def test_results_of_another_librarys_arrays(monkeypatch):
    class Array:
        """Of a library that knows DLPack, as CuPy does."""

        __cuda_array_interface__ = None

        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack__(self, **kwargs):
            return self.tensor.__dlpack__()

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    Array.__module__ = "other.core"
    monkeypatch.setitem(sys.modules, "other", types.SimpleNamespace(from_dlpack=Array))
    given = Array(torch.arange(4.0))
    assert arrays.is_on_device(given)
    assert arrays.as_tensor(given).tolist() == [0, 1, 2, 3]
    assert arrays.on_host(given).tolist() == [0, 1, 2, 3]
    made = arrays.kind_of(given, True)(np.arange(2))
    assert isinstance(made, Array)
    assert made.tensor.tolist() == [0, 1]
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ValueError, match=r"read by torch, which is not installed: .* in place of the Array"
    ):
        arrays.as_tensor(given)


def test_what_lies_on_the_host_stays():
    for value in ([1], np.ones(2), torch.ones(2)):
        assert not arrays.is_on_device(value)
        assert arrays.on_host(value) is value


@pytest.mark.parametrize("like", [np.zeros(1), torch.zeros(1)], ids=["array", "tensor"])
def test_numbers_made_where_others_are(like):
    for made, expected in (
        (arrays.arange(3, like), [0, 1, 2]),
        (arrays.full(2, -1, like), [-1, -1]),
    ):
        assert type(made) is type(like)
        assert made.tolist() == expected
        assert str(made.dtype).removeprefix("torch.") == "int64"
    flags = arrays.as_int8(like == 0)
    assert flags.tolist() == [1]
    assert str(flags.dtype).removeprefix("torch.") == "int8"


def test_bfloat16_as_it_is_stored_and_as_floats():
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16().T
    stored = arrays.as_array(tensor, stored=True)
    assert stored.dtype == arrays.BFLOAT16
    assert stored.__array_interface__["data"][0] == tensor.data_ptr()
    expected = tensor.float().numpy()
    assert np.array_equal(arrays.as_floats(stored), expected)
    assert np.array_equal(arrays.as_array(tensor), expected)
    assert float(arrays.as_floats(stored[2, 3])) == expected[2, 3]
    assert arrays.as_array(stored, stored=True) is stored


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        *(("bool", "f4"), ("i1", "f4"), ("u1", "f4"), ("i2", "f4"), ("u2", "f4")),
        *(("i4", "f8"), ("u4", "f8"), ("i8", "f8"), ("f2", "f2"), ("f4", "f4"), ("f8", "f8")),
    ],
)
def test_floats_hold_what_is_stored(dtype, expected):
    stored = np.array([[0, 1], [1, 0]], dtype)
    floats = arrays.as_floats(stored)
    assert floats.dtype == expected
    assert np.array_equal(floats, stored)
    assert (floats is stored) == (np.dtype(dtype).kind == "f")
