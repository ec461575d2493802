"""What a test needs of its machine: without it the test is skipped with the reason, or fails where it must not be left out."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

# Read here, because a test itself runs without the environment.
REQUIRED = os.environ.get("BRAINSTEM_TEST_REQUIRE", "").split(",")


def left_out(what: str, why: str) -> NoReturn:
    """Skip the test, or fail it if BRAINSTEM_TEST_REQUIRE lists `what`."""
    if what in REQUIRED:
        pytest.fail(why)
    pytest.skip(why)
