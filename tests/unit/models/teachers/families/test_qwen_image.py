"""Qwen-Image: variants that are given more than a text are refused."""

import pytest
import torch
from diffusers import QwenImageTransformer2DModel

from repfusion_mm.models.teachers.families import find_family, qwen_image


@pytest.mark.parametrize(
    'setting', ['zero_cond_t', 'use_layer3d_rope', 'use_additional_t_cond']
)
def test_variants_for_editing_are_refused(setting):
    find_family(QwenImageTransformer2DModel, {setting: False})
    with pytest.raises(ValueError, match=rf"\['{setting}'\]; choose"):
        find_family(QwenImageTransformer2DModel, {setting: True})


@pytest.mark.parametrize('needed', [True, False])
def test_the_number_of_text_tokens_is_given_where_it_is_needed(
    needed, monkeypatch
):
    """diffusers 0.35 and 0.36 need it; later it is deprecated or unknown."""
    monkeypatch.setattr(qwen_image, 'needs_lengths', lambda: needed)
    family = find_family(QwenImageTransformer2DModel, {})
    condition = dict(prompt_embeds=torch.zeros(2, 5, 8))
    inputs = family.forward_kwargs(
        torch.zeros(2, 4, 8, 8), torch.zeros(2), condition
    )
    expected = [5, 5] if needed else None
    assert inputs.get('txt_seq_lens') == expected
