"""Asks Linux for the state of AMX's tile registers, which a process gets only when it asks.

Without it the first instruction on a tile kills the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection

from ingot.errors import ArtifactTargetError

TILES_FEATURE = "amx_tile"
"""What code that uses tiles needs, as `/proc/cpuinfo` spells it."""
SYSCALL_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18


def allow_tiles(features: Collection[str]) -> None:
    """Ask for the tiles if code with these instruction sets is about to run.

    The answer holds for all threads of the process and may be asked for again. Linux gives it
    from 5.16 on, where the CPU has tiles and no other program (a hypervisor, seccomp) hides them.
    """
    if TILES_FEATURE not in features:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(SYSCALL_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0:
        raise ArtifactTargetError(
            "the system doesn't let this process use AMX, which the code is compiled for",
            "Linux gives it from 5.16 on; else compile with `--target cpu:cascadelake`",
        )
