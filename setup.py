from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
version: dict = {}
exec((ROOT / 'repfusion_mm' / 'version.py').read_text(), version)

setup(
    name='repfusion_mm',
    version=version['__version__'],
    description='Diffusion models as teachers, for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['repfusion_mm', 'repfusion_mm.*']),
    # .mim is where mim looks for tools and configs: links here, files in a
    # wheel.
    package_data={
        'repfusion_mm': ['py.typed', '.mim/**/*', 'analysis/report/*.jinja'],
    },
    # Benchmarks need the checkout.
    exclude_package_data={'repfusion_mm': ['.mim/tools/benchmarks/*']},
    entry_points=dict(
        console_scripts=[
            'repfusion-distill-folder=repfusion_mm.own_images.command:main',
        ]
    ),
    python_requires='>=3.8',
    # Direct imports with lower bounds, which are checked when the package is
    # imported. An OpenMMLab environment has all of them except diffusers.
    # requirements/ pins the tested versions.
    install_requires=[
        # 0.25 unpickles .bin weights; converted ADM weights need 0.32, whose
        # first versions do not import with torch 2.1.
        'diffusers>=0.32.2',
        'filelock',
        'matplotlib',
        'mmengine>=0.8.5',
        'numpy',
        'packaging',
        'torch>=2.1',
    ],
    extras_require={
        # Additional imports of repfusion_mm.analysis.
        'analysis': ['jinja2', 'rich', 'scikit-learn', 'scipy'],
        # Augmentations of BatchDataPreprocessor. Versions before 0.9, which
        # needs Python 3.11, synchronize with the device in each step.
        'augments': ['kornia>=0.8.2'],
        # TimmTeacher (DINOv3 needs timm 1.0.20), and the text encoders of
        # diffusion models, which run once for each prompt. The version of
        # huggingface-hub that diffusers needs selects transformers 4 or 5.
        'teachers': [
            'protobuf',
            'sentencepiece',
            'timm>=1.0.20',
            'transformers>=4.41.2',
        ],
    },
)
