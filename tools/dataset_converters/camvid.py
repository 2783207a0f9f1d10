"""Convert CamVid, as the SegNet tutorial provides it, to the layout of mmseg.

    camvid.py [data/CamVid] [--out data/camvid] [--width 128]

The folder has the lists {train,val,test}.txt, frames in {train,val,test}/ and
label maps in {train,val,test}annot/. The script writes
images/{train,val,test}/NAME.png, labels/{train,val,test}/NAME.png and
{train,val,test}.txt with one NAME per line. Label maps have 11 classes;
void, 11 in the original, is 255. Run it again after an interruption.
"""

import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int
from repfusion_mm.utils.folders import check_no_others

CLASSES = (
    'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence',
    'car', 'pedestrian', 'bicyclist',
)  # fmt: skip
VOID = len(CLASSES)
#: The label that mmseg ignores.
IGNORED = 255
SIZES = dict(train=367, val=101, test=233)


def read_names(root: Path, split: str) -> List[str]:
    """Return the names of the frames of a split, in the order of its list."""
    path = root / f'{split}.txt'
    if not path.is_file():
        raise FileNotFoundError(
            f'expected {path.name} in {str(root)!r}, got none; give the '
            'folder CamVid of the SegNet tutorial'
        )
    # The paths in the lists are those of another machine.
    lines = path.read_text(encoding='utf-8').splitlines()
    names = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not names:
        raise ValueError(f'expected frames in {path}, got an empty list')
    return names


def find_pairs(root: Path, split: str, names: List[str]) -> Dict[str, Path]:
    """Return the frames by name; each has a label map next to its folder."""
    frames = {name: root / split / f'{name}.png' for name in names}
    files = [path for f in frames.values() for path in (f, label_path(f))]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f'expected the frames and label maps of {root / split}.txt, got '
            f'none for {len(missing)} of {len(files)}: '
            f'{[str(path.relative_to(root)) for path in missing[:5]]}; '
            'get the folder again'
        )
    return frames


def label_path(frame: Path) -> Path:
    """Return the path of the label map of a frame."""
    return frame.parent.with_name(f'{frame.parent.name}annot') / frame.name


def read_image(path: Path, mode: Optional[str] = None) -> np.ndarray:
    """Return the pixels of an image, in a mode of PIL or its own."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f'expected an image at {path}, got a damaged file; get it again'
        ) from error


def read_frame(path: Path) -> np.ndarray:
    """Return a frame, an H x W x 3 array of uint8 in RGB."""
    return read_image(path, 'RGB')


def read_labels(path: Path) -> np.ndarray:
    """Return a label map, an H x W array of uint8 in 0 to 10, or 255."""
    labels = read_image(path)
    if labels.ndim != 2 or labels.max() > VOID:
        raise ValueError(
            f'expected one channel of labels up to {VOID} in {path}, got an '
            f'array of {labels.shape} with values up to {labels.max()}; use '
            'the label maps of the SegNet tutorial, not the colored ones'
        )
    return np.where(labels == VOID, IGNORED, labels).astype(np.uint8)


def check(frames: List[Path]) -> Tuple[int, int]:
    """Check that all files are readable and of one size; return (W, H)."""
    first = None
    for frame in frames:
        height, width = read_frame(frame).shape[:2]
        labels = read_labels(label_path(frame))
        if labels.shape != (height, width):
            raise ValueError(
                f'expected a label map of {width} x {height} pixels, as its '
                f'frame, at {label_path(frame)}, got {labels.shape[1]} x '
                f'{labels.shape[0]}; get both again'
            )
        first = first or (width, height)
        if (width, height) != first:
            raise ValueError(
                f'expected frames of {first[0]} x {first[1]} pixels, as '
                f'{frames[0]}, got {width} x {height} in {frame}; get the '
                'folder again'
            )
    assert first is not None  # no list is empty
    return first


def resized(size: Tuple[int, int], width: Optional[int]) -> Tuple[int, int]:
    """Return the size (W, H) of the results."""
    if width is None:
        return size
    height, rest = divmod(width * size[1], size[0])
    if rest or width > size[0]:
        raise ValueError(
            f'expected a --width of at most {size[0]} that keeps the aspect '
            f'ratio of {size[0]} x {size[1]} pixels exactly, got {width}; '
            f'give a multiple of {size[0] // np.gcd(*size)}'
        )
    return width, height


def write(frame: Path, out: Path, size: Tuple[int, int]) -> float:
    """Write a frame and its label map; return the share of void."""
    split = frame.parent.name
    image, labels = read_frame(frame), read_labels(label_path(frame))
    void = float(np.mean(labels == IGNORED))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # INTER_NEAREST takes the top left pixel of an area, not the central one.
    labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    for kind, array in (('images', image), ('labels', labels)):
        path = out / kind / split / frame.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return void


def convert(root: Path, out: Path, width: Optional[int]) -> None:
    """Write all images and label maps, then the lists."""
    if out.exists() and out.samefile(root):
        raise ValueError(
            f'expected another folder than {root} as --out, got the same, '
            'whose lists the new ones would replace'
        )
    splits = {
        split: find_pairs(root, split, read_names(root, split))
        for split in SIZES
    }
    original = check([path for s in splits.values() for path in s.values()])
    size = resized(original, width)
    for split, frames in splits.items():
        names = [frame.name for frame in frames.values()]
        for kind in ('images', 'labels'):
            check_no_others(out / kind / split, names)
    for split in splits:  # a list stands for complete images
        (out / f'{split}.txt').unlink(missing_ok=True)
    for split, frames in splits.items():
        void = [write(frame, out, size) for frame in frames.values()]
        print(
            f'{out / "images" / split}: {len(frames)} images of '
            f'{size[0]} x {size[1]} pixels, {np.mean(void):.1%} void'
        )
    for split, frames in splits.items():
        text = ''.join(f'{name}\n' for name in frames)
        (out / f'{split}.txt').write_text(text, encoding='utf-8')
    sizes = {split: len(frames) for split, frames in splits.items()}
    if sizes != SIZES:
        print(f'note: the complete dataset has {SIZES} images, got {sizes}')


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('root', nargs='?', default='data/CamVid')
    parser.add_argument('--out', default='data/camvid')
    parser.add_argument(
        '--width', type=positive_int,
        help='width to resize to, in pixels; the original one by default',
    )  # fmt: skip
    args = parser.parse_args(argv)
    with report_errors():
        convert(Path(args.root), Path(args.out), args.width)
    return 0


if __name__ == '__main__':
    sys.exit(main())
