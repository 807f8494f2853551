#!/bin/sh
# Installs what the build needs and this machine lacks: Debian packages, as root. Elsewhere it says
# what to install. Does nothing, and says nothing, where all is there.
#
#   scripts/setup.sh           install what is missing
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

look
[ -z "$packages" ] && exit 0

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
# The lists of packages are fetched only where the present ones don't do.
if ! install >"$log" 2>&1 && ! { apt-get update -qq && install; } >>"$log" 2>&1; then
    cat "$log" >&2
    echo "setup: apt-get could not install $packages; what is needed:$elsewhere" >&2
    exit 1
fi
look
if [ -n "$packages" ]; then
    echo "setup: installed, but still missing:$elsewhere" >&2
    exit 1
fi
echo "setup: done"
