#!/usr/bin/env python3
"""Reads sealed files. Written from docs/format.md alone, sharing nothing with the Rust code, so
that the two check each other.

    sealed_reader.py --key K FILE [-o OUT]     writes the plaintext to OUT or standard output;
                                               --passphrase-file F for a wrapped key
    sealed_reader.py --self-test VECTORS.json  checks this reader against the test vectors

Exits with 1 and one line on standard error on any failure. Needs the packages in requirements.txt.
"""

import argparse
import hashlib
import hmac
import json
import os
import sys
import tempfile
from typing import NamedTuple

from Crypto.Cipher import ChaCha20_Poly1305
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from key_file_reader import Refused, key_id, read_keys

MAGIC = b"\xa7sealed\n"
VERSION = 3
HEADER_LEN = 96
ENTRY_LEN = 96
TAG_LEN = 16
DIGEST_LEN = 16
GROUP_CHUNKS = 256
TABLE_LEN = DIGEST_LEN + GROUP_CHUNKS * TAG_LEN
ROW_TAGS = 4


def derive(master, length, salt, info):
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(master)


def open_xchacha20poly1305(key, nonce, ciphertext, tag, associated_data):
    cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
    cipher.update(associated_data)
    return cipher.decrypt_and_verify(ciphertext, tag)  # ValueError on a bad tag


def open_aes_256_gcm(key, nonce, ciphertext, tag, associated_data):
    try:
        return AESGCM(key).decrypt(nonce, ciphertext + tag, associated_data)
    except InvalidTag as error:
        raise ValueError from error


# Header number: (name, nonce length, how to open a chunk).
CIPHERS = {
    1: ("xchacha20poly1305", 24, open_xchacha20poly1305),
    2: ("aes-256-gcm", 12, open_aes_256_gcm),
}


def cut(data, at, length):
    return data[at : at + length]


class Header(NamedTuple):
    """What the header of a file tells, and the keys that come from it."""

    cipher: int
    chunk_size: int
    header_key: bytes
    content_key: bytes
    tree_key: bytes
    journal_mark: bytes


def read_header(sealed, master):
    """Section 8, "Reading a header"."""
    if sealed[:8] != MAGIC[: len(sealed)]:
        raise Refused("NotSealed", "not a sealed file")
    if len(sealed) > 8 and sealed[8] != VERSION:
        raise Refused("UnsupportedVersion", f"sealed in unknown format version {sealed[8]}")
    if len(sealed) < HEADER_LEN:
        raise Refused("Truncated", "cut short inside the header")
    cipher, log2_chunk = sealed[9], sealed[10]
    if cipher not in CIPHERS:
        raise Refused("UnknownCipher", f"sealed with unknown cipher number {cipher}")
    if not 9 <= log2_chunk <= 16:
        raise Refused("UnsupportedChunkSize", f"impossible chunk size 2^{log2_chunk}")
    if any(sealed[11:16]):
        raise Refused("HeaderCorrupt", "the header is damaged or was altered")
    if sealed[16:32] != derive(master, 16, None, b"sealed key id"):
        raise Refused("WrongKey", f"wrong key: the file names key {sealed[16:32].hex()}")

    salt, bound = sealed[32:64], sealed[8:11]
    header_key = derive(master, 32, salt, b"sealed file header key" + bound)
    if not hmac.compare_digest(hmac.digest(header_key, sealed[:64], "sha256"), sealed[64:96]):
        raise Refused("HeaderCorrupt", "the header is damaged or was altered")
    return Header(
        cipher,
        1 << log2_chunk,
        header_key,
        content_key=derive(master, 32, salt, b"sealed file content key" + bound),
        tree_key=derive(master, 32, salt, b"sealed file tree key" + bound),
        journal_mark=derive(master, 16, salt, b"sealed file journal mark" + bound),
    )


class ChunkReader:
    """Knows where the chunks of one file lie, and opens them."""

    def __init__(self, header):
        _, self.nonce_len, self.open_chunk = CIPHERS[header.cipher]
        self.content_key = header.content_key
        self.chunk_size = header.chunk_size
        self.overhead = self.nonce_len + TAG_LEN
        self.full_len = self.chunk_size + self.overhead
        self.data_start = HEADER_LEN + ENTRY_LEN + self.full_len

    def table_at(self, group):
        """Section 7: where the table of a group begins."""
        return self.data_start + group * (TABLE_LEN + GROUP_CHUNKS * self.full_len)

    def chunk_at(self, index):
        """Section 7: where a chunk begins."""
        tables = index // GROUP_CHUNKS + 1
        return self.data_start + tables * TABLE_LEN + index * self.full_len

    def final_chunk(self, physical_size):
        """Section 7: index of the final chunk, and how many bytes it holds."""
        group_len = TABLE_LEN + GROUP_CHUNKS * self.full_len
        group, in_group = divmod(physical_size - self.data_start, group_len)
        in_chunks = in_group - TABLE_LEN
        in_final = in_chunks % self.full_len - self.overhead
        if physical_size < self.data_start or in_chunks < 0 or in_final < 0:
            raise Refused("Truncated", "cut short: the end of the file is missing")
        return group * GROUP_CHUNKS + in_chunks // self.full_len, in_final

    def open(self, chunk, index, is_final):
        associated_data = index.to_bytes(8, "little") + bytes([is_final]) + bytes(55)
        nonce, tag = chunk[: self.nonce_len], chunk[-TAG_LEN:]
        ciphertext = chunk[self.nonce_len : -TAG_LEN]
        try:
            return self.open_chunk(self.content_key, nonce, ciphertext, tag, associated_data)
        except ValueError:
            raise Refused("ChunkCorrupt", f"chunk {index} is damaged or was altered") from None


class Restored(NamedTuple):
    """A file as its journal restores it."""

    sealed: bytes
    root: bytes
    # The group whose digest in the table may be that of another state, if there is one.
    changing: int | None


def restored(sealed, journal_mark, reader):
    """Section 6: the file as its journal restores it; None for one that has to be emptied."""
    entry = sealed[HEADER_LEN : HEADER_LEN + ENTRY_LEN]
    as_it_is = Restored(sealed, entry[:16], None)
    if len(entry) < ENTRY_LEN or entry[80:] != journal_mark:
        return as_it_is
    index, kind = int.from_bytes(entry[16:24], "little"), entry[24]
    final_len = int.from_bytes(entry[28:32], "little")
    if kind == 1:
        return None
    if kind == 2:
        chunk_len = reader.full_len
    elif kind == 3 and final_len < reader.chunk_size:
        chunk_len = final_len + reader.overhead
    else:
        return as_it_is
    chunk = cut(sealed, HEADER_LEN + ENTRY_LEN, chunk_len)
    at = reader.chunk_at(index)
    if len(chunk) < chunk_len or at + chunk_len > len(sealed) or chunk[-TAG_LEN:] != entry[32:48]:
        return as_it_is
    try:
        reader.open(chunk, index, kind == 3)
    except Refused:
        return as_it_is
    rest = b"" if kind == 3 else sealed[at + chunk_len :]
    group, slot = divmod(index, GROUP_CHUNKS)
    slot_at = reader.table_at(group) + DIGEST_LEN + slot * TAG_LEN
    before = sealed[:slot_at] + entry[32:48] + sealed[slot_at + TAG_LEN : at]
    return Restored(before + chunk + rest, entry[48:64], group)


def mac(tree_key, about, number, message):
    """Section 5, "The tree"."""
    salt = number.to_bytes(8, "little")
    return hashlib.blake2s(message, digest_size=16, key=tree_key, salt=salt, person=about).digest()


def xor(parts):
    total = 0
    for part in parts:
        total ^= int.from_bytes(part, "little")
    return total.to_bytes(16, "little")


def group_rows(tree_key, group, tags):
    """The rows of a group with these tags, taken together."""
    first = group * GROUP_CHUNKS // ROW_TAGS
    return xor(
        mac(tree_key, b"tree row", first + at // ROW_TAGS, b"".join(tags[at : at + ROW_TAGS]))
        for at in range(0, len(tags), ROW_TAGS)
    )


def file_root(tree_key, digests, last_rows, size):
    """The root of a file of so many bytes of plaintext: from the digests of all groups but the last."""
    nodes = xor(mac(tree_key, b"tree nod", group, digest) for group, digest in enumerate(digests))
    return mac(tree_key, b"tree top", size, nodes + last_rows)


def check_tree(tree_key, file, reader, tags, size):
    """Section 5: whether the chunks with these tags are the newest."""
    groups = [tags[at : at + GROUP_CHUNKS] for at in range(0, len(tags), GROUP_CHUNKS)]
    tables = [cut(file.sealed, reader.table_at(group), TABLE_LEN) for group in range(len(groups))]
    for index, tag in enumerate(tags):
        group, slot = divmod(index, GROUP_CHUNKS)
        if cut(tables[group], DIGEST_LEN + slot * TAG_LEN, TAG_LEN) != tag:
            raise Refused("Stale", f"chunk {index} is not the one that was written last")
    rows = [group_rows(tree_key, group, tags) for group, tags in enumerate(groups)]
    digests = [mac(tree_key, b"tree grp", group, rows) for group, rows in enumerate(rows[:-1])]
    for group, digest in enumerate(digests):
        if group != file.changing and tables[group][:DIGEST_LEN] != digest:
            raise Refused("TableCorrupt", f"the table of group {group} is damaged or was altered")
    if file_root(tree_key, digests, rows[-1], size) != file.root:
        raise Refused("RootCorrupt", "the root is not that of what is in the file")


def open_sealed(sealed, master):
    """The plaintext of a whole sealed file."""
    if not sealed:
        return b""
    header = read_header(sealed, master)
    reader = ChunkReader(header)
    file = restored(sealed, header.journal_mark, reader)
    if file is None:
        return b""

    last, final_len = reader.final_chunk(len(file.sealed))
    plaintext, tags = bytearray(), []
    for index in range(last + 1):
        is_final = index == last
        chunk_len = final_len + reader.overhead if is_final else reader.full_len
        chunk = cut(file.sealed, reader.chunk_at(index), chunk_len)
        plaintext += reader.open(chunk, index, is_final)
        tags.append(chunk[-TAG_LEN:])
    check_tree(header.tree_key, file, reader, tags, len(plaintext))
    return bytes(plaintext)


def read_passphrase(path):
    """The first line of a file; None where there is no file."""
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.readline().removesuffix(b"\n")


def key_for(sealed, keys):
    """The key that the header names, or the first one for what names none of them."""
    return next((key for key in keys if key_id(key) == sealed[16:32]), keys[0])


def check_good(vector):
    """What is wrong with our reading of a file that must open; None if nothing."""
    master, sealed = bytes.fromhex(vector["key"]), bytes.fromhex(vector["sealed"])
    header = read_header(sealed, master)
    got = {
        "key_id": derive(master, 16, None, b"sealed key id").hex(),
        "cipher": CIPHERS[header.cipher][0],
        "chunk_size": header.chunk_size,
        "salt": sealed[32:64].hex(),
        "header_key": header.header_key.hex(),
        "content_key": header.content_key.hex(),
        "tree_key": header.tree_key.hex(),
        "plaintext": open_sealed(sealed, master).hex(),
    }
    wrong = [field for field, value in got.items() if vector[field] != value]
    return f"differs in {', '.join(wrong)}" if wrong else None


def check_refused(vector):
    """What is wrong with our reading of a file that must be refused; None if nothing."""
    try:
        open_sealed(bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["key"]))
    except Refused as refused:
        if refused.kind == vector["error"]:
            return None
        return f"refused as {refused.kind}, not {vector['error']}"
    return "opened"


def self_test(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    for check, kind in ((check_good, "files"), (check_refused, "refused")):
        for vector in vectors[kind]:
            try:
                problem = check(vector)
            except Refused as refused:
                problem = str(refused)
            if problem:
                raise Refused("SelfTest", f"{vector['name']}: {problem}")
    print(f"{len(vectors['files'])} files opened, {len(vectors['refused'])} refused, as they must")


def write_whole(path, data):
    """Writes the file whole or not at all."""
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def main():
    parser = argparse.ArgumentParser(description="Reads sealed files (docs/format.md).")
    parser.add_argument("file", nargs="?", help="the sealed file")
    parser.add_argument("--key", help="the key file: raw, wrapped or a ring")
    parser.add_argument("--passphrase-file", help="what has the passphrase in its first line")
    parser.add_argument("-o", "--output", default="-", help="where the plaintext goes")
    parser.add_argument("--self-test", metavar="VECTORS", help="check against test vectors")
    options = parser.parse_args()
    if not options.self_test and not (options.key and options.file):
        parser.error("--key and FILE are needed")

    subject = options.self_test or options.key
    try:
        if options.self_test:
            self_test(options.self_test)
        else:
            keys = read_keys(options.key, read_passphrase(options.passphrase_file))
            subject = options.file
            with open(options.file, "rb") as file:
                sealed = file.read()
            plaintext = open_sealed(sealed, key_for(sealed, keys))
            subject = options.output
            write_whole(options.output, plaintext)
    except Refused as refused:
        sys.exit(f"{subject}: {refused}")
    except (OSError, ValueError) as error:
        sys.exit(f"{subject}: {getattr(error, 'strerror', None) or error}")


if __name__ == "__main__":
    main()
