from .diffusers_teacher import DiffusersTeacher

__all__ = ['DiffusersTeacher']
