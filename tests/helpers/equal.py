"""Compare what checkpoints hold."""

import numpy as np
import torch


def assert_equal(first, second, name=''):
    """Check that two nested structures are bit-identical."""
    assert type(first) is type(second), name
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_equal(first[key], second[key], f'{name}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), name
        for i, pair in enumerate(zip(first, second)):
            assert_equal(*pair, f'{name}.{i}')
    elif torch.is_tensor(first):
        assert torch.equal(first, second), name
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second, err_msg=name)
    else:
        assert first == second, name
