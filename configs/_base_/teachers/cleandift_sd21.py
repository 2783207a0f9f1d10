# CleanDIFT (arXiv 2412.03439): Stable Diffusion 2.1, finetuned for images
# without noise. docs/teachers.md says how to get the folder. Licenses: MIT,
# and CreativeML Open RAIL++-M for the base model.
teacher = dict(
    type='repfusion_mm.DiffusersTeacher',
    pretrained='data/teachers/cleandift_sd21',
    # The paper uses the mid block for classification.
    layers=['up_blocks.1'],
    input_size=256,
    input_mode='clean',
)
teacher_size = 256
# Its features are made to replace those of all timesteps. The number that its
# U-Net is given is no published choice; 261 is DIFT's.
# Only used without labels: see "Timesteps" in docs/teachers.md.
timesteps = dict(low=261, high=261)
