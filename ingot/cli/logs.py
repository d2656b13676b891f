"""INGOT_LOG to log lines on stderr; stdout belongs to data."""

from __future__ import annotations

import logging
import warnings

from ingot.environment import check_names, read_variable


def start_logging() -> None:
    check_names()
    handler = logging.StreamHandler()  # stderr, looked up now: tests replace it
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ingot")
    logger.handlers = [handler]
    logger.setLevel(read_variable("INGOT_LOG").upper())
    logger.propagate = False


def hush_libraries() -> None:
    """Turn off progress bars that ours repeat, and warnings meant for developers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # torch warns of names that torch itself still uses
    warnings.simplefilter("ignore", FutureWarning)
