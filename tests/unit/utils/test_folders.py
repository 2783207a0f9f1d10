"""Folders are replaced by finished ones."""

import shutil

import pytest

from repfusion_mm.utils.folders import replace_folder


def make(folder, text):
    folder.mkdir()
    (folder / 'file').write_text(text)
    return folder


def test_files_that_cannot_be_removed_do_not_stop_the_next_one(
    tmp_path, monkeypatch
):
    """As on NFS, while another process reads them."""
    monkeypatch.setattr(shutil, 'rmtree', lambda *args, **kwargs: None)
    for text in 'abc':
        replace_folder(make(tmp_path / 'new', text), tmp_path / 'folder')
        assert (tmp_path / 'folder/file').read_text() == text
    assert len(list(tmp_path.glob('folder.old*'))) == 2


def test_a_folder_that_cannot_be_replaced_stays(tmp_path):
    folder = make(tmp_path / 'folder', 'a')
    with pytest.raises(OSError, match='missing'):
        replace_folder(tmp_path / 'missing', folder)
    assert [p.name for p in tmp_path.iterdir()] == ['folder']
    assert (folder / 'file').read_text() == 'a'


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / 'folder').write_text('a')
    with pytest.raises(OSError, match='folder'):
        replace_folder(make(tmp_path / 'new', 'b'), tmp_path / 'folder')
    assert (tmp_path / 'folder').read_text() == 'a'
