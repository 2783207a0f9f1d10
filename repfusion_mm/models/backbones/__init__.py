"""Students that mmpretrain, mmseg and mmpose do not have."""

__all__: list = []
