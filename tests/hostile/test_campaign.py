"""Operations on homes of which some file was spoiled: answered, mended, nothing lost."""

from __future__ import annotations

import pytest

from tests.hostile import homes
from tests.hostile.campaign import TARGETS, Campaign

SEED = 7

# What the worker runs is in no record of coverage.
pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for key, value in homes.ENVIRONMENT.items():
            patch.setenv(key, value)
        made = Campaign(tmp_path_factory.mktemp("campaign"))
    yield made
    made.close()


@pytest.mark.parametrize("target", TARGETS)
def test_spoiled_home(target, campaign):
    print(f"seed {SEED}")
    assert campaign.run(target, SEED) == []
