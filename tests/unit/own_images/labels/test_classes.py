"""Classes that do not fit the images are refused."""

import pytest

from tests.helpers.own_images import read


def write_lines(root, lines):
    (root / 'labels.txt').write_text('\n'.join(lines))


def of_class(root, number):
    lines = (root / 'labels.txt').read_text().splitlines()
    return [line for line in lines if line.endswith(f' {number}')]


FAULTS = {
    'list of missing images': (
        'classes',
        lambda r: write_lines(r, ['0.jpg 0', '1.jpg 1']),
        r"2 of 2, such as '0.jpg' \(there is 'circle/0.jpg'\)",
    ),
    'one class': (
        'classes',
        lambda r: write_lines(r, of_class(r, 0)),
        r'two classes or more, got 12 of \[0\]',
    ),
    'fewer labels than classes': (
        'classes',
        lambda r: write_lines(r, [*of_class(r, 0), *of_class(r, 1)[:1]]),
        'of each of 2 classes, got less of 1',
    ),
    'a class number is left out': (
        'classes',
        lambda r: write_lines(
            r,
            [*of_class(r, 0), *(i[:-1] + '2' for i in of_class(r, 1))],
        ),
        'got less of 1 .*number the classes from 0',
    ),
    'identifiers as classes': (
        'classes',
        lambda r: write_lines(
            r,
            [*of_class(r, 0), *(f'{i}{10**15}' for i in of_class(r, 1))],
        ),
        'of each of 11000000000000001 classes, got less of 1, 2, 3, 4, 5 '
        r'\.\.\. .*number the classes from 0',
    ),
    'a negative class': (
        'classes',
        lambda r: write_lines(r, [*of_class(r, 0), 'circle/0.jpg -2'][1:]),
        r'got \[-2\]',
    ),
    'a class without images': (
        'folders',
        lambda r: (r / 'images/triangle').mkdir(),
        'of each of 3 classes, got less of triangle',
    ),
    'all images are repeated': (
        'classes',
        lambda r: write_lines(r, 2 * [*of_class(r, 0), *of_class(r, 1)]),
        "each image once in .*, got 24 images .* such as 'circle/0.jpg'",
    ),
    'an image is repeated with another spelling': (
        'classes',
        lambda r: write_lines(
            r, [*of_class(r, 0), *of_class(r, 1), './circle//2.jpg 0']
        ),
        "got 1 images .* such as 'circle/2.jpg'; remove the repeats",
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_classes_that_do_not_fit_are_refused(root, fault):
    task, spoil, message = FAULTS[fault]
    spoil(root)
    with pytest.raises(ValueError, match=message):
        read(root, task)
