#!/usr/bin/env bash
# What a build and its tests need. Prints what is missing and installs it with apt if it may (root, or sudo without a
# password); else prints the command and exits 1.
#
#   dev/setup.sh         on this machine
#   dev/setup.sh gpu     also cuBLAS, where nvcc is there without it
#   dev/setup.sh clang, dev/setup.sh aarch64    also what make test-clang, make fuzz, make test-aarch64 need
#   dev/setup.sh venv    also what Python needs to make virtual environments: make test-hf, make format
#   dev/setup.sh deps    a copy of headers and libraries in .deps/, where the Makefile looks first: a machine without a
#                        network builds from it
set -euo pipefail
cd "$(dirname "$0")/.."

has_header() {
    local inc=""
    if [ -d .deps/include ]; then inc="-isystem .deps/include"; fi
    echo "#include <$1>" | g++ -x c++ -std=c++17 $inc -fsyntax-only - 2>/dev/null
}

has_library() {
    local lib=""
    if [ -d .deps/lib ]; then lib=-L.deps/lib; fi
    echo 'int main() {}' | g++ -x c++ - $lib -l"$1" -o /dev/null 2>/dev/null
}

missing() {
    command -v make >/dev/null || echo make
    command -v python3 >/dev/null || echo python3
    if ! command -v g++ >/dev/null; then
        echo g++ libopenblas-dev libdnnl-dev doctest-dev nlohmann-json3-dev libutf8proc-dev
        return
    fi
    has_header cblas.h && has_library openblas || echo libopenblas-dev
    # only PRECISION=bf16 on a CPU needs it: nobody is asked for it who cannot install it, or builds with .deps
    if [ ! -d .deps/lib ] && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        has_header dnnl.hpp && has_library dnnl || echo libdnnl-dev
    fi
    has_header doctest/doctest.h || echo doctest-dev
    has_header nlohmann/json.hpp || echo nlohmann-json3-dev
    has_header utf8proc.h && has_library utf8proc || echo libutf8proc-dev
}

install_missing() {
    if command -v g++ >/dev/null && [ "$(g++ -dumpversion | cut -d. -f1)" -lt 12 ]; then
        echo "setup: expected g++ 12 or newer, found $(g++ -dumpversion): install g++-12 as the g++ of PATH" >&2
        exit 1
    fi
    local packages
    packages=$(missing | sort -u | tr '\n' ' ')
    if [ -z "${packages// /}" ]; then
        echo "setup: nothing is missing"
        return
    fi
    echo "setup: missing: $packages"
    apt_install $packages
}

apt_install() {
    local packages="$*" sudo=""
    local command="apt-get install -y --no-install-recommends $packages"
    if ! command -v apt-get >/dev/null; then
        echo "setup: no apt-get here; install the equivalents of: $packages" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "setup: run this, then again: sudo apt-get update && sudo $command" >&2
            exit 1
        fi
        sudo="sudo -n"
    fi
    echo "setup: installing them, about half a minute"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo $command -qq >/dev/null
    echo "setup: installed"
}

# cuBLAS for the toolkit's version, where nvcc is there without it: from the wheel on PyPI, unpacked
get_cublas() {
    local nvcc home major
    nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
    [ -n "$nvcc" ] || return 0
    home=$(dirname "$(dirname "$(realpath "$nvcc")")")
    for d in "$home" /usr/local/cuda; do
        if ls "$d"/include/cublasLt.h "$d"/targets/*/include/cublasLt.h >/dev/null 2>&1; then return 0; fi
    done
    if ls .deps/nvidia/*/include/cublasLt.h >/dev/null 2>&1; then return 0; fi
    major=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    local version
    version=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\.[0-9]*\),.*/\1/p')
    local name="nvidia-cublas==$version.*"
    [ "$major" -ge 13 ] || name="nvidia-cublas-cu$major"
    echo "setup: nvcc $version is here without cuBLAS: taking it from the wheel ($name, 400 MB)"
    mkdir -p .deps/wheels
    if ! python3 -m pip download -q --disable-pip-version-check --no-deps -d .deps/wheels "$name"; then
        echo "setup: could not get the wheel; the GPU build will be skipped" >&2
        return 0
    fi
    python3 - <<'PY'
import glob, zipfile
for wheel in glob.glob(".deps/wheels/nvidia_cublas*.whl"):
    with zipfile.ZipFile(wheel) as z:
        parts = ("/include/cublas", "/lib/libcublasLt")
        z.extractall(".deps", [n for n in z.namelist() if n.startswith("nvidia/") and any(p in n for p in parts)])
PY
    rm -rf .deps/wheels
}

# clang with OpenMP, the sanitizers and libFuzzer
get_clang() {
    local program='#include <omp.h>
extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    if echo "$program" | clang++ -x c++ -fopenmp -fsanitize=fuzzer,address - -o /dev/null 2>/dev/null; then return; fi
    # a fresh image has no lists of packages, which say what clang it is that apt installs
    local sudo="" version
    if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; fi
    if [ -z "$(apt-cache depends clang 2>/dev/null)" ]; then $sudo apt-get update -qq || true; fi
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')
    apt_install clang "libomp-${version:-14}-dev" "libclang-common-${version:-14}-dev" \
        $(apt-cache search --names-only "^libclang-rt-${version:-14}-dev$" | cut -d' ' -f1)
}

# a compiler for aarch64, what runs its programs, and utf8proc for it in .deps/
get_aarch64() {
    if ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
        apt_install g++-aarch64-linux-gnu qemu-user
    fi
    local there=.deps/aarch64
    if ls $there/lib/libutf8proc.a >/dev/null 2>&1; then return; fi
    mkdir -p $there/lib $there/apt/lists/partial
    (
        cd $there/apt
        # lists of their own: the system's stay as they are, and nobody has to be root. Ubuntu has ARM on another server
        options="-qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64"
        options="$options -o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache -o Dir::State::status=/dev/null"
        options="$options -o APT::Sandbox::User=$(id -un)"
        if grep -qx ID=ubuntu /etc/os-release; then
            key=/usr/share/keyrings/ubuntu-archive-keyring.gpg release=$(. /etc/os-release && echo "$VERSION_CODENAME")
            echo "deb [signed-by=$key] http://ports.ubuntu.com/ubuntu-ports $release main universe" >sources.list
            options="$options -o Dir::Etc::SourceList=$PWD/sources.list -o Dir::Etc::SourceParts=/dev/null"
        fi
        apt-get $options update
        apt-get $options download libutf8proc-dev
        dpkg -x libutf8proc-dev_*_arm64.deb .
        mv usr/lib/aarch64-linux-gnu/libutf8proc.a ../lib/
    )
    rm -rf $there/apt
}

copy_deps() {
    mkdir -p .deps/include .deps/lib
    local inc=/usr/include machine lib blas cublas
    machine=$(g++ -dumpmachine)
    lib=/usr/lib/$machine
    cp -r $inc/doctest $inc/nlohmann $inc/utf8proc.h .deps/include/
    blas=$(ls $inc/cblas.h $inc/"$machine"/{cblas,openblas_config}.h 2>/dev/null || true)
    cp $blas .deps/include/
    cp -L "$lib"/libopenblas.so.0 "$lib"/libutf8proc.so.[0-9] .deps/lib/
    ln -sf libopenblas.so.0 .deps/lib/libopenblas.so
    (cd .deps/lib && ln -sf libutf8proc.so.[0-9] libutf8proc.so)
    for l in libgfortran.so.5 libquadmath.so.0; do if [ -e "$lib/$l" ]; then cp -L "$lib/$l" .deps/lib/; fi; done
    if [ -d .deps/nvidia ]; then cublas=", cuBLAS"; fi
    echo "setup: .deps/ has doctest, nlohmann-json, utf8proc, OpenBLAS${cublas:-}"
}

case "${1:-}" in
    "")
        install_missing
        if nvidia-smi -L 2>/dev/null | grep ^GPU >/dev/null; then get_cublas; fi
        ;;
    gpu) install_missing; get_cublas ;;
    clang) install_missing; get_clang ;;
    aarch64) install_missing; get_aarch64 ;;
    deps) install_missing; get_cublas; copy_deps ;;
    venv) install_missing; python3 -c "import ensurepip, venv" 2>/dev/null || apt_install python3-venv ;;
    -h | --help) sed -n '2,/^set/p' dev/setup.sh | grep '^#' | sed 's/^# \{0,1\}//' ;;
    *) echo "usage: dev/setup.sh [gpu|venv|deps|clang|aarch64]" >&2; exit 2 ;;
esac
