#!/bin/sh
# Installs what the build needs and this machine lacks: Debian packages, as root. Elsewhere it says
# what to install. Does nothing, and says nothing, where all is there.
#
#   scripts/setup.sh           install what building takes
#   scripts/setup.sh --tests   also what the tests take: a stock WASI C toolchain, Python packages
#   scripts/setup.sh --bench   also what the benchmarks compare with, if it can be had
#   scripts/setup.sh --cargo   print the cargo to build the host's programs with
set -eu
cd "$(dirname "$0")/.."

# Oldest Rust that takes the workspace: 1.95.
recent() {
    "$@" --version 2>/dev/null | awk '
        { split($2, v, "."); found = 1; exit !(v[1] > 1 || (v[1] == 1 && v[2] >= 95)) }
        END { if (!found) exit 1 }'
}

has() {
    command -v "$1" >/dev/null 2>&1
}

has_sources() {
    [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std" ]
}

# The cargo in the path, if it is recent; else Debian's, with the compiler that belongs to it.
host_cargo() {
    if recent cargo && recent rustc; then
        echo cargo
    elif recent /usr/bin/cargo && recent /usr/bin/rustc; then
        echo env RUSTC=/usr/bin/rustc /usr/bin/cargo
    else
        return 1
    fi
}

# Sets `nightly` where rustup has one. A compiler that can build std for WebAssembly, as xtask looks for it.
guest_compiler() {
    nightly=
    if recent /usr/bin/cargo && recent /usr/bin/rustc && has_sources /usr/bin/rustc; then
        return 0
    fi
    nightly=$(env -u RUSTUP_TOOLCHAIN rustup which --toolchain nightly rustc 2>/dev/null) &&
        recent "$nightly" && has_sources "$nightly"
}

# Any version of LLVM's; rustup's compilers have one beside them.
wasm_linker() {
    has wasm-ld && return 0
    ls "${nightly%/bin/rustc}"/lib/rustlib/*/bin/gcc-ld/wasm-ld >/dev/null 2>&1 && return 0
    for version in 23 22 21 20 19 18; do
        has "wasm-ld-$version" && return 0
    done
    return 1
}

# Sets `packages` (for Debian) and `elsewhere` (a line each) to what is missing.
look() {
    packages=
    elsewhere=
    host_cargo >/dev/null || lack "rustc-web cargo-web" "Rust 1.95 or newer (rustup.rs)"
    guest_compiler || lack "rustc-web cargo-web rust-web-src" \
        "a Rust compiler with library sources: rustup toolchain install nightly --component rust-src"
    wasm_linker || lack lld-19 "lld for WebAssembly (wasm-ld), version 18 or newer"
    has wasm-opt || lack binaryen "binaryen (wasm-opt)"
    has cc || lack "gcc libc6-dev" "a C compiler (cc), which links the host's programs"
    has python3 || lack python3 "python3"
    [ "$mode" = --tests ] && look_for_tests
    return 0
}

# What the independent reader of sealed files imports.
reader_python() {
    for python in target/python/bin/python3 python3; do
        "$python" -c 'import cryptography.hazmat.primitives.kdf.argon2, Crypto.Cipher' 2>/dev/null && return 0
    done
    return 1
}

look_for_tests() {
    has clang-19 || lack clang-19 "clang 19"
    [ -d /usr/include/wasm32-wasi ] || lack wasi-libc "wasi-libc"
    [ -e /usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a ] ||
        lack libclang-rt-19-dev-wasm32 "clang's runtime for wasm32-wasi"
    if ! reader_python; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || lack python3-venv "Python's venv module"
    fi
}

# The reader's packages, in an environment of their own below target/.
install_python_packages() {
    reader_python && return 0
    echo "setup: making target/python for $(tr '\n' ' ' <tests/requirements.txt)"
    mkdir -p target
    python3 -m venv target/python &&
        target/python/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
}

lack() {
    for package in $1; do
        case " $packages " in
        *" $package "*) ;;
        *) packages="${packages:+$packages }$package" ;;
        esac
    done
    elsewhere="$elsewhere
  $2"
}

if [ "${1:-}" = --cargo ]; then
    host_cargo && exit 0
    echo "setup: there is no cargo of at least 1.95; run scripts/setup.sh" >&2
    exit 1
fi

mode=${1:-}
if [ "$mode" = --bench ] && ! has gocryptfs && has apt-get && [ "$(id -u)" = 0 ]; then
    echo "setup: installing gocryptfs fuse3, to compare with"
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends gocryptfs fuse3; } \
        >/dev/null 2>&1 || echo "setup: without gocryptfs: it could not be installed"
fi

if [ "$mode" = --bench ] && ! has stunnel && has apt-get && [ "$(id -u)" = 0 ]; then
    echo "setup: installing stunnel, to compare with"
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends stunnel4; } \
        >/dev/null 2>&1 || echo "setup: without stunnel: it could not be installed"
fi

if [ "$mode" = --bench ] && ! [ -x target/bench-python/bin/secrethider-redact ]; then
    echo "setup: installing secrethider, to compare with"
    { python3 -m venv target/bench-python && target/bench-python/bin/pip install -q secrethider; } \
        >/dev/null 2>&1 || echo "setup: without secrethider: it could not be installed"
fi

finish() {
    [ "$mode" != --tests ] || install_python_packages
    exit
}
look
[ -z "$packages" ] && finish

if ! has apt-get || [ "$(id -u)" != 0 ]; then
    echo "setup: the build needs, and this machine lacks:$elsewhere" >&2
    if has apt-get; then
        echo "setup: on Debian, as root: apt-get install $packages" >&2
    fi
    exit 1
fi

echo "setup: installing $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages
}
# The lists of packages are fetched only where the present ones don't do: where they name files that
# are gone, or releases that are too old.
fetch_and_install() {
    apt-get update -qq && install
}
for attempt in install fetch_and_install; do
    "$attempt" >>"$log" 2>&1 && failed= || failed=1
    look
    [ -n "$packages" ] || break
done
if [ -n "$packages" ]; then
    [ -z "$failed" ] || cat "$log" >&2
    echo "setup: apt-get could not install $packages; what is needed:$elsewhere" >&2
    exit 1
fi
echo "setup: done"
finish
