"""Studies in temporary folders."""

import pytest

from projects.digits.study import DigitsStudy
from tests.helpers.launcher import ROOT
from tests.helpers.studies import enter, shorten_runs


@pytest.fixture
def digits_study(tmp_path):
    return DigitsStudy(tmp_path)


@pytest.fixture
def short_study(digits, tmp_path, monkeypatch):
    shorten_runs(monkeypatch)
    enter(tmp_path, monkeypatch)
    (tmp_path / 'data').symlink_to(digits / 'data')
    return DigitsStudy(tmp_path / 'out')


@pytest.fixture
def at_home(monkeypatch):
    monkeypatch.chdir(ROOT)
