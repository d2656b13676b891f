"""The log of ptxas, read."""

from ingot.compile.cuda.binary import KernelResources, parse_resources

LOG = """\
ptxas info    : 27 bytes gmem
ptxas info    : Compiling entry function 'second_kernel' for 'sm_90'
ptxas info    : Function properties for second_kernel
ptxas         .     16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 16 bytes cumulative stack size, 896 bytes smem
ptxas info    : Compiling entry function 'first_kernel' for 'sm_90'
ptxas info    : Function properties for first_kernel
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers
"""


def test_resources_are_read() -> None:
    assert parse_resources(LOG) == (
        KernelResources("first_kernel", 8, 0, 0),
        KernelResources("second_kernel", 32, 896, 12),
    )


def test_another_log_gives_nothing() -> None:
    assert parse_resources("warning: nothing of ptxas") == ()
