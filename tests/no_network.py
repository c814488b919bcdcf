"""A process in which any socket but a local one is fatal, in Python and in every library."""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

import pytest

_SOCKET_CALL = {"x86_64": 41, "aarch64": 198}.get(platform.machine())
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of classic BPF
_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_AF_UNIX = 1

needs_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or _SOCKET_CALL is None, reason="the guard is Linux's seccomp, on x86-64 and aarch64"
)


def forbid_network() -> None:
    """From here on the kernel kills this process if it asks for a socket that is not AF_UNIX; its children too."""
    assert _SOCKET_CALL is not None
    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (_LOAD, 0, 0, 0),  # the number of the system call
            (_JUMP_IF_EQUAL, 0, 3, _SOCKET_CALL),
            (_LOAD, 0, 0, 16),  # its first argument
            (_JUMP_IF_EQUAL, 1, 0, _AF_UNIX),
            (_RETURN, 0, 0, _KILL_PROCESS),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    lines = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(lines)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(_PR_SET_SECCOMP, _FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")
