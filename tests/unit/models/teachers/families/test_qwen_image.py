"""Qwen-Image: variants that are given more than a text are refused."""

import pytest
from diffusers import QwenImageTransformer2DModel

from repfusion_mm.models.teachers.families import find_family


@pytest.mark.parametrize(
    'setting', ['zero_cond_t', 'use_layer3d_rope', 'use_additional_t_cond']
)
def test_variants_for_editing_are_refused(setting):
    find_family(QwenImageTransformer2DModel, {setting: False})
    with pytest.raises(ValueError, match=rf"\['{setting}'\]; choose"):
        find_family(QwenImageTransformer2DModel, {setting: True})
