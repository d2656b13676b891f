import dataclasses

from ingot.bench.machine import describe_machine, installed_versions, peak_memory_bytes


def test_this_machine_has_a_description() -> None:
    machine = describe_machine()
    assert machine.cpu
    assert 1 <= machine.usable_cores <= machine.logical_cores
    assert machine.physical_cores <= machine.logical_cores
    assert machine.memory_bytes > 1 << 28
    assert {field.name for field in dataclasses.fields(machine)} >= {"features", "gpus"}


def test_versions_are_those_of_what_is_installed() -> None:
    versions = installed_versions()
    assert versions["numpy"].split(".")[0].isdigit()


def test_peak_memory_covers_what_was_held() -> None:
    block = bytearray(b"x") * (32 << 20)
    held = peak_memory_bytes()
    assert held > len(block)
    del block
    # the kernel counts pages per thread and sums them late: it may be off by some hundred
    assert peak_memory_bytes() > held - (4 << 20)
