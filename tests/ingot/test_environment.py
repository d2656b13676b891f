"""Variables are typed; a bad value is an error, an empty one is the default."""

import pytest

from ingot.environment import VARIABLES, check_names, read_variable
from ingot.errors import UsageError


def test_names_are_ours_and_unique() -> None:
    names = [variable.name for variable in VARIABLES]
    assert len(set(names)) == len(names)
    assert all(name.startswith("INGOT_") for name in names)


def test_values() -> None:
    assert read_variable("INGOT_NUM_THREADS", {"INGOT_NUM_THREADS": "4"}) == 4
    assert read_variable("INGOT_NUM_THREADS", {}) is None
    assert read_variable("INGOT_NUM_THREADS", {"INGOT_NUM_THREADS": ""}) is None
    assert read_variable("INGOT_LOG", {"INGOT_LOG": "DEBUG"}) == "debug"


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_bad_value_is_an_error(value: str) -> None:
    with pytest.raises(UsageError, match=f"INGOT_NUM_THREADS is '{value}'"):
        read_variable("INGOT_NUM_THREADS", {"INGOT_NUM_THREADS": value})


def test_unknown_name_is_an_error() -> None:
    check_names({"PATH": "/bin", "INGOT_LOG": "info"})
    with pytest.raises(UsageError, match="INGOT_COLOUR"):
        check_names({"INGOT_COLOUR": "1"})
