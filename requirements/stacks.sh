#!/usr/bin/env bash
# Build another environment of docs/compatibility.md, and run the tests in it.
#
#   requirements/stacks.sh older  [PYTEST_ARGUMENT ...]   needs Python 3.10
#   requirements/stacks.sh newest [PYTEST_ARGUMENT ...]
#   requirements/stacks.sh forks  [PYTEST_ARGUMENT ...]
#
# The versions are in requirements/stacks/. PYTHON creates the environment
# .venv-NAME; its versions.txt lists all installed versions.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-}
venv=.venv-$name
python=${PYTHON:-python3}
mmcv=mmcv==2.1.0
mmpose=mmpose==1.3.2
pip_options=()
. requirements/common.sh

case $name in
    older) python=${PYTHON:-python3.10} mmpose=mmpose==1.3.1 ;;
    newest) mmpose=mmpose ;;
    forks) mmcv=onedl-mmcv==2.3.6 ;;
    *) fail "expected older, newest or forks, got '$name'" ;;
esac
shift
if [ ! -e "$venv/versions.txt" ]; then
    info "creating $venv with $("$python" -V)"
    "$python" -m venv --clear "$venv"
    # mmcv is built against torch, and other packages against numpy.
    grep -E '^(setuptools|torch|torchvision|numpy)\b' \
        "requirements/stacks/$name.txt" > "$venv/first.txt"
    run_pip install -q -r "$venv/first.txt" -r requirements/stacks/common.txt
    run_pip install -q --no-deps "$(mmcv_wheel)"
    run_pip install -q --no-build-isolation \
        -r "requirements/stacks/$name.txt" -r requirements/stacks/common.txt
    # Build xtcocotools against the installed numpy, which neither its wheels nor
    # pip's cache distinguish. Install mmpose without chumpy, as in install.sh.
    run_pip install -q --no-cache-dir --no-deps --no-binary xtcocotools \
        --no-build-isolation xtcocotools
    run_pip install -q --no-deps "$mmpose"
    run_pip install -q --no-build-isolation --no-deps -e .
    run_pip freeze --exclude-editable > "$venv/versions.txt"
fi
"$venv/bin/python" -m pytest tests "$@"
