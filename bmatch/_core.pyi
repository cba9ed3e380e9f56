import enum
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

class Sense(enum.Enum):
    minimize = 0
    maximize = 1
    maximize_magnitude = 2

class Outcome(enum.Enum):
    optimal = 0
    infeasible = 1
    invalid = 2
    interrupted = 3

# status, col_of_row, row_dual, col_dual, objective, gap, trapped, stats
Solved: TypeAlias = tuple[
    Outcome,
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    float,
    float,
    npt.NDArray[np.int64],
    dict[str, float],
]

def solve(
    cost: npt.NDArray[np.floating],
    sense: Sense,
    threads: int,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None,
    transposed: bool = ...,
    small: int = ...,
) -> Solved: ...
def solve_fetched(
    copy: npt.NDArray[np.floating],
    sense: Sense,
    threads: int,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None,
    transposed: bool,
    best: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    col: npt.NDArray[np.int32],
    valid: npt.NDArray[np.bool_],
    list_cost: npt.NDArray[np.float64],
    list_col: npt.NDArray[np.int32],
    bound: npt.NDArray[np.float64],
    fetch: Callable[[npt.NDArray[np.int64]], None],
) -> Solved: ...

list_capacity: int

def pairs(
    cost: object, maximize: bool, threads: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None: ...
def batch(
    costs: npt.NDArray[np.floating], sense: Sense, threads: int
) -> tuple[Outcome, int, npt.NDArray[np.int64]]: ...
def instruction_set() -> str: ...
def margins(
    cost: npt.NDArray[np.floating],
    sense: Sense,
    col_of_row: npt.NDArray[np.int64],
    row_dual: npt.NDArray[np.float64],
    col_dual: npt.NDArray[np.float64],
    search_limit: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]: ...

class CudaType(enum.Enum):
    float32 = 0
    float64 = 1
    float16 = 2
    bfloat16 = 3

class CudaTeam(enum.Enum):
    warp = 0
    block = 1
    cluster = 2
    grid = 3

class CudaTask:
    def __init__(
        self,
        cost: int,
        type: CudaType,
        problems: int,
        rows: int,
        cols: int,
        problem_stride: int,
        row_stride: int,
        sense: Sense,
        prices: int,
    ) -> None: ...

def cuda_facts() -> tuple[bool, str, int, int, str]: ...
def cuda_workspace(task: CudaTask, team: CudaTeam, device: int) -> int: ...
def cuda_solve(
    task: CudaTask,
    team: CudaTeam,
    col_of_row: int,
    row_dual: int,
    col_dual: int,
    reports: int,
    workspace: int,
    device: int,
    stream: int,
) -> None: ...

class Threads:
    def __init__(self, threads: int) -> None: ...

def column_sums_float32(
    values: int,
    rows: int,
    cols: int,
    row_stride: int,
    shift: int,
    sum: int,
    square: int,
    threads: Threads,
) -> None: ...
def packed_bytes(tokens: int, d1: int, d2: int) -> int: ...
def multiplies_float32() -> bool: ...
def multiply_float32(
    left: int,
    right: int,
    tokens: int,
    d1: int,
    d2: int,
    left_stride: int,
    right_stride: int,
    products: int,
    threads: Threads,
) -> None: ...
def fold_float32(
    comoment: int, products: int, d1: int, d2: int, left: int, right: int, threads: Threads
) -> None: ...

column_sums_float64 = column_sums_bfloat16 = column_sums_float32
multiplies_bfloat16 = multiplies_float32
multiply_bfloat16 = multiply_float32
fold_float64 = fold_float32
