import enum

import numpy as np
import numpy.typing as npt

class Sense(enum.Enum):
    minimize = 0
    maximize = 1
    maximize_magnitude = 2

class Status(enum.Enum):
    optimal = 0
    infeasible = 1
    invalid = 2
    interrupted = 3

def solve(
    cost: npt.NDArray[np.floating], sense: Sense
) -> tuple[
    Status,
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    float,
    float,
    npt.NDArray[np.int64],
]: ...
def margins(
    cost: npt.NDArray[np.floating],
    sense: Sense,
    col_of_row: npt.NDArray[np.int64],
    row_dual: npt.NDArray[np.float64],
    col_dual: npt.NDArray[np.float64],
    search_limit: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]: ...
