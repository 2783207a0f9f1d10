"""The data of the studies, and which of it is labeled."""

import json
import re
import sys

import cv2
import numpy as np
import pytest

from projects.camvid.study import CamvidStudy
from projects.cifar10.study import Cifar10Study
from projects.digits import runs
from projects.digits.study import DigitsStudy
from projects.faces import mean_face
from projects.faces.study import FacesStudy
from projects.study.scores import ALL
from tests.helpers.launcher import ROOT, run_main


def test_each_seed_has_its_own_labels(short_study):
    first, second = (
        short_study.labels(20, seed).read_text().split() for seed in (0, 1)
    )
    assert first != second
    assert sorted(first[1::2]) == sorted(2 * '0123456789')
    assert short_study.labels(ALL, 0) == short_study.labels(ALL, 1)


def test_labels_that_cannot_be_balanced_are_refused(short_study):
    with pytest.raises(ValueError, match='expected 25 labeled images'):
        short_study.labels(25, 0)


def test_frames_and_faces_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(CamvidStudy, 'all_labels', tmp_path / 'train.txt')
    (tmp_path / 'train.txt').write_text('a\nb\nc\nd\n')
    frames = [
        CamvidStudy(tmp_path).labels(2, seed).read_text().split()
        for seed in range(6)
    ]
    assert all(len({*names} & {*'abcd'}) == 2 for names in frames)
    assert len({*map(tuple, frames)}) > 1
    monkeypatch.setattr(FacesStudy, 'all_labels', tmp_path / 'train.json')
    content = dict(
        images=[dict(id=i) for i in range(5)],
        annotations=[dict(id=i, image_id=4 - i) for i in range(5)],
        categories=['face'],
    )
    (tmp_path / 'train.json').write_text(json.dumps(content))
    drawn = json.loads(FacesStudy(tmp_path).labels(3, 0).read_text())
    faces = {face['image_id'] for face in drawn['annotations']}
    assert len(faces) == 3
    assert faces == {image['id'] for image in drawn['images']}
    assert drawn['categories'] == ['face']


def test_images_of_another_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(CamvidStudy, 'all_labels', tmp_path / 'train.txt')
    (tmp_path / 'train.txt').write_text('a\n')
    (tmp_path / 'test.txt').touch()
    (tmp_path / 'images/train').mkdir(parents=True)
    image = np.zeros((360, 480, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'images/train/a.png'), image)
    with pytest.raises(ValueError, match=r'of 480 x 360; run .*--width 128'):
        CamvidStudy(tmp_path / 'out').prepare()


@pytest.mark.parametrize('kind', [Cifar10Study, CamvidStudy, FacesStudy])
def test_missing_data_are_named(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = sys.modules[kind.__module__]
    for path in kind(tmp_path).lists:
        result = run_main(module, expect=1, cwd=tmp_path)
        assert f'expected {path}, got no such file' in result.last_line
        page = re.search(r'see Data in (\S+)', result.last_line)[1]
        assert '## Data' in (ROOT / page).read_text()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_data_of_the_digits_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DigitsStudy(tmp_path / 'out').prepare()
    lines = (tmp_path / runs.DATA / 'train.txt').read_text().splitlines()
    assert len(lines) == 1297


def test_the_mean_of_the_labeled_faces_is_scored(tmp_path, monkeypatch):
    """Of two faces, one point off by a tenth of the distance of the eyes."""
    monkeypatch.setattr(FacesStudy, 'all_labels', tmp_path / 'train.json')
    points = np.full((3, 68, 3), 2.0)
    points[..., :2] = np.arange(68)[:, None] * [1.0, 0.0]
    points[0, :, 1] += 4
    points[1, :, 1] -= 4  # of which the mean is the third face
    points[2, 7, 1] += 0.9  # points 36 and 45 are 9 pixels apart
    faces = [dict(keypoints=face.ravel().tolist()) for face in points]
    for name, chosen in (('train', faces[:2]), ('test', faces[2:])):
        path = tmp_path / f'{name}.json'
        path.write_text(json.dumps(dict(annotations=chosen)))
    error = mean_face.score(tmp_path / 'train.json', FacesStudy(tmp_path))
    assert error == pytest.approx(0.1 / 68)
