"""What several tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def digits_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of the stored trials: format -> file."""
    from tests.reports.golden import write_digits

    return write_digits(tmp_path_factory.mktemp("digits"))
