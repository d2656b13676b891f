"""Turns the number of an error of CUDA's into what to do about it.

The driver and CUDA's runtime library have the same numbers for these.
"""

from __future__ import annotations

OUT_OF_MEMORY = 2

_HINTS = {
    OUT_OF_MEMORY: "nvidia-smi shows who uses the GPU's memory; fewer pages or sequences take less",
    3: "a process that was forked from one that used the GPU can't use it: start it by `spawn`",
    46: "another process may have the GPU for itself: `nvidia-smi -q -d COMPUTE` shows its mode",
    100: "CUDA_VISIBLE_DEVICES may hide the GPU, or the container was started without it",
    101: "CUDA_VISIBLE_DEVICES may hide the GPU, or the container was started without it",
    304: "this user may not open /dev/nvidia*, or the container was started without them",
    802: "the GPUs are still starting, or the service nvidia-fabricmanager isn't running",
    803: "the driver's library is of another version than its kernel module: restart the machine",
    804: "the loader finds a libcuda.so.1 of cuda-compat, which this GPU can't use",
    999: "the kernel module nvidia_uvm may not be loaded; `dmesg` may say more",
}


def hint_for(status: int) -> str:
    return _HINTS.get(status, "nvidia-smi shows whether the GPU works and who uses its memory")
