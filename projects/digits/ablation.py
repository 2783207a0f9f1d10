"""Compare policies with the probe on the digits, and a latent teacher.

    python -m projects.digits.ablation

Like projects.digits.study, without augmentation in the finetuning.
"""

from __future__ import annotations

import sys
from typing import List, Optional

from projects.digits import runs
from projects.digits.study import DigitsStudy
from projects.study.command import run_study
from projects.study.methods import (
    CLAIMS,
    FIXED,
    LEARNED,
    METHODS,
    Claim,
    Method,
)


class AblationStudy(DigitsStudy):
    """Handwritten digits: what the policy's parts are worth."""

    name = 'digits_ablation'
    finetune_options = ()
    num_iters = {20: 200, 50: 200, 100: 200}
    optional = ('latent',)  # its teacher is not shipped
    methods = dict(
        {name: METHODS[name] for name in ('scratch', 'fixed_best', 'learned')},
        fixed_same_draws=Method(
            'best t of all labels, half-labeled batches (as for learned t)',
            FIXED,
            # The highest mean accuracies of logistic regressions on the
            # labels of all other training images, see probe_study.py.
            {20: 300, 50: 250, 100: 200},
            reads_labels=True,
        ),
        latent=Method(
            'learned t, latent teacher',
            ('model.teacher.pretrained=work_dirs/ddpm_latent_digits/teacher',),
            LEARNED,
            reads_labels=True,
            config=runs.DISTILL_LATENT,
        ),
    )
    removed = dict(
        learned_prior='learned t, started from the probe',
        learned_marginal='learned t, without the image as input',
        learned_ridge='learned t, rewarded by the probe',
        learned_pairs='learned t, two draws for each image',
    )
    claims = (
        *CLAIMS,
        Claim(
            't of the probe > best t of all labels, half-labeled batches',
            'fixed_best',
            'fixed_same_draws',
        ),
        Claim(
            'learned t > best t of all labels, half-labeled batches',
            'learned',
            'fixed_same_draws',
        ),
        Claim('learned t > t of the probe', 'learned', 'fixed_best'),
        *(
            Claim(f'{title} > {other_title}', name, other)
            for name, title in removed.items()
            for other, other_title in (
                ('learned', 'learned t'),
                ('fixed_best', 't of the probe'),
            )
        ),
        Claim('latent teacher > from scratch', 'latent', 'scratch'),
    )


def main(argv: Optional[List[str]] = None) -> int:
    return run_study(AblationStudy, argv)


if __name__ == '__main__':
    sys.exit(main())
