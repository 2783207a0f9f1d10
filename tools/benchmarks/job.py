"""Time a training from the command to its last file, part by part.

    job.py configs/distill/repfusion_resnet18_digits.py --json job.json

Takes the options of tools/train.py, and trains. The parts:

- import: importing what training needs;
- build: reading the config, and building model, data and hooks;
- start: checks of data and settings, and the initialization of weights;
- data: waiting for batches of the data loader;
- step: copying batches to the device, and the steps of the optimizers;
- checkpoint: writing checkpoints and the student;
- other hooks: of iterations and epochs, such as logging;
- validation, if there is one;
- rest: the loop itself.

On a GPU, each part waits until the GPU has finished, which a training without
this tool does not.
"""

import argparse
import bisect
import json
import sys
import time
from typing import Any, Dict, List, Optional

from repfusion_mm.cli import report_errors
from repfusion_mm.cli.argument_types import output_file
from repfusion_mm.cli.train import train_parser

#: Methods of hooks that are called after the start.
CALLS = (
    'before_train_epoch', 'before_train_iter', 'after_train_iter',
    'after_train_epoch', 'after_train', 'after_run',
)  # fmt: skip


def main(argv: Optional[List[str]] = None) -> int:
    parser = train_parser(__doc__)
    add = parser.add_argument
    add('--json', type=output_file, metavar='OUT', help='write all figures')
    args = parser.parse_args(argv)
    with report_errors():
        result = time_job(args)
    total = result['seconds']
    for part, seconds in result['parts'].items():
        print(f'{part:12} {seconds:9.2f} s {seconds / total:7.1%}')
    print(f'{"all":12} {total:9.2f} s, {result["iterations"]} iterations')
    if args.json:
        args.json.write_text(
            json.dumps(result, indent=2) + '\n', encoding='utf-8'
        )
    return 0


def time_job(args: argparse.Namespace) -> Dict[str, Any]:
    """Train, and return the seconds of all and of each part."""
    begin = time.perf_counter()
    from mmengine.hooks import CheckpointHook

    from repfusion_mm.analysis.measuring import now, time_methods
    from repfusion_mm.cli.runner import make_runner
    from repfusion_mm.engine.hooks import ExportStudentHook

    imported = time.perf_counter()
    runner = make_runner(args)
    built = now()
    hooks = runner.hooks
    timed: Dict[str, list] = {
        f'{number} {call}': [(hook, call)]
        for number, hook in enumerate(hooks)
        for call in CALLS
    }
    timed['step'] = [(runner.model, 'train_step')]
    timed['validation'] = []
    if runner.val_loop is not None:
        timed['validation'] = [(runner.val_loop, 'run')]
    with time_methods(timed) as calls:
        runner.train()
    end = now()

    def seconds(name: str) -> float:
        return sum(end - begin for begin, end in calls[name])

    last = len(hooks) - 1
    # A batch is fetched after one of these has ended.
    ends = sorted(
        end
        for name in (
            f'{last} before_train_epoch', f'{last} after_train_iter',
            'validation',
        )
        for _, end in calls[name]
    )  # fmt: skip
    fetched = [begin for begin, _ in calls['0 before_train_iter']]
    parts = {
        'import': imported - begin,
        'build': built - imported,
        'start': calls['0 before_train_epoch'][0][0] - built,
        'data': sum(t - ends[bisect.bisect(ends, t) - 1] for t in fetched),
        'step': seconds('step'),
        'checkpoint': 0.0,
        'other hooks': 0.0,
        'validation': seconds('validation'),
    }
    for number, hook in enumerate(hooks):
        writes = isinstance(hook, (CheckpointHook, ExportStudentHook))
        part = 'checkpoint' if writes else 'other hooks'
        parts[part] += sum(seconds(f'{number} {call}') for call in CALLS)
    total = end - begin
    parts['rest'] = total - sum(parts.values())
    return dict(seconds=total, iterations=runner.iter, parts=parts)


if __name__ == '__main__':
    sys.exit(main())
