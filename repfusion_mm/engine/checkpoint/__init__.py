from .initializers import StrictPretrained

__all__ = ['StrictPretrained']
