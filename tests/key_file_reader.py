#!/usr/bin/env python3
"""Reads key files. Written from docs/key-files.md alone, sharing nothing with the Rust code, so that
the two check each other. `sealed_reader.py` gets its keys through this.

    key_file_reader.py VECTORS.json  checks this reader against the test vectors

Exits with 1 and one line on standard error on any failure. Needs the packages in requirements.txt.
"""

import json
import os
import sys

from Crypto.Cipher import ChaCha20_Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_LEN = 32
MOST_BYTES = 65536
MOST_KEYS = 256

WRAPPED_MAGIC = b"\xa7keybox\n"
WRAPPED_VERSION = 1
WRAPPED_LEN = 128

RING_START = b"sealed key ring, version "
RING_FIRST_LINE = b"sealed key ring, version 1: one key file a line"


class Refused(Exception):
    """What is no usable key file. `kind` is the name the test vectors use."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def key_id(master):
    return HKDF(algorithm=SHA256(), length=16, salt=None, info=b"sealed key id").derive(master)


def number(contents, at):
    return int.from_bytes(contents[at : at + 4], "little")


def unwrap(contents, passphrase):
    """Section 2, "Reading": the wrapping key and the master key."""
    if contents[8:9] not in (b"", bytes([WRAPPED_VERSION])):
        raise Refused("UnsupportedVersion", f"wrapped in unknown version {contents[8]}")
    if len(contents) != WRAPPED_LEN:
        raise Refused("WrongLength", f"a wrapped key file has {WRAPPED_LEN} bytes")
    if contents[9:11] != b"\x01\x01":
        raise Refused("UnknownAlgorithm", "wrapped with unknown algorithms")
    if contents[11] != 0:
        raise Refused("Damaged", "a reserved byte is not zero")
    memory, passes, lanes = (number(contents, at) for at in (12, 16, 20))
    if not (
        1 <= lanes <= 16
        and 1 << 13 <= memory <= 1 << 20
        and 1 << 15 <= memory * passes <= 1 << 22
    ):
        raise Refused("Cost", f"asks for {passes} passes over {memory} KiB in {lanes} lanes")
    wrapping_key = Argon2id(
        salt=contents[40:56], length=KEY_LEN, iterations=passes, lanes=lanes, memory_cost=memory
    ).derive(passphrase)
    cipher = ChaCha20_Poly1305.new(key=wrapping_key, nonce=contents[56:80])
    cipher.update(contents[:80])
    try:
        master = cipher.decrypt_and_verify(contents[80:112], contents[112:])
    except ValueError:
        raise Refused("Refused", "wrong passphrase, or the file was altered") from None
    if key_id(master) != contents[24:40]:
        raise Refused("Refused", "wrong passphrase, or the file was altered")
    return wrapping_key, master


def ring_names(contents):
    """Section 3: the paths in a ring."""
    lines = contents.split(b"\n")
    if lines[0].removesuffix(b"\r") != RING_FIRST_LINE:
        raise Refused("UnsupportedVersion", "a key ring of unknown version")
    try:
        names = [line.decode().strip(" \t\r") for line in lines[1:]]
    except UnicodeDecodeError:
        raise Refused("BadRing", "a key ring that is not text") from None
    names = [name for name in names if name and not name.startswith("#")]
    if not 1 <= len(names) <= MOST_KEYS:
        raise Refused("BadRing", f"a key ring of {len(names)} keys")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for name in names for c in name):
        raise Refused("BadRing", "a control character in a path")
    return names


def kind(contents):
    """Section 1: raw, wrapped or ring."""
    if len(contents) == KEY_LEN:
        return "raw"
    if contents.startswith(WRAPPED_MAGIC):
        return "wrapped"
    if contents.startswith(RING_START):
        return "ring"
    raise Refused("NoKeyFile", "no key file")


def read_keys(path, passphrase=None, in_ring=False):
    """All master keys that a key file names, the one that seals first."""
    with open(path, "rb") as file:
        contents = file.read(MOST_BYTES + 1)
    if len(contents) > MOST_BYTES:
        raise Refused("NoKeyFile", "too long for a key file")
    match kind(contents):
        case "raw":
            return [contents]
        case "wrapped":
            if passphrase is None:
                raise Refused("Refused", "no passphrase was given")
            return [unwrap(contents, passphrase)[1]]
        case _ if in_ring:
            raise Refused("BadRing", "a ring in a ring")
        case _:
            names = ring_names(contents)
            paths = [os.path.join(os.path.dirname(path), name) for name in names]
            return [read_keys(path, passphrase, in_ring=True)[0] for path in paths]


def read_any(contents, passphrase):
    """What a key file gives, of whatever kind."""
    match kind(contents):
        case "raw":
            return contents
        case "wrapped":
            return unwrap(contents, passphrase)
        case _:
            return ring_names(contents)


def check(vectors):
    """What is wrong with our reading of the vectors, a line each."""
    for vector in vectors["wrapped"]:
        passphrase = bytes.fromhex(vector["passphrase"])
        wrapping_key, master = unwrap(bytes.fromhex(vector["file"]), passphrase)
        got = (wrapping_key.hex(), master.hex(), key_id(master).hex())
        if got != (vector["wrapping_key"], vector["key"], vector["key_id"]):
            yield f"{vector['name']}: other keys"
    for vector in vectors["rings"]:
        if ring_names(bytes.fromhex(vector["file"])) != vector["names"]:
            yield f"{vector['name']}: other names"
    for vector in vectors["refused"]:
        try:
            read_any(bytes.fromhex(vector["file"]), bytes.fromhex(vector["passphrase"]))
            yield f"{vector['name']}: accepted"
        except Refused as refused:
            if refused.kind != vector["error"]:
                yield f"{vector['name']}: {refused.kind}, not {vector['error']}"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    problems = list(check(vectors))
    if problems:
        sys.exit("\n".join(problems))
    counts = ", ".join(f"{len(vectors[kind])} {kind}" for kind in ("wrapped", "rings", "refused"))
    print(f"as they must: {counts}")


if __name__ == "__main__":
    main()
