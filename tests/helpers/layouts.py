"""Miniature datasets in the layouts that the real archives unpack to."""

import json
from pathlib import Path

import cv2
import numpy as np

RNG = np.random.default_rng(0)
PARTS = ('skin', 'l_brow', 'r_brow', 'l_eye', 'nose', 'hair')


def write_image(path: Path, side: int) -> None:
    """Write a photograph-like picture: few frequencies, some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(path), image)


def save_tiny_imagenet(root: Path, num_classes: int = 10) -> None:
    """Write the contents of tiny-imagenet-200.zip, two images per class."""
    wnids = [f'n{1000 + 7 * i:08d}' for i in range(num_classes)]
    root.mkdir(parents=True)
    (root / 'wnids.txt').write_text('\n'.join(reversed(wnids)) + '\n')
    for wnid in wnids:
        for i in range(2):
            write_image(root / f'train/{wnid}/images/{wnid}_{i}.JPEG', 64)
        boxes = root / f'train/{wnid}/{wnid}_boxes.txt'
        boxes.write_text(f'{wnid}_0.JPEG\t0\t0\t63\t63\n')
    lines = []
    for i, wnid in enumerate(wnids):
        write_image(root / f'val/images/val_{i}.JPEG', 64)
        lines.append(f'val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n')
    (root / 'val/val_annotations.txt').write_text(''.join(lines))


def save_imagenet(root: Path) -> None:
    """Write ImageNet's folders with the lists that mmpretrain reads."""
    (root / 'meta').mkdir(parents=True)
    for split in ('train', 'val'):
        lines = []
        for i in range(4):
            name = f'n01440764/{split}_{i}.JPEG'
            write_image(root / split / name, 300)
            lines.append(f'{name} {i}\n')
        (root / 'meta' / f'{split}.txt').write_text(''.join(lines))


def save_celebamask_hq(root: Path, num_images: int = 8) -> None:
    """Write the contents of CelebAMask-HQ.zip, and CelebA's partition.

    Half of the images are for training, the others for validation and test.
    """
    mapping = ['idx\torig_idx\torig_file']
    partition = []
    for i in range(num_images):
        write_image(root / f'CelebA-HQ-img/{i}.jpg', 1024)
        original = f'{200 - i:06d}.jpg'
        mapping.append(f'{i}\t{199 - i}\t{original}')
        partition.append(f'{original} {0 if i % 2 == 0 else 1 + i // 2 % 2}')
        folder = root / f'CelebAMask-HQ-mask-anno/{i // 2000}'
        folder.mkdir(parents=True, exist_ok=True)
        for k, part in enumerate(PARTS):
            mask = np.zeros((512, 512), dtype=np.uint8)
            mask[60 * k : 60 * k + 100, 100 + i : 300] = 255
            assert cv2.imwrite(str(folder / f'{i:05d}_{part}.png'), mask)
    (root / 'CelebA-HQ-to-CelebA-mapping.txt').write_text(
        '\n'.join(mapping) + '\n'
    )
    (root / 'list_eval_partition.txt').write_text('\n'.join(partition) + '\n')


def save_wflw(root: Path, num_images: int = 4) -> None:
    """Write WFLW with the annotations that mmpose provides."""
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'test'):
        images, annotations = [], []
        for i in range(num_images):
            name = f'0--Parade/{split}_{i}.jpg'
            write_image(root / 'images' / name, 300)
            points = RNG.uniform(60, 240, (98, 2))
            keypoints = np.concatenate([points, np.full((98, 1), 2)], axis=1)
            images.append(dict(id=i, file_name=name, height=300, width=300))
            annotations.append(
                dict(
                    id=i,
                    image_id=i,
                    category_id=1,
                    iscrowd=0,
                    keypoints=keypoints.ravel().tolist(),
                    num_keypoints=98,
                    center=[150.0, 150.0],
                    scale=1.25,
                    bbox=[50, 50, 250, 250],
                    area=40000,
                )
            )
        content = dict(
            images=images,
            annotations=annotations,
            categories=[dict(id=1, name='face')],
        )
        path = root / f'annotations/face_landmarks_wflw_{split}.json'
        path.write_text(json.dumps(content))
