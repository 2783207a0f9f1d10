from .base import BaseTeacher
from .cached_teacher import CachedTeacher
from .diffusers_teacher import DiffusersTeacher

__all__ = ['BaseTeacher', 'CachedTeacher', 'DiffusersTeacher']
