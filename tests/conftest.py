"""What several tests need: the real data beside the checkout, and the mark of the slow tests."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SLOW = Path(__file__).resolve().parent / "slow"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in tests/slow carries the mark ``slow``, so that none can forget it."""
    for item in items:
        if item.path.is_relative_to(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and annotations; the test is skipped where there is none."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not part of this repository")
    return folder
