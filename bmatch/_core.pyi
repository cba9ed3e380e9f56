import enum
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# Names, best first; the one in use; another one from now on.
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use(name: str) -> None: ...

_Floats: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
# Floats of up to 64 bits, integers of up to 32, booleans; two bytes of no kind: bfloat16.
_Stored: TypeAlias = npt.NDArray[Any]

class Sense(enum.Enum):
    minimize = 0
    maximize = 1
    maximize_magnitude = 2

class Outcome(enum.Enum):
    optimal = 0
    infeasible = 1
    invalid = 2
    interrupted = 3

class Solution:
    @property
    def outcome(self) -> Outcome: ...
    @property
    def col_of_row(self) -> npt.NDArray[np.int64]: ...  # [n]
    @property
    def row_dual(self) -> npt.NDArray[np.float64]: ...  # [n], or [0] without a certificate
    @property
    def col_dual(self) -> npt.NDArray[np.float64]: ...  # [m]
    @property
    def objective(self) -> float: ...
    @property
    def gap(self) -> float: ...
    @property
    def trapped(self) -> npt.NDArray[np.int64]: ...  # rows, if infeasible
    @property
    def stats(self) -> dict[str, float]: ...

class SparseSolution:
    @property
    def outcome(self) -> Outcome: ...
    @property
    def col_of_row(self) -> npt.NDArray[np.int64]: ...  # [rows]
    @property
    def row_dual(self) -> npt.NDArray[np.float64]: ...  # [rows]
    @property
    def col_dual(self) -> npt.NDArray[np.float64]: ...  # [cols]
    @property
    def objective(self) -> float: ...
    @property
    def gap(self) -> float: ...
    @property
    def trapped(self) -> npt.NDArray[np.int64]: ...  # rows, if infeasible
    @property
    def negative(self) -> npt.NDArray[np.bool_]: ...  # [rows] where magnitudes are matched
    @property
    def invalid(self) -> int: ...
    @property
    def first_invalid(self) -> int: ...
    @property
    def stats(self) -> dict[str, float]: ...

class BatchSolution:
    @property
    def outcome(self) -> Outcome: ...
    @property
    def problem(self) -> int: ...  # the first without an answer, or B
    @property
    def col_of_row(self) -> npt.NDArray[np.int64]: ...  # [B, n]

def solve(
    cost: _Stored,  # [n, m], n <= m
    sense: Sense,
    threads: int,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None,  # [m]
    transposed: bool = ...,
    limit: float = ...,
    most: bool = ...,
    small: int = ...,
) -> Solution: ...
def solve_fetched(
    copy: _Floats,  # [n, m], n <= m
    sense: Sense,
    threads: int,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None,  # [m]
    transposed: bool,
    limit: float,
    most: bool,
    best: npt.NDArray[np.float64],  # [n]
    second: npt.NDArray[np.float64],  # [n]
    col: npt.NDArray[np.int32],  # [n]
    valid: npt.NDArray[np.bool_],  # [n]
    list_cost: npt.NDArray[np.float64],  # [n, list_capacity]
    list_col: npt.NDArray[np.int32],  # [n, list_capacity]
    bound: npt.NDArray[np.float64],  # [n]
    fetch: Callable[[npt.NDArray[np.int64]], None],
) -> Solution: ...

list_capacity: int
most_lines: int  # rows, or columns, of a matrix

def pairs(
    cost: object, maximize: bool, threads: int, limit: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None: ...
def solve_compressed(
    rows: int,
    cols: int,
    start: npt.NDArray[np.int64],  # [rows + 1], or [cols + 1] if by_columns
    indices: npt.NDArray[Any],  # int32 or int64 [entries]
    data: _Floats,  # [entries]
    sense: Sense,
    by_columns: bool,
    transposed: bool,
    forbid: bool,
    limit: float,
    most: bool,
) -> SparseSolution: ...
def solve_coordinates(
    rows: int,
    cols: int,
    row: npt.NDArray[Any],  # int32 or int64 [entries]
    col: npt.NDArray[Any],
    data: _Floats,  # [entries]
    sense: Sense,
    transposed: bool,
    forbid: bool,
    limit: float,
    most: bool,
) -> SparseSolution: ...

class FactorCost(enum.Enum):
    dot = 0
    abs_dot = 1
    cosine = 2
    abs_cosine = 3
    sqeuclidean = 4
    euclidean = 5

def solve_factors(
    x: _Floats,  # [n, k], n <= m, C-contiguous
    y: _Floats,  # [m, k], of the same type
    cost: FactorCost,
    sense: Sense,
    threads: int,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None,  # [m]
    transposed: bool,
    limit: float,
    most: bool,
    bytes: int,
    small: int = ...,
) -> Solution: ...

class FactorRows:
    def __init__(self, x: _Floats, y: _Floats, cost: FactorCost) -> None: ...
    def rows(self, first: int, count: int) -> npt.NDArray[np.float64]: ...  # [count, m]
    def entries(
        self, row: npt.NDArray[np.int64], col: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]: ...

def factor_margins(
    x: _Floats,
    y: _Floats,
    cost: FactorCost,
    sense: Sense,
    col_of_row: npt.NDArray[np.int64],  # [n]
    row_dual: npt.NDArray[np.float64],  # [n]
    col_dual: npt.NDArray[np.float64],  # [m]
    search_limit: int,
    bytes: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]: ...  # [n], [n]
def solve_blocks(
    make: Callable[[int, int], npt.NDArray[np.float64]],  # [count, cols]
    rows: int,
    cols: int,
    block: int,
    sense: Sense,
    threads: int,
    certificate: bool,
    prices: npt.NDArray[np.float64] | None,  # [cols]
    limit: float,
    most: bool,
    bytes: int,
    small: int = ...,
) -> Solution: ...
def block_margins(
    make: Callable[[int, int], npt.NDArray[np.float64]],
    rows: int,
    cols: int,
    block: int,
    sense: Sense,
    col_of_row: npt.NDArray[np.int64],  # [rows]
    row_dual: npt.NDArray[np.float64],  # [rows]
    col_dual: npt.NDArray[np.float64],  # [cols]
    search_limit: int,
    bytes: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]: ...  # [rows], [rows]
def batch(
    costs: _Stored,  # [B, n, m]
    sense: Sense,
    threads: int,
    sizes: npt.NDArray[np.int64] | None = None,  # [B, 2]
    limits: npt.NDArray[np.float64] | None = None,  # [B]
    most: bool = False,
) -> BatchSolution: ...
def margins(
    cost: _Stored,  # [n, m], n <= m
    sense: Sense,
    col_of_row: npt.NDArray[np.int64],  # [n]
    row_dual: npt.NDArray[np.float64],  # [n]
    col_dual: npt.NDArray[np.float64],  # [m]
    search_limit: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]: ...  # [n], [n]

class CudaType(enum.Enum):
    float32 = 0
    float64 = 1
    float16 = 2
    bfloat16 = 3

class CudaTeam(enum.Enum):
    warp = 0
    block = 1
    grid = 2

class CudaOutcome(enum.IntEnum):
    optimal = 0
    infeasible = 1
    invalid = 2
    dwarfed = 3
    broken = 4
    costly = 5

# Of one problem: int32 outcome, bidding_rounds, forest_phases, forest_rounds, rescans and
# whole_rows; float64 objective and gap.
CudaReport: np.dtype[np.void]
cuda_trapped: int

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
        sizes: int,
        most_work: int,
    ) -> None: ...

class CudaFacts:
    @property
    def built(self) -> bool: ...
    @property
    def compiled(self) -> str: ...
    @property
    def driver(self) -> int: ...
    @property
    def devices(self) -> int: ...
    @property
    def trouble(self) -> str: ...

class CudaReceipt:
    def wait(self) -> npt.NDArray[np.void]: ...

def cuda_facts() -> CudaFacts: ...
def cuda_workspace(task: CudaTask, team: CudaTeam, device: int) -> int: ...
def cuda_solve(
    task: CudaTask,
    team: CudaTeam,
    col_of_row: int,
    row_dual: int,
    col_dual: int,
    workspace: int,
    device: int,
    stream: int,
) -> CudaReceipt | None: ...

class Threads:
    def __init__(self, threads: int) -> None: ...

class IdleTeam:
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

# Addresses of tensors on the host, and of room for what is written.
class Take:
    def __init__(
        self,
        source: int,
        starts: npt.NDArray[np.int64],  # [rows]
        turned: npt.NDArray[np.bool_] | None,  # [rows]
        cols: int,
        columns: npt.NDArray[np.int32] | None,  # [cols]
        turned_columns: npt.NDArray[np.bool_] | None,  # [cols]
        itemsize: int,
    ) -> None: ...
    def write(self, out: int) -> None: ...
    def write_to_file(self, file: int, at: int, piece: int, threads: int) -> None: ...

def largest_magnitude(entries: int, count: int, itemsize: int) -> int: ...

HASHED_PIECE: int

def look_over(content: int, count: int, itemsize: int, threads: int) -> tuple[bytes, int]: ...
