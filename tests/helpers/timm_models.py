"""Miniatures of timm models that are teachers."""

#: Name, arguments, and side in pixels of an image of 2 x 2 patches or more.
SMALL = dict(embed_dim=32, depth=4, num_heads=2)
MODELS = {
    'dinov2': ('vit_base_patch14_reg4_dinov2.lvd142m', SMALL, 28),
    'dinov3': ('vit_base_patch16_dinov3.lvd1689m', SMALL, 32),
    'siglip': ('vit_base_patch16_siglip_224.v2_webli', SMALL, 32),
    'resnet': ('resnet18.a1_in1k', dict(channels=(8, 8, 16, 16)), 32),
    'convnext': (
        'convnext_atto.d2_in1k',
        dict(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1)),
        32,
    ),
    'xcit': (
        'xcit_nano_12_p8_224.fb_in1k',
        dict(embed_dim=16, depth=4, num_heads=2),
        16,
    ),
}


def teacher_config(kind='dinov2', layers=(2,), **settings) -> dict:
    """Return the config of a teacher with random weights."""
    name, arguments, size = MODELS[kind]
    return (
        dict(
            type='repfusion_mm.TimmTeacher',
            model=name,
            layers=layers,
            pretrained=False,
            input_size=size,
            model_args=arguments,
        )
        | settings
    )


def save_model(path, kind='dinov2', size=None, **arguments):
    """Write random weights to a file as timm does, and return the model."""
    import timm
    from safetensors.torch import save_file

    name, own, _ = MODELS[kind]
    sizes = dict(img_size=size) if size else {}
    model = timm.create_model(name, **{**own, **sizes, **arguments}).eval()
    for parameter in model.parameters():  # layer scales hide later blocks
        parameter.data.normal_(std=0.3)
    save_file(model.state_dict(), path)
    return model
