#!/usr/bin/env bash
# Create or update the environment of this checkout.
#
#   requirements/install.sh core    distillation, mmpretrain (mmcv-lite)
#   requirements/install.sh full    also mmsegmentation, mmdet, mmpose (mmcv)
#
# VENV (.venv) is the folder of the environment, and PYTHON (python3) creates it.
# REPFUSION_MM_CACHE (~/.cache/repfusion_mm) stores the mmcv wheel.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-}
venv=${VENV:-.venv}
mmcv=mmcv==2.1.0
pip_options=(-c requirements/constraints.txt)
. requirements/common.sh

# The stamp holds a checksum of the files that define the environment.
stamp="$venv/.$kind.stamp"
state() { cat requirements/*.txt requirements/*.sh setup.py | cksum; }

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
        2> /dev/null
}

make_venv() {
    [ -x "$venv/bin/python" ] && return
    local python
    for python in "${PYTHON:-python3}" python3.12 python3.11 python3.10; do
        if is_supported "$python"; then break; fi
    done
    is_supported "$python" ||
        fail "expected Python 3.10 to 3.12 (for numpy 1.26), got $("${PYTHON:-python3}" -V); set PYTHON"
    info "creating $venv with $("$python" -V)"
    "$python" -m venv "$venv" || fail "$python has no venv (python3-venv)"
}

install_core() {
    info "installing the core stack"
    run_pip install -q -r requirements/core.txt
    # mmcv and mmcv-lite have the same import name: install only one of them.
    "$venv/bin/python" -m pip show -q mmcv 2>/dev/null ||
        run_pip install -q --no-build-isolation "${mmcv/mmcv/mmcv-lite}"
    run_pip install -q --no-build-isolation --no-deps -e .
}

install_full() {
    info "installing the full stack"
    run_pip install -q -r requirements/build.txt
    local wheel
    wheel=$(mmcv_wheel)
    "$venv/bin/python" -m pip uninstall -q -y mmcv-lite 2>/dev/null || true
    run_pip install -q --no-deps "$wheel"
    run_pip install -q -r requirements/full.txt -r requirements/test.txt \
        -r requirements/docs.txt
    # Build xtcocotools against the installed numpy. Install mmpose without its
    # dependency chumpy, which it never imports and which no longer builds.
    run_pip install -q --no-deps --no-build-isolation xtcocotools==1.14.3
    run_pip install -q --no-deps mmpose==1.3.2
}

case $kind in
    core | full) ;;
    *) fail "expected core or full, got '$kind'" ;;
esac
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(state)" ]; then exit 0; fi
make_venv
install_core
if [ "$kind" = full ]; then install_full; fi
state > "$stamp"
