"""What all scripts have in common."""

import pytest

from tests.helpers.launcher import ROOT, SCRIPTS, run_main


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_script_has_a_main_and_a_help(script):
    assert run_main(script, '--help').output.startswith('usage: ')


@pytest.mark.parametrize('script', SCRIPTS)
def test_no_script_edits_the_import_path(script):
    assert 'sys.path' not in (ROOT / script).read_text()
