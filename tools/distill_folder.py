"""Distill a teacher on a folder of images, with one command."""

import sys

from repfusion_mm.own_images.command import main

if __name__ == '__main__':
    sys.exit(main())
