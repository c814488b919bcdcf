"""Memory that something else owns, as a DLPack capsule (dmlc.github.io/dlpack, version 0.8), which FFmpeg's frames are
made of without a copy."""

from __future__ import annotations

import ctypes
from typing import Any

CPU, CUDA = 1, 2  # DLDeviceType
_UNSIGNED = 1  # DLDataTypeCode
_NAME = b"dltensor"  # until somebody takes what is in it


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_in_use: dict[int, tuple[Any, ...]] = {}  # by address of the _Managed: it, what it points to, and who owns the memory


@_Deleter
def _let_go(managed: int) -> None:
    _in_use.pop(managed, None)


_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Deleter)
# Of a capsule that is being destroyed: as an address, since a reference to it would bring it back to life.
_is_valid = _api["PyCapsule_IsValid"]
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)
_content = _api["PyCapsule_GetPointer"]
_content.restype, _content.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)


@_Deleter
def _destroyed(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody has taken it
        _let_go(_content(capsule, _NAME))


def exported(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], bits: int, device: tuple[int, int], owner: object
) -> object:
    """Unsigned samples at an address, for whoever takes them; `owner` lives until that one lets go, in any thread.

    strides: in samples. bits: 8 or 16, of a sample. device: (CPU or CUDA, which).
    """
    dimensions = ctypes.c_int64 * len(shape)
    sides, steps = dimensions(*shape), dimensions(*strides)
    pointer = ctypes.POINTER(ctypes.c_int64)
    tensor = _Tensor(address, *device, len(shape), _UNSIGNED, bits, 1, ctypes.cast(sides, pointer), None, 0)
    tensor.strides = ctypes.cast(steps, pointer)
    managed = _Managed(tensor, None, _let_go)
    at = ctypes.addressof(managed)
    _in_use[at] = managed, sides, steps, owner
    return _api.PyCapsule_New(at, _NAME, _destroyed)
