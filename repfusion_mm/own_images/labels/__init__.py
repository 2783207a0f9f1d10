"""Read labels of any kind, and check that they fit the images."""

from .base import Labels
from .read import read_labels

__all__ = ['Labels', 'read_labels']
