import cv2

from tests.helpers.launcher import run_main
from tests.helpers.report_files import policy_record, write_lines, write_probe

SCRIPT = 'tools/analysis_tools/plot_policy.py'


def test_the_policy_is_drawn_with_and_without_a_probe(tmp_path):
    records = [
        policy_record(i, mode, step=100) for i, mode in ((1, 0), (2, 9))
    ]
    write_lines(tmp_path / 'policy.jsonl', records)
    done = run_main(SCRIPT, tmp_path)
    assert done.last_line == f'{tmp_path}/policy.png: 2 records'
    without = cv2.imread(str(tmp_path / 'policy.png'))
    write_probe(tmp_path / 'probe.csv', {0: 0.0, 500: 0.5})
    out = tmp_path / 'new' / 'both.png'
    run_main(SCRIPT, tmp_path, '--probe', tmp_path / 'probe.csv', '--out', out)
    assert (without != cv2.imread(str(out))).any()


def test_wrong_arguments_are_refused(tmp_path):
    done = run_main(SCRIPT, tmp_path, expect=1)
    assert 'expected policy.jsonl' in done.last_line
    done = run_main(SCRIPT, tmp_path, '--out', 'policy.pdf', expect=2)
    assert 'expected --out to end in .png, got policy.pdf' in done.output
    write_lines(tmp_path / 'policy.jsonl', [policy_record(1)])
    done = run_main(SCRIPT, tmp_path, '--probe', 'nowhere.csv', expect=1)
    assert 'nowhere.csv, got none' in done.last_line
