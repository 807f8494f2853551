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
from bisect import bisect_left
from typing import NamedTuple

from Crypto.Cipher import ChaCha20_Poly1305
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from key_file_reader import Refused, key_id, read_keys

MAGIC = b"\xa7sealed\n"
VERSION = 4
HEADER_LEN = 96
SECTOR_LEN = 512
SUPERBLOCK_LEN = 128
MARK_LEN = 32
# Of epochs with an even number, and with an odd one.
SUPERBLOCK_AT = (512, 65536)
MARK_AT = (1024, 66048)
LOG_AT = (1536, 66560)
DATA_START = 131072

NONCE_LEN = 24
TAG_LEN = 16
OVERHEAD = NONCE_LEN + TAG_LEN
FAN_OUT = 256
SLOT_LEN = 4096
NODE_LEN = 2 * SLOT_LEN
MOST_LEVELS = 8
MOST_BYTES = 1 << 63

RECORD_FIXED_LEN = 32
RECORD_MOST_LEN = 1 << 24
PART_FIXED_LEN = 24
MAC_LEN = 16
HOLE = bytes(TAG_LEN)
NOTHING = object()
IN_PLACE, IN_LOG, HOLES, APPENDED = 1, 2, 3, 4

# Of a piece of plaintext, the most bytes that the vectors show.
SHOWN = 256


def number(data, at, length=8):
    return int.from_bytes(data[at : at + length], "little")


def same(one, other):
    return hmac.compare_digest(one, other)


def derive(master, length, salt, info):
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(master)


def mac(tree_key, what, about, message):
    """Section 4, the last paragraph."""
    salt = about.to_bytes(8, "little")
    return hashlib.blake2s(message, digest_size=16, key=tree_key, salt=salt, person=what).digest()


def open_xchacha20poly1305(key, nonce, ciphertext, tag, associated_data):
    cipher = ChaCha20_Poly1305.new(key=key, nonce=nonce)
    cipher.update(associated_data)
    return cipher.decrypt_and_verify(ciphertext, tag)  # ValueError on a bad tag


def open_xaes_256_gcm(key, nonce, ciphertext, tag, associated_data):
    chunk_key = b""
    for counter in (1, 2):
        cmac = CMAC(AES(key))
        cmac.update(bytes([0, counter, ord("X"), 0]) + nonce[:12])
        chunk_key += cmac.finalize()
    try:
        return AESGCM(chunk_key).decrypt(nonce[12:], ciphertext + tag, associated_data)
    except InvalidTag as error:
        raise ValueError from error


# Header number: (name, how to open a chunk).
CIPHERS = {
    1: ("xchacha20poly1305", open_xchacha20poly1305),
    2: ("xaes-256-gcm", open_xaes_256_gcm),
}


class Disk:
    """What a sealed file lies on. Behind its end there are zeros."""

    def __init__(self, file):
        self.file = file
        self.length = file.seek(0, os.SEEK_END)

    def read(self, at, length):
        if at >= MOST_BYTES:
            return bytes(length)
        self.file.seek(at)
        return self.file.read(length).ljust(length, b"\0")


class Image:
    """A disk as the vectors have it: a length, and what is not zeros, or not as in another one."""

    def __init__(self, image, images):
        self.length = image["length"]
        self.other = Image(images[image["like"]], images) if "like" in image else None
        self.parts = [(part["at"], bytes.fromhex(part["bytes"])) for part in image["parts"]]

    def read(self, at, length):
        data = bytearray(self.other.read(at, length) if self.other else length)
        for start, part in self.parts:
            first, last = max(start, at), min(start + len(part), at + length)
            if first < last:
                data[first - at : last - at] = part[first - start : last - start]
        within = max(min(self.length - at, length), 0)
        return bytes(data[:within]).ljust(length, b"\0")


def head_of(disk):
    """The first bytes, as many as there are up to a header."""
    return disk.read(0, min(disk.length, HEADER_LEN))


class Header(NamedTuple):
    """What the header of a file tells, and the keys that come from it."""

    cipher: int
    chunk_size: int
    header_key: bytes
    content_key: bytes
    tree_key: bytes


def read_header(head, master):
    """Section 9, steps 2 to 7."""
    if head[:8] != MAGIC[: len(head)]:
        raise Refused("NotSealed", "not a sealed file")
    if len(head) > 8 and head[8] != VERSION:
        raise Refused("UnsupportedVersion", f"sealed in unknown format version {head[8]}")
    if len(head) < HEADER_LEN:
        raise Refused("Truncated", "cut short inside the header")
    cipher, log2_chunk = head[9], head[10]
    if cipher not in CIPHERS:
        raise Refused("UnknownCipher", f"sealed with unknown cipher number {cipher}")
    if not 9 <= log2_chunk <= 16:
        raise Refused("UnsupportedChunkSize", f"impossible chunk size 2^{log2_chunk}")
    if any(head[11:16]):
        raise Refused("HeaderCorrupt", "the header is damaged or was altered")
    if head[16:32] != key_id(master):
        raise Refused("WrongKey", f"wrong key: the file names key {head[16:32].hex()}")

    salt, bound = head[32:64], head[8:11]
    header_key = derive(master, 32, salt, b"sealed file header key" + bound)
    if not same(hmac.digest(header_key, head[:64], "sha256"), head[64:96]):
        raise Refused("HeaderCorrupt", "the header is damaged or was altered")
    return Header(
        cipher,
        1 << log2_chunk,
        header_key,
        content_key=derive(master, 32, salt, b"sealed file content key" + bound),
        tree_key=derive(master, 32, salt, b"sealed file tree key" + bound),
    )


class Layout:
    """Section 8: where things are in a file with chunks of that size."""

    def __init__(self, chunk_size):
        self.chunk_size = chunk_size
        self.sealed_len = chunk_size + OVERHEAD
        self.group_len = NODE_LEN + FAN_OUT * self.sealed_len

    def chunks(self, size):
        return -(-size // self.chunk_size)

    def chunk_len(self, index, size):
        return min(max(size - index * self.chunk_size, 0), self.chunk_size)

    def leaf_at(self, group):
        inner = sum(
            group // FAN_OUT**level + (group >= FAN_OUT ** (level - 1))
            for level in range(1, MOST_LEVELS)
        )
        return DATA_START + group * self.group_len + NODE_LEN * inner

    def node_at(self, level, index):
        if level == 0:
            return self.leaf_at(index)
        before = index * FAN_OUT**level if index else FAN_OUT ** (level - 1)
        return self.leaf_at(before) - NODE_LEN * level

    def chunk_at(self, index):
        group, in_group = divmod(index, FAN_OUT)
        return self.leaf_at(group) + NODE_LEN + in_group * self.sealed_len


class Superblock(NamedTuple):
    """Section 6, "Superblock"."""

    epoch: int
    counter: int
    size: int
    root: bytes
    mac: bytes


def read_superblock(disk, tree_key, slot):
    """The superblock of a slot; None where none was ever written."""
    sector = disk.read(SUPERBLOCK_AT[slot], SECTOR_LEN)
    if not any(sector):
        return None
    data = sector[:SUPERBLOCK_LEN]
    epoch = number(data, 0)
    authentic = same(mac(tree_key, b"superblk", epoch, data[:112]), data[112:])
    if not authentic or any(data[72:112]) or epoch % 2 != slot:
        raise Refused("SuperblockCorrupt", f"superblock {slot} is damaged or was altered")
    return Superblock(epoch, number(data, 8), number(data, 16), data[24:40], data[112:])


class Part(NamedTuple):
    """What a record says of chunks that follow one upon the other."""

    first: int
    count: int
    kind: int
    start: int
    last_len: int
    tags: list


class Record(NamedTuple):
    """Section 7."""

    at: int
    length: int
    counter: int
    size: int
    next: int
    parts: list
    payload_at: int
    mac: bytes


class Stored(NamedTuple):
    """Where a chunk is, the bytes of plaintext, its tag, and the record that names it; where in the chunk
    it begins, for what was appended, and what was appended to it."""

    at: int
    length: int
    tag: bytes
    record: int = 0
    start: int = 0
    appended: tuple = ()


def record_parts(data, count, layout):
    """The parts of a record, and where they end; None for what no writer makes."""
    parts, at = [], RECORD_FIXED_LEN
    for _ in range(count):
        first, chunks, kind = number(data, at), number(data, at + 8), number(data, at + 16, 1)
        start, last_len = number(data, at + 18, 2), number(data, at + 20, 4)
        expected = {IN_PLACE: (layout.chunk_size,) * 2, IN_LOG: (1, layout.chunk_size), HOLES: (0, 0)}
        if kind == APPENDED and start and chunks == 1:
            expected[APPENDED] = (1, layout.chunk_size - start - 1)
        elif start:
            return None
        least, most = expected.get(kind, (1, 0))
        at += PART_FIXED_LEN
        tags_len = 0 if kind == HOLES else chunks * TAG_LEN
        if not least <= last_len <= most or not chunks or data[at - 7]:
            return None
        if at + tags_len > len(data):
            return None
        tags = [data[start : start + TAG_LEN] for start in range(at, at + tags_len, TAG_LEN)]
        at += tags_len
        parts.append(Part(first, chunks, kind, start, last_len, tags))
    return parts, at


class SealedFile:
    """An opened file: superblock, log and tree."""

    def __init__(self, disk, header, superblock):
        self.disk = disk
        self.tree_key, self.content_key = header.tree_key, header.content_key
        self.open_aead = CIPHERS[header.cipher][1]
        self.layout = Layout(header.chunk_size)
        self.superblock = superblock
        self.size = superblock.size
        # Of the chunks at the checkpoint, the first ones, which were not cut off since.
        self.valid = self.layout.chunks(superblock.size)
        # What the log has: a Stored for each chunk; None for a hole.
        self.changed = {}
        self.nodes = {}
        self.replay()

    # The log.

    def durable_counter(self):
        """What the mark says of the log; 0 where it says nothing."""
        epoch = self.superblock.epoch
        mark = self.disk.read(MARK_AT[epoch % 2], MARK_LEN)
        expected = mac(self.tree_key, b"log mark", epoch, self.superblock.mac + mark[:16])
        return number(mark, 0) if same(expected, mark[16:]) else 0

    def replay(self):
        """Section 7, "Which records count"."""
        durable = self.durable_counter()
        at, counter = LOG_AT[self.superblock.epoch % 2], self.superblock.counter
        chain = self.superblock.mac
        undo = []
        while record := self.read_record(at, chain):
            if record.counter != counter + 1:
                break
            undo.append(self.apply(record))
            at, counter = record.next or at + record.length, record.counter
            chain = record.mac
        # Of what the log names now, what is not there: back to where all of it is.
        missing = {index for index in self.changed if self.is_missing(index, durable)}
        while missing:
            self.size, self.valid, before = undo.pop()
            counter -= 1
            for index, stored in before.items():
                missing.discard(index)
                if stored == NOTHING:
                    self.changed.pop(index, None)
                else:
                    self.changed[index] = stored
                    if self.is_missing(index, durable):
                        missing.add(index)
        self.counter = counter
        if counter < durable:
            record = counter + 1 - self.superblock.counter
            raise Refused("LogCorrupt", f"record {record} of the log is damaged or was put back")

    def is_missing(self, index, durable):
        """Whether a chunk that the log names did not reach the disk, as may be."""
        stored = self.changed[index]
        if stored is None:
            return False
        try:
            for piece in (stored, *stored.appended):
                if piece.record > durable:
                    self.open_chunk(index, piece)
        except Refused:
            return True
        return False

    def read_record(self, at, chain):
        """The record at an offset; None where the chain breaks."""
        fixed = self.disk.read(at, RECORD_FIXED_LEN)
        length, parts = number(fixed, 0, 4), number(fixed, 4, 4)
        if not RECORD_FIXED_LEN + parts * PART_FIXED_LEN + MAC_LEN <= length <= RECORD_MOST_LEN:
            return None
        if at + length > self.disk.length:
            return None
        data = self.disk.read(at, length)
        before_mac, found = data[:-MAC_LEN], data[-MAC_LEN:]
        parsed = record_parts(before_mac, parts, self.layout)
        if parsed is None:
            return None
        parts, payload = parsed
        if not same(mac(self.tree_key, b"log recd", at, chain + data[:payload]), found):
            return None
        counter, size, after = number(data, 8), number(data, 16), number(data, 24)
        record = Record(at, length, counter, size, after, parts, at + payload, found)
        payload_len = sum(
            stored.length + OVERHEAD
            for kind, _, stored in self.named(record)
            if kind != IN_PLACE
        )
        return record if payload + payload_len + MAC_LEN == length else None

    def named(self, record):
        """The chunks that a record names, but for holes: kind, index, where it is."""
        payload = record.payload_at
        for part in record.parts:
            for i, tag in enumerate(part.tags):
                index = part.first + i
                length = part.last_len if i == part.count - 1 else self.layout.chunk_size
                at = self.layout.chunk_at(index) if part.kind == IN_PLACE else payload
                if part.kind != IN_PLACE:
                    payload += length + OVERHEAD
                yield part.kind, index, Stored(at, length, tag, record.counter, part.start)

    def apply(self, record):
        """Takes a record. Answers what undoes it: size, chunks that are valid, and what was known
        of chunks."""
        chunks = self.layout.chunks(record.size)
        undo = self.size, self.valid, {}
        before = undo[2]

        def change(index, stored):
            before.setdefault(index, self.changed.get(index, NOTHING))
            if stored == NOTHING:
                self.changed.pop(index, None)
            else:
                self.changed[index] = stored

        if record.size < self.size:
            self.valid = min(self.valid, chunks)
            for index in [index for index in self.changed if index >= chunks]:
                change(index, NOTHING)
        self.size = record.size
        for part in record.parts:
            if part.kind == HOLES:
                known = max(self.valid, 1 + max(self.changed, default=0))
                for index in range(part.first, min(part.first + part.count, known)):
                    change(index, None)
        for kind, index, stored in self.named(record):
            if kind == APPENDED:
                whole = self.changed.get(index) or self.at_checkpoint(index)
                stored = whole._replace(appended=(*whole.appended, stored))
            if index < chunks:
                change(index, stored)
        return undo

    # The tree.

    def entry(self, level, index):
        """What the node above says of a node; HOLE where there are only holes."""
        if FAN_OUT ** (level + 1) >= self.layout.chunks(self.superblock.size):
            return self.superblock.root
        above = self.node(level + 1, index // FAN_OUT)
        return above[index % FAN_OUT] if above else HOLE

    def node(self, level, index):
        """The entries of a node; None where there are only holes below it."""
        if (level, index) not in self.nodes:
            self.nodes = {at: node for at, node in self.nodes.items() if at[0] > level}
            self.nodes[level, index] = self.read_node(level, index)
        return self.nodes[level, index]

    def read_node(self, level, index):
        entry = self.entry(level, index)
        if entry == HOLE:
            return None
        below = -(-self.layout.chunks(self.superblock.size) // FAN_OUT**level)
        count = min(below - index * FAN_OUT, FAN_OUT)
        at = self.layout.node_at(level, index) + (entry[-1] & 1) * SLOT_LEN
        data = self.disk.read(at, count * TAG_LEN)
        named = mac(self.tree_key, f"tree lv{level}".encode(), index, data)
        if not same(named[:-1] + bytes([named[-1] & 0xFE | entry[-1] & 1]), entry):
            span = FAN_OUT ** (level + 1)
            first, last = index * span, (index + 1) * span - 1
            raise Refused("TreeCorrupt", f"the tags of chunks {first} to {last} are damaged")
        return [data[start : start + TAG_LEN] for start in range(0, len(data), TAG_LEN)]

    def holes_from(self, index):
        """How many chunks from `index` on are surely holes, at the checkpoint."""
        level = 0
        while self.entry(level, index // FAN_OUT ** (level + 1)) == HOLE:
            level += 1
            if FAN_OUT**level >= self.layout.chunks(self.superblock.size):
                break
        if level:
            span = FAN_OUT**level
            return span - index % span
        return 1 if self.node(0, index // FAN_OUT)[index % FAN_OUT] == HOLE else 0

    # Chunks.

    def open_chunk(self, index, stored):
        """Section 5, and section 9, step 9: a chunk as a whole, or what was appended to it."""
        named = stored.tag or self.node(0, index // FAN_OUT)[index % FAN_OUT]
        chunk = self.disk.read(stored.at, stored.length + OVERHEAD)
        is_final = stored.length < self.layout.chunk_size
        associated_data = index.to_bytes(8, "little") + bytes([is_final, 0])
        associated_data += stored.start.to_bytes(2, "little") + bytes(52)
        nonce, tag = chunk[:NONCE_LEN], chunk[-TAG_LEN:]
        ciphertext = chunk[NONCE_LEN:-TAG_LEN]
        try:
            plaintext = self.open_aead(self.content_key, nonce, ciphertext, tag, associated_data)
        except ValueError:
            raise Refused("ChunkCorrupt", f"chunk {index} is damaged or was altered") from None
        if not same(tag, named):
            raise Refused("Stale", f"chunk {index} is not the one that was written last")
        return plaintext

    def chunk(self, index):
        """The plaintext of a chunk that is no hole."""
        stored = self.changed.get(index) or self.at_checkpoint(index)
        pieces = (stored, *stored.appended)
        if sum(piece.length for piece in pieces) != self.layout.chunk_len(index, self.size):
            raise Refused("ChunkCorrupt", f"chunk {index} has another length than it must have")
        plaintext = b""
        for piece in pieces:
            if piece.start != len(plaintext):
                raise Refused("ChunkCorrupt", f"chunk {index} lacks some of what was appended")
            plaintext += self.open_chunk(index, piece)
        return plaintext

    def at_checkpoint(self, index):
        """Where a chunk was at the checkpoint. What its tag is only the tree tells."""
        length = self.layout.chunk_len(index, self.superblock.size)
        return Stored(self.layout.chunk_at(index), length, None)

    def pieces(self):
        """The plaintext in order: bytes, or how many zeros a hole stands for."""
        index, end = 0, self.layout.chunks(self.size)
        changed = sorted(self.changed)
        while index < end:
            if index in self.changed:
                holes = 1 if self.changed[index] is None else 0
            else:
                at = bisect_left(changed, index)
                until = changed[at] if at < len(changed) else end
                holes = until - index
                if index < self.valid:
                    holes = min(holes, self.valid - index, self.holes_from(index))
            if holes:
                start = index * self.layout.chunk_size
                index = min(index + holes, end)
                yield min(index * self.layout.chunk_size, self.size) - start
            else:
                yield self.chunk(index)
                index += 1


def open_sealed(disk, master):
    """Section 9, steps 1 to 8; None for an empty file of which nothing tells."""
    head = head_of(disk)
    if not any(disk.read(0, SECTOR_LEN)):
        if any(disk.read(SUPERBLOCK_AT[1], SECTOR_LEN)) or any(disk.read(MARK_AT[0], MARK_LEN)):
            raise Refused("HeaderCorrupt", "the header is damaged or was altered")
        return None
    header = read_header(head, master)
    found = [read_superblock(disk, header.tree_key, slot) for slot in (0, 1)]
    newest = max(filter(None, found), default=None)
    if newest is None and disk.length < SECTOR_LEN:
        raise Refused("Truncated", "cut short behind the header")
    epochs = [superblock.epoch if superblock else None for superblock in found]
    if newest and epochs != [0, None] and (None in epochs or abs(epochs[0] - epochs[1]) != 1):
        raise Refused("SuperblockCorrupt", "a superblock was taken away or put back")
    return SealedFile(disk, header, newest) if newest else None


def pieces_of(disk, master):
    """The plaintext of a whole file, as `SealedFile.pieces` has it."""
    file = open_sealed(disk, master)
    if file:
        yield from file.pieces()


def runs_of(pieces):
    """What `pieces_of` gives, with neighbours of the same kind put together."""
    runs = []
    for piece in pieces:
        if runs and type(runs[-1]) is type(piece):
            runs[-1] += piece
        else:
            runs.append(piece)
    return runs


def read_passphrase(path):
    """The first line of a file; None where there is no file."""
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.readline().removesuffix(b"\n")


def key_for(head, keys):
    """The key that the header names, or the first one for what names none of them."""
    return next((key for key in keys if key_id(key) == head[16:32]), keys[0])


def shown(run):
    """A piece of plaintext as the vectors have it."""
    if isinstance(run, int):
        return {"zeros": run}
    if len(run) <= SHOWN:
        return {"bytes": run.hex()}
    return {"long": {"length": len(run), "sha256": hashlib.sha256(run).hexdigest()}}


def check_good(vector, disk):
    """What is wrong with our reading of a file that must open; None if nothing."""
    master = bytes.fromhex(vector["key"])
    got = {"runs": [shown(run) for run in runs_of(pieces_of(disk, master))]}
    if vector["header"]:
        header = read_header(head_of(disk), master)
        got["header"] = {
            "key_id": key_id(master).hex(),
            "cipher": CIPHERS[header.cipher][0],
            "chunk_size": header.chunk_size,
            "salt": disk.read(32, 32).hex(),
            "header_key": header.header_key.hex(),
            "content_key": header.content_key.hex(),
            "tree_key": header.tree_key.hex(),
        }
    file = open_sealed(disk, master)
    got["counter"] = file.counter if file else 0
    wrong = [field for field, value in got.items() if vector[field] != value]
    return f"differs in {', '.join(wrong)}" if wrong else None


def check_refused(vector, disk):
    """What is wrong with our reading of a file that must be refused; None if nothing."""
    try:
        for _ in pieces_of(disk, bytes.fromhex(vector["key"])):
            pass
    except Refused as refused:
        if refused.kind == vector["error"]:
            return None
        return f"refused as {refused.kind}, not {vector['error']}"
    return "opened"


def self_test(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    images = {v["name"]: v["sealed"] for kind in ("files", "refused") for v in vectors[kind]}
    for check, kind in ((check_good, "files"), (check_refused, "refused")):
        for vector in vectors[kind]:
            try:
                problem = check(vector, Image(vector["sealed"], images))
            except Refused as refused:
                problem = str(refused)
            if problem:
                raise Refused("SelfTest", f"{vector['name']}: {problem}")
    print(f"{len(vectors['files'])} files opened, {len(vectors['refused'])} refused, as they must")


def write_pieces(file, pieces):
    """Writes plaintext, holes as zeros."""
    for piece in pieces:
        if isinstance(piece, bytes):
            file.write(piece)
        while isinstance(piece, int) and piece > 0:
            piece -= file.write(bytes(min(piece, 1 << 20)))


def write_whole(path, pieces):
    """Writes the file whole or not at all, with its holes."""
    if path == "-":
        write_pieces(sys.stdout.buffer, pieces)
        sys.stdout.buffer.flush()
        return
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", delete=False) as file:
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    file.write(piece)
                else:
                    file.seek(piece, os.SEEK_CUR)
            file.truncate()
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
                disk = Disk(file)
                write_whole(options.output, pieces_of(disk, key_for(head_of(disk), keys)))
    except Refused as refused:
        sys.exit(f"{subject}: {refused}")
    except (OSError, ValueError) as error:
        sys.exit(f"{subject}: {getattr(error, 'strerror', None) or error}")


if __name__ == "__main__":
    main()
