#!/bin/sh
# Shows the main job on a real text: `make run` builds what it needs first.
set -eu
cd "$(dirname "$0")/.."

text=/usr/share/common-licenses/GPL-3
[ -r "$text" ] || text=LICENSE
root=lindfs
demo=tmp/demo
lind="target/release/lind-wasm --root $root"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

rm -rf "$root/$demo"
mkdir -p "$root/$demo"

say "1. A key"
run target/release/keys gen "$root/$demo/k.bin"

say "2. A program that stores $text, under the grate. It sees plaintext:"
echo "$ $lind crypt-grate.cwasm --key $demo/k.bin keep.cwasm /$demo/text < $text"
$lind crypt-grate.cwasm --key "$demo/k.bin" keep.cwasm "/$demo/text" < "$text"

say "3. The disk holds ciphertext:"
run ls -l "$text" "$root/$demo/text"
head -c 160 "$root/$demo/text" | od -A d -t x1z | head -n 8
if grep -q -a -F 'GNU GENERAL PUBLIC' "$root/$demo/text"; then
    echo 'the text is on the disk in the clear' >&2
    exit 1
fi

say "4. Without the grate the program sees only that:"
$lind show.cwasm "/$demo/text" | head -c 48 | od -A n -c | head -n 3

say "5. The wrong key is refused:"
run target/release/keys gen "$root/$demo/other.bin"
echo "$ $lind crypt-grate.cwasm --key $demo/other.bin show.cwasm /$demo/text"
if $lind crypt-grate.cwasm --key "$demo/other.bin" show.cwasm "/$demo/text"; then
    echo 'the wrong key was taken' >&2
    exit 1
else
    echo "(exit status $?)"
fi

say "6. The right key opens the file without any cage:"
run target/release/keys open --key "$root/$demo/k.bin" "$root/$demo/text" -o "$root/$demo/text.open"
run cmp "$text" "$root/$demo/text.open"
echo "the same, byte for byte"
rm -rf "$root/$demo"
