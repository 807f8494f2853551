#!/usr/bin/env python3
"""Cuts the power of a block device under crypt-grate, with a real file system on it.

    cuts.py --fs ext4|xfs|btrfs [--states N] [--seed S] [--folder DIR] [--ignore-flushes]

Programs in cages write to files on a loop device below which QEMU's storage daemon records every write and every flush
of the kernel, in the order in which they came. A state after a power cut is drawn from that: at a random
moment; all that came before the last flush is there, and of what came since everything, nothing, or some of the writes,
of their pages or of their sectors. The kernel mounts it, which brings the file system back, and then

- `keys verify` finds no damage;
- each file is as it was after one of its changes, at or after the last one that an fsync had returned for
  when the power was cut: a file that is appended to, one that is changed in all ways there are, one that is replaced by
  rename (tests/cages/src/bin/durable.rs), and an SQLite database, which SQLite checks in a cage.

Every so many states the programs go on from one that was drawn. With `--ignore-flushes` the disk
lies: states must turn out bad then, which shows that the search finds something.

Run by hand, as root, after `make build` and `make test GRATE=crypt-grate/SQLite`. Needs losetup, mount, mkfs and
qemu-storage-daemon. Ends with 1 if a state was bad.
"""

import argparse
import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIND = REPOSITORY / "target/release/lind-wasm"
KEYS = REPOSITORY / "target/release/keys"
PROGRAMS = {
    "grates": [REPOSITORY / "lindfs/grates/crypt-grate.cwasm"],
    "bin": [REPOSITORY / "lindfs/bin/durable.cwasm", REPOSITORY / "target/wasi/sqlite_load.cwasm"],
}
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
OPTIONS = {"ext4": "loop", "xfs": "loop,nouuid", "btrfs": "loop"}
GRATES = [[], ["--cipher", "xaes-256-gcm", "--chunk-size", "512"], ["--chunk-size", "65536"]]
IMAGE_LEN = 512 << 20
SECTOR = 512
# States from one recording, and recordings on one file system.
STATES = 25
RECORDINGS = 4
MASK = (1 << 64) - 1


class Bad(Exception):
    """A state that no power cut may leave."""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, **options).stdout


def wait(what):
    for _ in range(1000):
        if what():
            return
        time.sleep(0.01)
    sys.exit("the recorded disk does not come up, or does not go away")


# What the programs do, as in durable.rs.


def text(number, length):
    return (b"change %08d is kept\n" % number * (length // 24 + 1))[:length]


def dice(number):
    state = (number + 1) * 0x9E3779B97F4A7C15 & MASK

    def roll(sides):
        nonlocal state
        state ^= state << 13 & MASK
        state ^= state >> 7
        state ^= state << 17 & MASK
        return (state >> 11) % sides

    return roll


def changed(content, number):
    """The content after a change of the kind `change`."""
    roll = dice(number)
    size, what = len(content), roll(10)
    if what == 8:
        end = size // 3 if size > 300_000 else size * 3 // 4 + roll(size // 2 + 1)
        return content[:end].ljust(end, b"\0")
    if what < 3:
        offset, data = size, text(number, 100)
    elif what < 7:
        offset, data = roll(size // 4096 + 1) * 4096, text(number, 4096)
    elif what == 7:
        offset = roll(size + 1)
        data = text(number, roll(60_000) + 1)
    else:
        offset = roll(size + 1)
        length = roll(30_000) + 1
        data = bytes(min(length, size - offset))
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


class Contents:
    """Which content has which number."""

    def __init__(self, kind):
        self.kind = kind
        self.last = b""
        self.count = 0
        self.numbers = {hashlib.sha256(b"").digest(): -1}

    def up_to(self, count):
        for number in range(self.count, count):
            if self.kind == "append":
                self.last += text(number, 100)
            elif self.kind == "change":
                self.last = changed(self.last, number)
            else:
                self.last = text(number, dice(number)(100_000) + 1)
            self.numbers[hashlib.sha256(self.last).digest()] = number
        self.count = max(self.count, count)

    def number(self, content, least):
        """Of the last change that makes that content. A few later than the last one that was heard of may be there."""
        self.up_to(least + 100)
        return self.numbers.get(hashlib.sha256(content).digest())


KINDS = ["append", "change", "replace"]
CONTENTS = {kind: Contents(kind) for kind in KINDS}


# The disk and its record.


class Record:
    """What QEMU's blklogwrites has written down, in the format of dm-log-writes."""

    FLUSH, DISCARD = 1, 4

    def __init__(self, path):
        self.path = path

    def count(self):
        """How many entries there are now."""
        with open(self.path, "rb") as file:
            head = file.read(28)
        return struct.unpack_from("<Q", head, 16)[0] if len(head) == 28 else 0

    def entries(self, count):
        """The first entries: where, the bytes, and whether it is a flush."""
        with open(self.path, "rb") as file:
            at = SECTOR
            for _ in range(count):
                file.seek(at)
                sector, length, flags, _ = struct.unpack("<QQQQ", file.read(32))
                at += SECTOR
                data = b""
                if flags & self.DISCARD:
                    data = bytes(length * SECTOR)
                elif length:
                    file.seek(at)
                    data = file.read(length * SECTOR)
                    at += len(data)
                yield sector * SECTOR, data, bool(flags & self.FLUSH)


class Device:
    """A loop device over a recorded image."""

    def __init__(self, folder, image):
        self.record = Record(folder / "record")
        socket, export = folder / "socket", folder / "export"
        for path in [self.record.path, export]:
            path.write_bytes(b"")
        socket.unlink(missing_ok=True)
        self.daemons = [
            subprocess.Popen(
                [
                    "qemu-storage-daemon",
                    *["--blockdev", f"driver=file,node-name=image,filename={image}"],
                    *["--blockdev", f"driver=file,node-name=log,filename={self.record.path}"],
                    "--blockdev",
                    "driver=blklogwrites,node-name=disk,file=image,log=log"
                    f",log-sector-size={SECTOR},log-super-update-interval=1",
                    *["--nbd-server", f"addr.type=unix,addr.path={socket}"],
                    *["--export", "type=nbd,id=export,node-name=disk,name=disk,writable=on"],
                ]
            )
        ]
        wait(socket.exists)
        # QEMU has an export as a file too, but the one of version 7 mixes up writes that are made at once.
        address = f"nbd+unix:///disk?socket={socket}"
        self.daemons.append(subprocess.Popen(["nbdfuse", export, address], stderr=subprocess.DEVNULL))
        wait(lambda: export.stat().st_size == IMAGE_LEN)
        self.loop = run("losetup", "--direct-io=on", "-f", "--show", export, text=True).strip()

    def close(self):
        run("losetup", "-d", self.loop)
        wait(lambda: self.loop not in run("losetup", "-a", text=True))
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait()


class Mounted:
    def __init__(self, what, where, options):
        run("mount", "-o", options, what, where)
        self.where = where

    def __enter__(self):
        return self.where

    def __exit__(self, *_):
        # Who was killed a moment ago may still be there.
        for _ in range(1000):
            if subprocess.run(["umount", self.where], capture_output=True).returncode == 0:
                return
            time.sleep(0.01)
        run("umount", self.where)


def draw(rng, entries, cut, ignore_flushes):
    """Writes of a state: how it was drawn, and (offset, bytes)."""
    sure = max((i + 1 for i in range(cut) if entries[i][2]), default=0)
    if ignore_flushes:
        sure = rng.randrange(sure + 1)
    writes = [(at, data) for at, data, _ in entries[:sure]]
    how = rng.choice(["all", "none", "writes", "pages", "sectors"])
    odds = rng.choice([0.1, 0.5, 0.9])
    for at, data, _ in entries[sure:cut]:
        step = {"pages": 4096, "sectors": SECTOR}.get(how, max(len(data), 1))
        for start in range(0, len(data), step):
            if how == "all" or how != "none" and rng.random() < odds:
                writes.append((at + start, data[start : start + step]))
    return f"{how} {odds} of {cut - sure} entries", writes


# The search.


def grate(root, options, *program):
    command = [LIND, "--root", root, "crypt-grate.cwasm", "--key", "/k.bin", *options]
    return [*command, *program]


class Search:
    def __init__(self, folder, fs, seed, ignore_flushes):
        self.folder, self.fs, self.ignore_flushes = folder, fs, ignore_flushes
        self.rng = random.Random(seed)
        self.image, self.state = folder / "image", folder / "state"
        self.mount = folder / "mount"
        self.mount.mkdir()
        self.states, self.bad, self.recordings = 0, [], 0

    def make_image(self):
        self.image.unlink(missing_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_LEN)
        run(*MAKE[self.fs], self.image)
        with Mounted(self.image, self.mount, OPTIONS[self.fs]) as root:
            for name, programs in PROGRAMS.items():
                (root / name).mkdir()
                for program in programs:
                    shutil.copy(program, root / name)
            (root / "work").mkdir()
            run(KEYS, "gen", root / "k.bin")

    def record_load(self, done, options):
        """Lets the programs work. Answers the entries, and what was acknowledged when there were how many of them."""
        device = Device(self.folder, self.image)
        record, acknowledged = device.record, []

        def listen(name, program):
            for line in program.stdout:
                number = int(line.split()[-1])
                acknowledged.append((record.count(), name, number))

        try:
            with Mounted(device.loop, self.mount, "rw") as root:
                programs = {
                    kind: grate(root, options, "durable.cwasm", kind, f"/work/{kind}", str(done[kind] + 1))
                    for kind in KINDS
                }
                programs["sqlite"] = grate(root, options, "sqlite_load.cwasm", "load", "/work/load.db", str(1 << 40))
                running, threads = [], []
                for name, command in programs.items():
                    program = subprocess.Popen(command, stdout=subprocess.PIPE)
                    running.append(program)
                    threads.append(threading.Thread(target=listen, args=(name, program)))
                    threads[-1].start()
                time.sleep(self.rng.uniform(0.5, 4))
                end = record.count()
                ended = [program.args for program in running if program.poll() is not None]
                for program in running:
                    program.kill()
                for thread in threads:
                    thread.join()
                for program in running:
                    program.wait()
        finally:
            device.close()
        if ended:
            sys.exit(f"ended before it was killed: {ended}")
        return list(record.entries(end)), acknowledged

    def check(self, root, least):
        """What is found on a state: for each program, the number of the last change that is there."""
        verified = subprocess.run([KEYS, "verify", "--key", root / "k.bin", root / "work"], capture_output=True)
        if verified.returncode != 0:
            raise Bad(f"keys verify: {verified.stderr.decode(errors='replace')}")
        found = {}
        for kind in KINDS:
            path = root / "work" / kind
            content = b""
            if path.exists():
                content = run(KEYS, "open", "--key", root / "k.bin", path, "-o", "-")
            number = CONTENTS[kind].number(content, max(least[kind], 0))
            if number is None:
                raise Bad(f"{kind}: {len(content)} bytes as no change leaves them")
            found[kind] = number
        verify = grate(root, [], "sqlite_load.cwasm", "verify", "/work/load.db")
        sqlite = subprocess.run(verify, capture_output=True, text=True)
        if sqlite.returncode != 0:
            raise Bad(f"SQLite: {sqlite.stderr}")
        found["sqlite"] = int(sqlite.stdout.split()[-1])
        for name, number in found.items():
            if number < least[name]:
                raise Bad(f"{name}: {least[name]} was acknowledged, {number} is there")
        return found

    def recording(self, done, options):
        """Records once, and looks at states. Answers what is there in the one that goes on."""
        before, goes_on = self.folder / "before", self.folder / "goes_on"
        run("cp", "--sparse=always", self.image, before)
        entries, acknowledged = self.record_load(done, options)
        for kind in KINDS:
            CONTENTS[kind].up_to(max((number for _, of, number in acknowledged if of == kind), default=0) + 100)
        found = done
        os.replace(before, goes_on)
        os.link(goes_on, before)
        for _ in range(STATES):
            cut = self.rng.randrange(len(entries) + 1)
            how, writes = draw(self.rng, entries, cut, self.ignore_flushes)
            least = dict(done)
            for count, name, number in acknowledged:
                if count <= cut:
                    least[name] = max(least[name], number)
            run("cp", "--sparse=always", before, self.state)
            with open(self.state, "r+b") as file:
                for at, data in writes:
                    file.seek(at)
                    file.write(data)
            self.states += 1
            try:
                with Mounted(self.state, self.mount, OPTIONS[self.fs]) as root:
                    there = self.check(root, least)
            except (Bad, subprocess.CalledProcessError) as problem:
                message = getattr(problem, "stderr", None) or problem
                self.bad.append(f"cut at {cut} of {len(entries)}, {how}: {message}")
                print("bad:", self.bad[-1], flush=True)
            else:
                if sum(there.values()) > sum(found.values()):
                    found = there
                    os.replace(self.state, goes_on)
        before.unlink()
        os.replace(goes_on, self.image)
        return found

    def go(self, states):
        while self.states < states:
            self.make_image()
            done = {**dict.fromkeys(KINDS, -1), "sqlite": 0}
            options = self.rng.choice(GRATES)
            for _ in range(RECORDINGS):
                done = self.recording(done, options)
                self.recordings += 1
                print(f"{self.fs}: {self.states} states, {len(self.bad)} bad; {done}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Cuts the power of a disk under crypt-grate.")
    parser.add_argument("--fs", choices=MAKE, default="ext4")
    parser.add_argument("--states", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--folder", help="where the images go, a few GiB; /dev/shm is fast")
    parser.add_argument("--ignore-flushes", action="store_true", help="the disk does not keep what it promised")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        search = Search(Path(folder), options.fs, options.seed, options.ignore_flushes)
        search.go(options.states)
    print(f"{options.fs}: {search.states} states of {search.recordings} recordings, {len(search.bad)} bad")
    sys.exit(1 if search.bad else 0)


if __name__ == "__main__":
    main()
