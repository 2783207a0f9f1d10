"""The options of training."""

import pytest

from repfusion_mm.cli import make_parser
from repfusion_mm.cli.train import latest_checkpoint


def write_run(folder, named=None):
    """Write a work directory with one checkpoint."""
    folder.mkdir()
    path = folder / 'epoch_2.pth'
    path.touch()
    pointer = folder / 'last_checkpoint'
    pointer.write_text(str(path) if named is None else named)
    return path


def test_a_copied_run_resumes_from_its_own_checkpoint(tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert latest_checkpoint(str(first)) is None
    theirs = write_run(first)
    assert latest_checkpoint(str(first)) == str(theirs)
    own = write_run(second, named=str(theirs))
    assert latest_checkpoint(str(second)) == str(own)
    own.unlink()  # then the checkpoint of the other run is not used
    with pytest.raises(FileNotFoundError, match=r'second.* --resume C'):
        latest_checkpoint(str(second))


def test_a_checkpoint_outside_the_work_dir_is_found(tmp_path):
    elsewhere = tmp_path / 'epoch_9.pth'  # out_dir of the checkpoint hook
    elsewhere.touch()
    write_run(tmp_path / 'run', named=str(elsewhere))
    assert latest_checkpoint(str(tmp_path / 'run')) == str(elsewhere)


def test_an_empty_pointer_is_named(tmp_path):
    write_run(tmp_path / 'run', named='')
    with pytest.raises(FileNotFoundError, match='last_checkpoint names'):
        latest_checkpoint(str(tmp_path / 'run'))


def test_an_option_without_a_value_is_refused(capsys):
    with pytest.raises(SystemExit):
        make_parser('').parse_args(['mine.py', '--cfg-options', 'a.b', 'c=1'])
    error = capsys.readouterr().err
    assert "expected key=value after --cfg-options, got 'a.b'" in error
