#!/bin/sh
# Installs what the build needs and this machine lacks: Debian packages, as root. Elsewhere it says
# what to install. Does nothing, and says nothing, where all is there.
#
#   scripts/setup.sh           install what building takes
#   scripts/setup.sh --tests   also what the tests take: Python packages
#   scripts/setup.sh --bench   also what the benchmarks compare with, if it can be had
#   scripts/setup.sh --cargo   print the cargo to build the host's programs with
set -eu
cd "$(dirname "$0")/.."

# Where Debian puts its tools. The tests of this script put a place of their own here.
system=${SETUP_SYSTEM:-/usr}

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
    elif recent "$system/bin/cargo" && recent "$system/bin/rustc"; then
        echo env "RUSTC=$system/bin/rustc" "RUSTDOC=$system/bin/rustdoc" "$system/bin/cargo"
    else
        return 1
    fi
}

# A compiler that can build std for WebAssembly, as xtask looks for it: Debian's, else rustup's,
# which `nightly` is set to then. One that lacks the sources is no use, nor is what lies beside it.
guest_compiler() {
    nightly=
    if recent "$system/bin/cargo" && recent "$system/bin/rustc" && has_sources "$system/bin/rustc"; then
        return 0
    fi
    nightly=$(env -u RUSTUP_TOOLCHAIN rustup which --toolchain nightly rustc 2>/dev/null) &&
        recent "$nightly" && has_sources "$nightly" && return 0
    nightly=
    return 1
}

# Any version of LLVM's; rustup's compilers have one beside them.
wasm_linker() {
    has wasm-ld && return 0
    if [ -n "$nightly" ]; then
        ls "${nightly%/bin/rustc}"/lib/rustlib/*/bin/gcc-ld/wasm-ld >/dev/null 2>&1 && return 0
    fi
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
    case $packages in
    # Once it is installed, it goes before rustup's.
    *rustc-web*) nightly= ;;
    esac
    wasm_linker || lack lld-19 \
        "lld for WebAssembly (wasm-ld), version 18 or newer; rustup's compilers bring theirs"
    has wasm-opt || lack binaryen "binaryen (wasm-opt)"
    has cc || lack "gcc libc6-dev" "a C compiler (cc), which links the host's programs"
    has python3 || lack python3 "python3"
    look_for_c
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

# A file of the toolchain for C: where Debian has it, or where that compiler finds it.
c_file() {
    [ "$1" = clang-19 ] && [ -e "$3" ] && return 0
    [ -f "$("$1" --target=wasm32-wasi "$2" 2>/dev/null)" ]
}

has_libc() {
    c_file "$1" -print-file-name=libc.a "$system/lib/wasm32-wasi/libc.a"
}

has_builtins() {
    c_file "$1" -print-libgcc-file-name \
        "$system/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a"
}

# What grates and programs in C are compiled with: Debian's, or any other that is whole.
look_for_c() {
    for compiler in clang-19 clang-23 clang-22 clang-21 clang-20 clang-18; do
        has "$compiler" && has_libc "$compiler" && has_builtins "$compiler" && return 0
    done
    has clang-19 || lack clang-19 "clang, version 18 or newer, that knows wasm32"
    has_libc clang-19 || lack wasi-libc "wasi-libc, where that clang finds it"
    has_builtins clang-19 ||
        lack libclang-rt-19-dev-wasm32 "clang's runtime for wasm32-wasi (libclang_rt.builtins)"
}

look_for_tests() {
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
        target/python/bin/pip install --quiet --disable-pip-version-check \
            -r tests/requirements.txt && return 0
    echo "setup: pip could not install what tests/requirements.txt names; the tests need it" >&2
    return 1
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

# What apt-get said so far.
said=

# apt-get, once another one that is at work is done, or five to ten minutes have passed. For dpkg's
# lock apt-get waits itself; of those on its lists and archives it complains at once.
apt() {
    tries=60
    until output=$(LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -qq -y \
        -o DPkg::Lock::Timeout=5 -o Acquire::Retries=3 "$@" 2>&1 </dev/null); do
        case $output in
        *"Could not get lock"* | *"Unable to acquire the dpkg"*) ;;
        *) tries=0 ;;
        esac
        if [ "$tries" = 0 ]; then
            said="$said
$output"
            return 1
        fi
        [ "$tries" != 60 ] || echo "setup: another apt is at work; waiting until it is done"
        tries=$((tries - 1))
        sleep 5
    done
}

install() {
    apt install --no-install-recommends "$@"
}

is_untried() {
    for package in $packages; do
        case " $tried " in
        *" $package "*) ;;
        *) return 0 ;;
        esac
    done
    return 1
}

# Installs until nothing is missing, or nothing helps: one package can make another one needed. The
# lists of packages are fetched only where the present ones don't do: where they name files that are
# gone, or releases that are too old.
install_all() {
    tried=
    fetched=0
    while [ -n "$packages" ]; do
        if ! is_untried; then
            [ "$fetched" -lt 2 ] || return 1
            fetched=$((fetched + 1))
            tried=
            echo "setup: fetching the lists of packages"
            apt update || true
        fi
        tried="$tried $packages"
        echo "setup: installing $packages (this can take minutes)"
        # shellcheck disable=SC2086 # a list of words
        if ! install $packages && [ "$fetched" = 2 ]; then
            # One that can't be had keeps back no other.
            for package in $packages; do
                install "$package" || true
            done
        fi
        look
    done
}

can_install() {
    has apt-get && [ "$(id -u)" = 0 ]
}

# What the benchmarks compare with. They do without.
look_for_rivals() {
    if ! has gocryptfs && can_install; then
        echo "setup: installing gocryptfs fuse3, to compare with"
        { apt update && install gocryptfs fuse3; } ||
            echo "setup: without gocryptfs: it could not be installed"
    fi
    if ! has stunnel && can_install; then
        echo "setup: installing stunnel4, to compare with"
        { apt update && install stunnel4; } ||
            echo "setup: without stunnel: it could not be installed"
    fi
    if ! [ -x target/bench-python/bin/secrethider-redact ]; then
        echo "setup: installing secrethider, to compare with"
        { python3 -m venv target/bench-python &&
            target/bench-python/bin/pip install -q secrethider; } >/dev/null 2>&1 ||
            echo "setup: without secrethider: it could not be installed"
    fi
}

mode=${1:-}
look
if [ -n "$packages" ]; then
    if ! can_install; then
        echo "setup: the build needs, and this machine lacks:$elsewhere" >&2
        if has apt-get; then
            echo "setup: on Debian, as root: apt-get install $packages" >&2
        fi
        exit 1
    fi
    if ! install_all; then
        [ -z "$said" ] || echo "setup: apt-get said:$said" >&2
        echo "setup: apt-get could not install $packages; what is needed:$elsewhere" >&2
        exit 1
    fi
    echo "setup: done"
fi
case $mode in
--tests) install_python_packages ;;
--bench) look_for_rivals ;;
esac
