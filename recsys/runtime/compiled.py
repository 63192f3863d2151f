"""How kernels are compiled: by numba to this machine's instructions, once, and kept on disk for the next process."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Scalar = TypeVar("_Scalar", bound=np.generic)
_LINE = 64
"""Bytes of a cache line."""
_ARITHMETIC = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""What the compiler may assume of floats: sums may be regrouped; NaN and infinity keep their meaning."""


def kernel(function: _Function) -> _Function:
    """Compile a function of arrays and numbers at its first call, free of the interpreter's lock."""
    settings = {"fastmath": _ARITHMETIC, "boundscheck": False, "error_model": "numpy", "nogil": True}
    try:
        compiled: _Function = njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder in which compiled code can be kept: it is compiled in every process then
        compiled = njit(**settings)(function)
    return compiled


def aligned(array: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """Return a copy that starts at a cache line, so that no vector of a row of whole lines is read from two."""
    room = np.empty(array.nbytes + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def use_one_thread() -> None:
    """Have matrix products of this process run on one thread: a second one waits for the first at these sizes."""
    import scipy.linalg.cython_blas  # noqa: F401 (compiled code calls its products; only loaded libraries are limited)

    threadpool_limits(1)
