"""What the miniature pipelines have in common; none of our code."""

import contextlib
import functools
import json
import string
import tempfile
from pathlib import Path

import torch


def clip_tokenizer():
    """Return a tokenizer of single letters in the format of CLIP's."""
    from transformers import CLIPTokenizer

    letters = string.ascii_lowercase
    tokens = ['<|startoftext|>', '<|endoftext|>', *letters]
    tokens += [f'{letter}</w>' for letter in letters]
    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = Path(folder, 'vocab.json'), Path(folder, 'merges.txt')
        vocab.write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
        merges.write_text('#version: 0.2\n')
        return CLIPTokenizer(str(vocab), str(merges), model_max_length=77)


def clip_encoder(width, projection=False):
    """Return a text encoder for ``clip_tokenizer``."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    name = 'CLIPTextModelWithProjection' if projection else 'CLIPTextModel'
    return getattr(transformers, name)(config).eval()


def t5_tokenizer(max_length=120):
    """Return a tokenizer of single letters in the format of T5's."""
    from transformers import T5Tokenizer

    pieces = [('<pad>', 0.0), ('</s>', 0.0), ('<unk>', 0.0)]
    pieces += [(piece, -2.0) for piece in ['▁', *string.ascii_lowercase]]
    return T5Tokenizer(pieces, extra_ids=0, model_max_length=max_length)


def t5_encoder(width):
    """Return a text encoder for ``t5_tokenizer``."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32,
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
    )
    return T5EncoderModel(config).eval()


def autoencoder(**overrides):
    """Return an autoencoder of 4 channels and factor 2."""
    from diffusers import AutoencoderKL

    config = dict(
        block_out_channels=(8, 16),
        down_block_types=['DownEncoderBlock2D'] * 2,
        up_block_types=['UpDecoderBlock2D'] * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    return AutoencoderKL(**{**config, **overrides}).eval()


@functools.lru_cache(maxsize=1)
def load(folder):
    """Return the pipeline in a folder."""
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)


@contextlib.contextmanager
def recorded(module, layers):
    """Yield a dictionary that is filled with the outputs of layers."""
    outputs = {}
    with contextlib.ExitStack() as stack, torch.no_grad():
        for name in layers:

            def record(_module, _inputs, output, name=name):
                outputs[name] = output

            handle = module.get_submodule(name).register_forward_hook(record)
            stack.callback(handle.remove)
        yield outputs


def to_map(tokens, height, width):
    """Return N x C x h x w of N x hw x C."""
    count, length, channels = tokens.shape
    assert length == height * width
    return tokens.permute(0, 2, 1).reshape(count, channels, height, width)
