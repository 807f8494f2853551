#!/usr/bin/env python3
"""Reads sealed files. Written from docs/format.md alone, sharing nothing with the Rust code, so
that the two check each other.

    sealed_reader.py --key K FILE [-o OUT]     writes the plaintext to OUT or standard output;
                                               --passphrase-file F for a wrapped key
    sealed_reader.py --self-test VECTORS.json  checks this reader against the test vectors

Exits with 1 and one line on standard error on any failure. Needs the packages in requirements.txt.
"""

import argparse
import hmac
import json
import os
import sys
import tempfile

from Crypto.Cipher import ChaCha20_Poly1305
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from key_file_reader import Refused, key_id, read_keys

MAGIC = b"\xa7sealed\n"
VERSION = 2
HEADER_LEN = 96
ENTRY_LEN = 64
TAG_LEN = 16


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


def read_header(sealed, master):
    """Section 7, "Reading a header": cipher, chunk size, header key, content key, journal mark."""
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
    content_key = derive(master, 32, salt, b"sealed file content key" + bound)
    journal_mark = derive(master, 16, salt, b"sealed file journal mark" + bound)
    return cipher, 1 << log2_chunk, header_key, content_key, journal_mark


class ChunkReader:
    """Opens single chunks of one file."""

    def __init__(self, cipher, content_key):
        _, self.nonce_len, self.open_chunk = CIPHERS[cipher]
        self.content_key = content_key
        self.overhead = self.nonce_len + TAG_LEN

    def open(self, chunk, index, is_final):
        associated_data = index.to_bytes(8, "little") + bytes([is_final])
        nonce, tag = chunk[: self.nonce_len], chunk[-TAG_LEN:]
        ciphertext = chunk[self.nonce_len : -TAG_LEN]
        try:
            return self.open_chunk(self.content_key, nonce, ciphertext, tag, associated_data)
        except ValueError:
            raise Refused("ChunkCorrupt", f"chunk {index} is damaged or was altered") from None


def restored(sealed, journal_mark, chunk_size, reader):
    """Section 6: the file as its journal restores it."""
    entry = sealed[HEADER_LEN : HEADER_LEN + ENTRY_LEN]
    if len(entry) < ENTRY_LEN or entry[48:] != journal_mark:
        return sealed
    index, kind = int.from_bytes(entry[:8], "little"), entry[8]
    final_len = int.from_bytes(entry[12:16], "little")
    if kind == 1:
        return b""
    if kind == 2:
        chunk_len = chunk_size + reader.overhead
    elif kind == 3 and final_len < chunk_size:
        chunk_len = final_len + reader.overhead
    else:
        return sealed
    chunk = sealed[HEADER_LEN + ENTRY_LEN :][:chunk_len]
    full_chunk_len = chunk_size + reader.overhead
    at = HEADER_LEN + ENTRY_LEN + full_chunk_len + index * full_chunk_len
    if len(chunk) < chunk_len or at + chunk_len > len(sealed) or chunk[-TAG_LEN:] != entry[16:32]:
        return sealed
    try:
        reader.open(chunk, index, kind == 3)
    except Refused:
        return sealed
    rest = b"" if kind == 3 else sealed[at + chunk_len :]
    return sealed[:at] + chunk + rest


def open_sealed(sealed, master):
    """The plaintext of a whole sealed file."""
    if not sealed:
        return b""
    cipher, chunk_size, _, content_key, journal_mark = read_header(sealed, master)
    reader = ChunkReader(cipher, content_key)
    sealed = restored(sealed, journal_mark, chunk_size, reader)
    if not sealed:
        return b""
    full_chunk_len = chunk_size + reader.overhead
    at = HEADER_LEN + ENTRY_LEN + full_chunk_len
    full_chunks, final_len = divmod(len(sealed) - at, full_chunk_len)
    if len(sealed) < at or final_len < reader.overhead:
        raise Refused("Truncated", "cut short: the end of the file is missing")

    plaintext = bytearray()
    for index in range(full_chunks + 1):
        is_final = index == full_chunks
        chunk = sealed[at : at + (final_len if is_final else full_chunk_len)]
        at += len(chunk)
        plaintext += reader.open(chunk, index, is_final)
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
    cipher, chunk_size, header_key, content_key, _ = read_header(sealed, master)
    got = {
        "key_id": derive(master, 16, None, b"sealed key id").hex(),
        "cipher": CIPHERS[cipher][0],
        "chunk_size": chunk_size,
        "salt": sealed[32:64].hex(),
        "header_key": header_key.hex(),
        "content_key": content_key.hex(),
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
