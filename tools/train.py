"""Train from a config: a teacher, a distillation or a finetuning."""

import sys
from typing import List, Optional

from repfusion_mm.cli import build_runner, report_errors


def main(argv: Optional[List[str]] = None) -> int:
    """Train with the options of ``argv``; return the exit status."""
    with report_errors():
        build_runner(argv).train()
    return 0


if __name__ == '__main__':
    sys.exit(main())
