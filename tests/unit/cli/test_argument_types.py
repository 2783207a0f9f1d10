from argparse import ArgumentTypeError

import pytest

from repfusion_mm.cli.argument_types import (
    find_teachers,
    non_negative_int,
    output_file,
    positive_float,
    positive_int,
    read_teacher,
)


@pytest.mark.parametrize(
    ('parse', 'texts'),
    [
        (positive_int, ('0', '-1', '1.5', 'one')),
        (non_negative_int, ('-1', '1.5', 'one')),
        (positive_float, ('0', '-1', 'nan', 'inf', 'one')),
        (output_file, ('.', 'missing/file.json')),
    ],
)
def test_invalid_values_are_refused(parse, texts):
    for text in texts:
        with pytest.raises(ArgumentTypeError, match=f'got {text!r}'):
            parse(text)


def test_valid_values_are_parsed(tmp_path):
    assert (positive_int('1'), non_negative_int('0')) == (1, 0)
    assert positive_float('1e-3') == 1e-3
    path = tmp_path / 'file.json'
    assert output_file(str(path)) == path
    path.touch()
    assert output_file(str(path)) == path


def test_similar_teachers_are_named_if_there_are_any():
    with pytest.raises(FileNotFoundError, match=r"\['ddpm_cifar10'"):
        read_teacher('ddpm_cifar')
    with pytest.raises(FileNotFoundError) as error:
        read_teacher('xyz')
    assert str(find_teachers()) in str(error.value)
