"""The short form of ``python -m tests.sync``, and that its judge can tell."""

from __future__ import annotations

from tests.sync.campaign import Campaign
from tweakio.sync import fields, merging


def test_two_homes_converge_and_lose_nothing(tmp_path):
    (tmp_path / "homes").mkdir()
    report = Campaign(tmp_path / "homes", 2).run(5)
    assert report.problems == []
    assert report.operations > 10


def test_the_judge_sees_what_is_lost(tmp_path, monkeypatch):
    # A merge that forgets what only the other side changed.
    monkeypatch.setattr(
        merging, "merge_fields", lambda bases, ours, theirs: fields.Merged(dict(ours), ())
    )
    (tmp_path / "homes").mkdir()
    campaign = Campaign(tmp_path / "homes", 1)
    for _ in range(12):
        campaign.round()
        if campaign.report.problems:
            break
    assert campaign.report.problems
    campaign.close()
