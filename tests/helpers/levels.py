"""A miniature distiller of three student stages and three teacher layers."""

from tests.helpers.toy import DENOISER, distiller_config

#: Fine to coarse: maps of 16 x 16, 16 x 16 and 8 x 8.
LAYERS = ['up_blocks.1', 'up_blocks.0', 'mid_block']
REGRESSOR = dict(
    type='repfusion_mm.FeatureRegressor', channels=8, pool_scales=(1, 2, 4)
)
DENSE_HINT = dict(type='repfusion_mm.HintLoss', pooled=False)


def levels_config(**overrides):
    """Return the config; its images are 32 x 32."""
    teacher = dict(
        type='repfusion_mm.DiffusersTeacher',
        config=DENOISER,
        layers=LAYERS,
        input_size=16,
    )
    student = dict(distiller_config()['student'], out_indices=(1, 2, 3))
    config = dict(
        student=student,
        student_indices=(0, 1, 2),
        teacher=teacher,
        input_size=32,
        connector=REGRESSOR,
        distill_loss=DENSE_HINT,
    )
    return distiller_config(**{**config, **overrides})
