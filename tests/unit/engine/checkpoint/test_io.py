"""Errors of files that are not checkpoints."""

import pytest

from repfusion_mm.engine.checkpoint.io import load_from_local


def test_the_file_that_names_the_last_checkpoint_is_refused(tmp_path):
    path = tmp_path / 'last_checkpoint'
    path.write_text(f'{tmp_path}/iter_4.pth')
    with pytest.raises(ValueError, match='use --resume without a path'):
        load_from_local(str(path))


def test_errors_do_not_ask_to_report_an_issue_of_torch(tmp_path):
    path = tmp_path / 'text.pth'
    path.write_text('/runs/iter_4.pth')
    with pytest.raises(ValueError, match='read safely') as error:
        load_from_local(str(path))
    assert 'issue' not in str(error.value)
