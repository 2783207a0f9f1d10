from .base import BaseTeacher
from .cached_teacher import CachedTeacher
from .diffusers_teacher import DiffusersTeacher
from .timm_teacher import TimmTeacher

__all__ = ['BaseTeacher', 'CachedTeacher', 'DiffusersTeacher', 'TimmTeacher']
