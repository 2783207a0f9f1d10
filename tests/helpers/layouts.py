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


def save_coco(root: Path, num_images: int = 4) -> None:
    """Write COCO 2017, with one box, mask and person in each image."""
    from mmdet.datasets import CocoDataset

    (root / 'annotations').mkdir(parents=True)
    classes = CocoDataset.METAINFO['classes']
    for split in ('train2017', 'val2017'):
        images, objects, people = [], [], []
        for i in range(num_images):
            write_image(root / split / f'{i:012d}.jpg', 300)
            images.append(
                dict(id=i, file_name=f'{i:012d}.jpg', height=300, width=300)
            )
            objects.append(
                dict(
                    id=i + 1,
                    image_id=i,
                    category_id=1 + i % 2,
                    iscrowd=0,
                    bbox=[60, 80, 150, 120],
                    area=18000,
                    segmentation=[[60, 80, 210, 80, 210, 200, 60, 200]],
                )
            )
            points = RNG.integers((60, 80), (210, 200), (17, 2))
            keypoints = np.concatenate([points, np.full((17, 1), 2)], axis=1)
            people.append(
                dict(
                    objects[-1],
                    category_id=1,
                    keypoints=keypoints.ravel().tolist(),
                    num_keypoints=17,
                )
            )
        categories = [
            dict(id=i, name=name) for i, name in enumerate(classes, 1)
        ]
        for kind, annotations, named in (
            ('instances', objects, categories),
            ('person_keypoints', people, categories[:1]),
        ):
            content = dict(
                images=images, annotations=annotations, categories=named
            )
            path = root / f'annotations/{kind}_{split}.json'
            path.write_text(json.dumps(content))


def save_camvid(root: Path, num_images: int = 2, block: int = 5) -> None:
    """Write the folder CamVid of the SegNet tutorial, with small frames.

    All frames are equal: 4 x 3 blocks of `block` x `block` pixels, of which
    block k has the color (20 k, 10 k, 100) in RGB and the label k, where 11 is
    void. The top left pixel of each block has the label 0 and 25 more red.
    """
    blocks = np.arange(12, dtype=np.uint8).reshape(3, 4)
    labels = np.kron(blocks, np.ones((block, block), np.uint8))
    frame = np.stack([np.full_like(labels, 100), 10 * labels, 20 * labels], 2)
    labels[::block, ::block] = 0
    frame[::block, ::block, 2] += 25
    for split in ('train', 'val', 'test'):
        lines = []
        for i in range(num_images):
            name = f'{split}_{num_images - i}.png'
            for folder, array in ((split, frame), (f'{split}annot', labels)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(root / folder / name), array)
            lines.append(
                f'/SegNet/CamVid/{split}/{name} '
                f'/SegNet/CamVid/{split}annot/{name}\n'
            )
        (root / f'{split}.txt').write_text(''.join(lines))


def save_facial_keypoints(root: Path) -> None:
    """Write the folder of Facial Keypoints: 3 faces to train, 2 to test.

    The images are PNG with an alpha channel, whatever their names say, of
    200 x 180 pixels. Red is x and green is y. One image of test has no
    points.
    """
    image = np.full((180, 200, 4), 255, np.uint8)
    image[..., 2], image[..., 1] = np.meshgrid(np.arange(200), np.arange(180))
    encoded = cv2.imencode('.png', image)[1].tobytes()
    names = dict(
        training=['Ada_Byron_00', 'Ada_Byron_01', 'Ada_Byron_10'],
        test=['Ada_Byron_00', 'Carl_Gauss_20'],
    )
    for folder, listed in names.items():
        (root / folder).mkdir(parents=True)
        lines = [',' + ','.join(map(str, range(136)))]
        for name in listed:
            (root / folder / f'{name}.jpg').write_bytes(encoded)
            points = RNG.uniform(40, 140, 136).round(1)
            lines.append(f'{name}.jpg,' + ','.join(map(str, points)))
        table = root / f'{folder}_frames_keypoints.csv'
        table.write_text('\n'.join(lines) + '\n')
    (root / 'test/Ada_Byron_01.jpg').write_bytes(encoded)


def save_cifar10_images(root: Path) -> None:
    """Write CIFAR-10-images, 2 images per class to train and 1 to test."""
    classes = [
        'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog',
        'horse', 'ship', 'truck',
    ]  # fmt: skip
    for split, number in (('train', 2), ('test', 1)):
        for name in classes:
            for i in range(number):
                write_image(root / split / name / f'{i:04d}.jpg', 32)
