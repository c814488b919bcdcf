"""nv12.cu as a C compiler understands it: the same source, run thread by thread on the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
from cuda_stand_in import Kernel

from rtsr.backends.cuda.nv12 import ARGUMENTS, SOURCE

COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
_NUMPY = {"p": np.uint64, "l": np.int64, "i": np.int32}
_CTYPES = {"p": ctypes.c_void_p, "l": ctypes.c_longlong, "i": ctypes.c_int}
_C = {"p": "void *", "l": "long long", "i": "int"}
_THREADS = """
static struct {{ unsigned x, y, z; }} blockIdx, blockDim, threadIdx;
#include "{source}"
#define EACH(of, by) for (of.y = 0; of.y < by[1]; of.y++) for (of.x = 0; of.x < by[0]; of.x++)
{functions}
"""
_FUNCTION = """
void run_{name}(const unsigned *grid, const unsigned *block, {declared})
{{
    blockDim.x = block[0], blockDim.y = block[1];
    EACH(blockIdx, grid) EACH(threadIdx, block) {name}({passed});
}}
"""


def build(folder: Path) -> dict[str, Kernel]:
    """The kernels, by name."""
    assert COMPILER is not None
    functions = []
    for name in names():
        kinds = ARGUMENTS[name.rpartition("_")[0]]
        declared = ", ".join(f"{_C[kind]} a{i}" for i, kind in enumerate(kinds))
        functions.append(
            _FUNCTION.format(name=name, declared=declared, passed=", ".join(f"a{i}" for i in range(len(kinds))))
        )
    source, library = folder / "threads.c", folder / "threads.so"
    source.write_text(_THREADS.format(source=SOURCE, functions="".join(functions)))
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library))
    return {name: _kernel(loaded, name) for name in names()}


def names() -> list[str]:
    return [f"{name}_{bits}" for name in ARGUMENTS for bits in (8, 16)]


def _kernel(library: ctypes.CDLL, name: str) -> Kernel:
    kinds, size = ARGUMENTS[name.rpartition("_")[0]], 1 if name.endswith("_8") else 2
    function = getattr(library, f"run_{name}")
    pair = ctypes.c_uint * 2
    function.argtypes = [pair, pair, *(_CTYPES[kind] for kind in kinds)]
    function.restype = None

    def take_luma(source: int, pitch: int, width: int, height: int, border: int, shift: int, to: int) -> list:
        whole = (width + 2 * border) * (height + 2 * border) * size
        return [(source, (height - 1) * pitch + width * size, False), (to, whole, True)]

    def take_chroma(source: int, pitch: int, width: int, height: int, shift: int, to: int) -> list:
        return [(source, (height - 1) * pitch + 2 * width * size, False), (to, 2 * width * height * size, True)]

    def give_luma(source: int, width: int, height: int, shift: int, to: int, pitch: int) -> list:
        return [(source, width * height * size, False), (to, (height - 1) * pitch + width * size, True)]

    def give_chroma(source: int, width: int, height: int, shift: int, to: int, pitch: int) -> list:
        return [(source, 2 * width * height * size, False), (to, (height - 1) * pitch + 2 * width * size, True)]

    touches = (take_luma, take_chroma, give_luma, give_chroma)
    return Kernel(
        [_NUMPY[kind] for kind in kinds],
        lambda grid, block, values: function(pair(*grid), pair(*block), *values),
        next(each for each in touches if name.startswith(each.__name__)),
    )
