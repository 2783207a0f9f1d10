# Functions of install.sh and stacks.sh, sourced in the root of the checkout.
# The caller sets venv, mmcv (name==version) and pip_options.

info() { echo "== $*" >&2; }
fail() { info "$*"; exit 1; }
run_pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@" \
        "${pip_options[@]}"
}

# Build mmcv once for each version of torch and Python; print the wheel's path.
# Build for the CPU unless FORCE_CUDA=1: a CUDA build fails without nvcc.
mmcv_wheel() {
    local key folder
    key=$("$venv/bin/python" -c "
import sys, torch
print('${mmcv/==/}-torch%s-cp%d%d' % (torch.__version__, *sys.version_info[:2]))")
    folder=${REPFUSION_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/repfusion_mm}
    folder=$folder/$key$([ "${FORCE_CUDA:-0}" = 1 ] && echo -cuda || true)
    if ! compgen -G "$folder/*.whl" > /dev/null; then
        command -v "${CXX:-c++}" > /dev/null ||
            fail "mmcv is built from source: install a C++ compiler (g++)"
        info "building $mmcv once, which takes 10 to 40 minutes on two cores"
        mkdir -p "$folder"
        if [ "${FORCE_CUDA:-0}" != 1 ]; then export CUDA_VISIBLE_DEVICES=; fi
        # pip's cache does not distinguish versions of torch.
        CXX=$(compiler "$folder") MMCV_WITH_OPS=1 run_pip wheel -q \
            --no-cache-dir --no-deps --no-build-isolation \
            -w "$folder/unfinished" "$mmcv" >&2
        mv "$folder"/unfinished/*.whl "$folder"
    fi
    echo "$folder"/*.whl
}

# Print the C++ compiler for mmcv. mmcv compiles with -std=c++17, but the headers
# of torch 2.15 need C++20: a wrapper adds -std=c++20 as the last argument.
compiler() {
    local headers
    headers=$("$venv/bin/python" -c "
import pathlib, torch
print(pathlib.Path(torch.__file__).parent / 'include/ATen/ATen.h')")
    if grep -q 'C++20' "$headers"; then
        printf '#!/bin/sh\nexec %s "$@" -std=c++20\n' "${CXX:-c++}" > "$1/c++20"
        chmod +x "$1/c++20"
        echo "$(cd "$1" && pwd)/c++20"
    else
        echo "${CXX:-c++}"
    fi
}
