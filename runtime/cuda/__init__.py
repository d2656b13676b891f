"""Turns an artifact for an NVIDIA GPU into attached kernels, memory on the device and graphs.

Stands on the driver, CUDA's runtime library and TVM's two runtime libraries: no toolkit, no torch.
"""

from ingot.runtime.cuda.driver import CUDA, free_device_memory_bytes
from ingot.runtime.cuda.kernels import attach_kernels
from ingot.runtime.cuda.library import load_cuda_runtime
from ingot.runtime.cuda.memory import CudaMemory

__all__ = [
    "CUDA",
    "CudaMemory",
    "attach_kernels",
    "free_device_memory_bytes",
    "load_cuda_runtime",
]
