"""Collects what the families' proofs showed; `--update-golden` writes it to docs/models.md."""

from __future__ import annotations

import pytest

from tests.e2e.models_page import PAGE, ModelsPage, format_page


def open_page(config: pytest.Config) -> ModelsPage:
    return ModelsPage(config.cache.mkdir("families"))  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def models_page(pytestconfig: pytest.Config) -> ModelsPage:
    return open_page(pytestconfig)


def pytest_sessionfinish(session: pytest.Session) -> None:
    is_worker = hasattr(session.config, "workerinput")
    if session.config.getoption("--update-golden") and not is_worker:
        rows = open_page(session.config).rows()
        if rows:
            PAGE.write_text(format_page(rows), encoding="utf-8")
