# What install.sh and stacks.sh share; sourced, in the root of the checkout.
# Of its caller it wants venv, mmcv (name==version) and pip_options.

say() { echo "== $*" >&2; }
fail() { say "$*"; exit 1; }
run_pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@" \
        "${pip_options[@]}"
}

# Build mmcv once for each torch and Python; print the wheel's path.
# It is built for the CPU unless FORCE_CUDA=1: with a GPU but no compiler for
# it, a build with CUDA fails.
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
        say "building $mmcv, once: about ten minutes on two cores"
        mkdir -p "$folder"
        if [ "${FORCE_CUDA:-0}" != 1 ]; then export CUDA_VISIBLE_DEVICES=; fi
        # Not from pip's own cache, which does not know torch's version.
        CXX=$(compiler "$folder") MMCV_WITH_OPS=1 run_pip wheel -q \
            --no-cache-dir --no-deps --no-build-isolation \
            -w "$folder/unfinished" "$mmcv" >&2
        mv "$folder"/unfinished/*.whl "$folder"
    fi
    echo "$folder"/*.whl
}

# mmcv asks for C++17, and the headers of torch 2.15 are C++20: the last word
# to the compiler is ours.
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
