"""Evaluate a checkpoint with the test settings of a config."""

import sys
from typing import List, Optional

from repfusion_mm.cli import make_parser, report_errors
from repfusion_mm.cli.files import check_file


def main(argv: Optional[List[str]] = None) -> int:
    """Test with the options of ``argv``; return the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='path of the checkpoint')
    with report_errors():
        args = parser.parse_args(argv)
        check_file(args.config, 'a config')
        # Later than the errors above, because these imports take seconds.
        from repfusion_mm.cli.config import load_config
        from repfusion_mm.cli.runner import build_keeping_config
        from repfusion_mm.cli.validate_data import check_dataset
        from repfusion_mm.engine.hooks import StrictLoadHook

        cfg = load_config(args)
        if cfg.get('test_dataloader') is None:
            raise SystemExit(
                f'expected test_dataloader in {args.config}, got none; a '
                'distillation has no test: evaluate a finetuned network'
            )
        check_file(args.checkpoint, 'a checkpoint')
        scope = cfg.get('default_scope')
        check_dataset(cfg.test_dataloader.get('dataset') or {}, scope)
        runner, _ = build_keeping_config(cfg, args.config)
        # Also of other projects' configs, of which mmengine would load what
        # fits.
        if not any(isinstance(h, StrictLoadHook) for h in runner.hooks):
            runner.register_hook(StrictLoadHook())
        # Not in the config: the one in the work directory starts a training.
        runner._resume, runner._load_from = False, args.checkpoint
        runner.test()
    return 0


if __name__ == '__main__':
    sys.exit(main())
