"""Evaluate a checkpoint with the test settings of a config."""

from mmengine.runner import Runner

from repfusion_mm.cli.config import load_config, make_parser
from repfusion_mm.cli.error_reporting import report_errors


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='path of the checkpoint')
    args = parser.parse_args()
    cfg = load_config(args)
    if cfg.get('test_dataloader') is None:
        raise SystemExit(
            f'expected test_dataloader in {args.config}, got none; a '
            'distillation predicts nothing: test a finetuned network'
        )
    if not args.checkpoint:
        raise SystemExit("expected the path of a checkpoint, got ''")
    cfg.load_from = args.checkpoint
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    with report_errors():
        main()
