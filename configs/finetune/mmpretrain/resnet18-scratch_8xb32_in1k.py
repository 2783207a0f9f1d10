# From-scratch twin: but for the initialisation, the -repfusion- config.
custom_imports = dict(imports=['repfusion_mm'], allow_failed_imports=False)
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py']
