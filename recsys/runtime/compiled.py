"""How kernels are compiled: by numba to this machine's instructions, once, and kept on disk for the next process."""

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys.core.artifacts import hash_file, hash_value

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
        _depend_on_all_modules(compiled, Path(inspect.getfile(function)).parent)
    except RuntimeError:  # no folder in which compiled code can be kept: it is compiled in every process then
        compiled = njit(**settings)(function)
    return compiled


def _depend_on_all_modules(compiled: Any, folder: Path) -> None:
    """Have the code kept of a kernel count as stale once any module of a folder changes.

    Kernels call each other across modules and hold what they call, and numba looks at a kernel's own module alone.
    """
    kept = compiled._cache._cache_file
    kept._source_stamp = (kept._source_stamp, _hash_of_modules(folder))


@cache
def _hash_of_modules(folder: Path) -> str:
    return hash_value({path.name: hash_file(path) for path in folder.glob("*.py")})


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
