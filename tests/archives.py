"""Makes archives, databases, images and executables, none of which redaction may change.

    archives.py FOLDER

Each holds, or is made of, text that is full of what looks secret: addresses, card numbers and the
like. The standard library alone writes them.
"""

import bz2
import gzip
import io
import lzma
import pickle
import random
import sqlite3
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

LINES = 40_000


def log(rng):
    """Lines that each have something that goes by its looks."""
    lines = []
    for number in range(LINES):
        name = "".join(rng.choice("abcdefghij") for _ in range(8))
        what = [
            f"mail from {name}@example.org",
            f"peer 2001:db8::{rng.randrange(1 << 16):x}:{rng.randrange(1 << 16):x}",
            f"host 10.{rng.randrange(256)}.{rng.randrange(256)}.7",
            "card 4111 1111 1111 1111",
            f"password={rng.randbytes(9).hex()}",
            "call +49 30 1234567",
        ]
        lines.append(f"{number} {rng.choice(what)} {rng.randbytes(12).hex()}\n")
    return "".join(lines).encode()


def tar(text, mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        entry = tarfile.TarInfo("jane.doe@example.org.log")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return out.getvalue()


def zipped(text, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.log", text)
    return out.getvalue()


def png(rng, side):
    """An image of noise."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    rows = b"".join(b"\0" + rng.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def database(folder, text, rng):
    path = folder / "rows.sqlite"
    base = sqlite3.connect(path)
    base.execute("create table rows (line text, noise blob)")
    rows = ((line, rng.randbytes(64)) for line in text.decode().splitlines()[: LINES // 4])
    base.executemany("insert into rows values (?, ?)", rows)
    base.execute("create index lines on rows (line)")
    base.commit()
    base.close()


def main():
    folder = Path(sys.argv[1])
    rng = random.Random(1)
    text = log(rng)
    made = {
        "a.gz": gzip.compress(text),
        "a.bz2": bz2.compress(text),
        "a.xz": lzma.compress(text, preset=1),
        "a.lzma": lzma.compress(text, format=lzma.FORMAT_ALONE, preset=1),
        "a.zlib": zlib.compress(text),
        "a.tar": tar(text, "w"),
        "a.tgz": tar(text, "w:gz"),
        "stored.zip": zipped(text, zipfile.ZIP_STORED),
        "a.zip": zipped(text, zipfile.ZIP_DEFLATED),
        "noise.png": png(rng, 700),
        "a.pickle": pickle.dumps(text.decode().splitlines(), protocol=4),
        "python": Path(sys.executable).resolve().read_bytes()[: 8 << 20],
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    database(folder, text, rng)


main()
