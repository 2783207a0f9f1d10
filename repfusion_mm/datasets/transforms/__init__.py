from .loading import LoadImage

__all__ = ['LoadImage']
