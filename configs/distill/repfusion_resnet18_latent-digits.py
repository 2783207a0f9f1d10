# repfusion_resnet18_digits.py with a teacher that works on latents. Train
# configs/teacher/autoencoder_digits.py and ddpm_latent_digits.py first.
_base_ = ['./repfusion_resnet18_digits.py']

model = dict(
    teacher=dict(
        pretrained='work_dirs/ddpm_latent_digits/teacher',
        # The images have 16 px, the autoencoder is made for 32 px.
        input_size=32,
    )
)
