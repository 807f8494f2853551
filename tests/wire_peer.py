#!/usr/bin/env python3
"""Speaks sealed connections. Follows docs/wire.md and the Noise specification and shares nothing with
the Rust code, so that the two check each other.

    wire_peer.py connect HOST PORT --key K   sends standard input, writes what comes to standard
    wire_peer.py listen HOST PORT --key K    output; listens for one connection (port 0: any; the
                                             port is the first line on standard error)
    wire_peer.py self-test VECTORS.json      checks this peer against the test vectors

With --aes it offers AES-256-GCM; the last line on standard error is the cipher that was agreed on.

Exits with 0 after an orderly end of both directions, else with 1 and one line on standard error.
Needs the packages in requirements.txt.
"""

import argparse
import hashlib
import hmac
import json
import os
import socket
import sys
import threading

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = 1
PREAMBLE = b"\xa7stream\n" + bytes([VERSION])
MESSAGE_LEN = 48
TAG_LEN = 16
MAX_PLAINTEXT = 16384
REKEY_INTERVAL = 65536
LAST_NUMBER = 2**64 - 1
KEY_LEN = 32
OFFER_AT, OFFER = 31, 0x80

DATAGRAM_MAGIC = 0xA7
DATAGRAM_OVERHEAD = 42
REPLAY_WINDOW = 1024


class Refused(Exception):
    """The connection or datagram is refused. `kind` is the name the test vectors use."""

    def __init__(self, kind):
        super().__init__(kind)
        self.kind = kind


def derive(master, salt, label):
    info = label + bytes([VERSION])
    return HKDF(algorithm=SHA256(), length=KEY_LEN, salt=salt, info=info).derive(master)


class Cipher:
    """An AEAD, and the order of the bytes of a number in its nonces."""

    def __init__(self, name, algorithm, order):
        self.name, self.algorithm, self.order = name, algorithm, order

    def nonce(self, number):
        return bytes(4) + number.to_bytes(8, self.order)

    def seal(self, key, number, plaintext, associated_data=b""):
        return self.algorithm(key).encrypt(self.nonce(number), plaintext, associated_data)

    def unseal(self, key, number, sealed, associated_data=b""):
        """Raises InvalidTag."""
        return self.algorithm(key).decrypt(self.nonce(number), sealed, associated_data)

    def rekey(self, key):
        return self.seal(key, LAST_NUMBER, bytes(KEY_LEN))[:KEY_LEN]


CHACHA = Cipher("ChaCha20-Poly1305", ChaCha20Poly1305, "little")
AES = Cipher("AES-256-GCM", AESGCM, "big")
CIPHERS = {cipher.name: cipher for cipher in (CHACHA, AES)}


class Noise:
    """One end of Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s: the SymmetricState of the specification,
    and the tokens of this one pattern."""

    NAME = b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s"

    def __init__(self, psk, ephemeral, offers_aes):
        self.psk = psk
        self.offers_aes = offers_aes
        self.ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self.hash = self.chaining_key = hashlib.blake2s(self.NAME).digest()
        self.mix_hash(PREAMBLE)

    def mix_hash(self, data):
        self.hash = hashlib.blake2s(self.hash + data).digest()

    def hkdf(self, material, count):
        secret = hmac.digest(self.chaining_key, material, "blake2s")
        outputs, last = [], b""
        for i in range(1, count + 1):
            last = hmac.digest(secret, last + bytes([i]), "blake2s")
            outputs.append(last)
        return outputs

    def mix_key(self, material):
        self.chaining_key, self.key = self.hkdf(material, 2)

    def mix_psk(self):
        self.chaining_key, hashed, self.key = self.hkdf(self.psk, 3)
        self.mix_hash(hashed)

    def mix_public(self, public):
        self.mix_hash(public)
        self.mix_key(public)

    def mix_shared(self):
        # Raises ValueError for a public key of low order.
        self.mix_key(self.ephemeral.exchange(self.remote))

    def mix(self, tokens, public):
        for token in tokens:
            if token == "psk":
                self.mix_psk()
            elif token == "e":
                self.mix_public(public)
            else:
                self.mix_shared()

    def write(self, tokens):
        public = bytearray(self.ephemeral.public_key().public_bytes_raw())
        public[OFFER_AT] |= OFFER if self.offers_aes else 0
        public = bytes(public)
        self.mix(tokens, public)
        tag = CHACHA.seal(self.key, 0, b"", self.hash)
        self.mix_hash(tag)
        return public + tag

    def read(self, message, tokens):
        public, tag = message[:32], message[32:]
        self.peer_offers_aes = bool(public[OFFER_AT] & OFFER)
        # What the bit is for is no business of X25519, which does not look at it.
        self.remote = X25519PublicKey.from_public_bytes(public)
        self.mix(tokens, public)
        CHACHA.unseal(self.key, 0, tag, self.hash)
        self.mix_hash(tag)

    def split(self):
        """The cipher of the records, and the first keys of either direction."""
        keys = self.hkdf(b"", 2)
        if not (self.offers_aes and self.peer_offers_aes):
            return CHACHA, keys
        return AES, [derive(key, None, b"sealed stream aes-256-gcm") for key in keys]


FIRST, SECOND = ("psk", "e"), ("e", "ee")


class Direction:
    """The records of one direction."""

    def __init__(self, cipher, key):
        self.cipher, self.key = cipher, key
        self.next = 0

    def number(self):
        number = self.next
        if number and number % REKEY_INTERVAL == 0:
            self.key = self.cipher.rekey(self.key)
        self.next += 1
        return number

    def seal(self, plaintext):
        sealed = self.cipher.seal(self.key, self.number(), plaintext)
        return len(sealed).to_bytes(2, "little") + sealed

    def open(self, sealed):
        try:
            return self.cipher.unseal(self.key, self.number(), sealed)
        except InvalidTag:
            raise Refused("RecordCorrupt") from None


class Stream:
    """One end of a sealed stream. `wire` gathers what is to be sent."""

    def __init__(self, is_initiator, masters, ephemeral, offers_aes=False):
        self.is_initiator, self.offers_aes = is_initiator, offers_aes
        self.psks = [derive(master, None, b"sealed stream psk") for master in masters]
        self.ephemeral = ephemeral
        self.received = b""
        self.wire = b""
        self.sending = self.receiving = None
        self.confirmed = is_initiator
        self.ended = False
        if is_initiator:
            self.noise = Noise(self.psks[0], ephemeral, offers_aes)
            self.wire += PREAMBLE + self.noise.write(FIRST)

    def feed(self, data):
        """Takes bytes of the transport; yields plaintext record by record."""
        self.received += data
        if self.receiving is None and not self.read_flight():
            return
        while self.received:
            if self.ended:
                raise Refused("AfterEnd")
            sealed = self.take_record()
            if sealed is None:
                return
            plaintext = self.receiving.open(sealed)
            if not self.confirmed:
                if plaintext:
                    raise Refused("Unconfirmed")
                self.confirmed = True
            elif not plaintext:
                self.ended = True
            else:
                yield plaintext

    def read_flight(self):
        magic_len = len(PREAMBLE) - 1
        seen = self.received[:magic_len]
        if seen != PREAMBLE[: len(seen)]:
            raise Refused("NotSealed")
        if len(self.received) > magic_len and self.received[magic_len] != VERSION:
            raise Refused("UnsupportedVersion")
        if len(self.received) < len(PREAMBLE) + MESSAGE_LEN:
            return False
        message = self.received[len(PREAMBLE) :][:MESSAGE_LEN]
        self.received = self.received[len(PREAMBLE) + MESSAGE_LEN :]
        if self.is_initiator:
            try:
                self.noise.read(message, SECOND)
            except (InvalidTag, ValueError):
                raise Refused("Handshake") from None
            cipher, (sending, receiving) = self.noise.split()
        else:
            cipher, (receiving, sending) = self.answer(message).split()
        self.cipher = cipher
        self.sending, self.receiving = Direction(cipher, sending), Direction(cipher, receiving)
        if self.is_initiator:
            self.wire += self.sending.seal(b"")
        return True

    def answer(self, message):
        """Reads the first message with each key in turn, and answers it."""
        for psk in self.psks:
            noise = Noise(psk, self.ephemeral, self.offers_aes)
            try:
                noise.read(message, FIRST)
                self.wire += PREAMBLE + noise.write(SECOND)
                return noise
            except (InvalidTag, ValueError):
                continue
        raise Refused("Handshake")

    def take_record(self):
        """The next record without its length, or None if it is not whole."""
        if len(self.received) < 2:
            return None
        length = int.from_bytes(self.received[:2], "little")
        if not TAG_LEN <= length <= TAG_LEN + MAX_PLAINTEXT:
            raise Refused("RecordLength")
        if len(self.received) < 2 + length:
            return None
        sealed, self.received = self.received[2 : 2 + length], self.received[2 + length :]
        return sealed

    def eof(self):
        """The transport has ended."""
        if self.receiving is None or not self.confirmed:
            raise Refused("HandshakeCut")
        if not self.ended:
            raise Refused("Cut")

    def write(self, plaintext):
        for at in range(0, len(plaintext), MAX_PLAINTEXT):
            self.wire += self.sending.seal(plaintext[at : at + MAX_PLAINTEXT])

    def close(self):
        self.wire += self.sending.seal(b"")

    def take_wire(self):
        wire, self.wire = self.wire, b""
        return wire


def datagram_key(master, salt):
    return derive(master, salt, b"sealed datagram key")


def seal_datagram(master, salt, sequence, payload):
    sealed = CHACHA.seal(datagram_key(master, salt), sequence, payload)
    prefix = bytes([DATAGRAM_MAGIC, VERSION]) + salt + sequence.to_bytes(8, "little")
    return prefix + sealed


class DatagramReceiver:
    def __init__(self, masters):
        self.masters = masters
        self.senders = {}

    def open(self, datagram):
        if datagram[:1] != bytes([DATAGRAM_MAGIC]):
            raise Refused("NotSealed")
        if len(datagram) > 1 and datagram[1] != VERSION:
            raise Refused("UnsupportedVersion")
        if len(datagram) < DATAGRAM_OVERHEAD:
            raise Refused("Truncated")
        salt, sequence = datagram[2:18], int.from_bytes(datagram[18:26], "little")
        received = set()
        keys = [datagram_key(master, salt) for master in self.masters]
        if salt in self.senders:
            key, received = self.senders[salt]
            keys = [key]
            if max(received) - sequence >= REPLAY_WINDOW:
                raise Refused("Stale")
            if sequence in received:
                raise Refused("Replayed")
        for key in keys:
            try:
                payload = CHACHA.unseal(key, sequence, datagram[26:])
            except InvalidTag:
                continue
            received.add(sequence)
            self.senders[salt] = key, received
            return payload
        raise Refused("Corrupt")


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {got!r}, not {wanted!r}")


def check_stream(vector):
    """Both ends at once, byte for byte."""
    unhex = bytes.fromhex
    ends = {}
    for role, is_initiator in (("initiator", True), ("responder", False)):
        ephemeral = unhex(vector[f"{role}_ephemeral"])
        offers_aes = vector[f"{role}_offers_aes"]
        ends[role] = Stream(is_initiator, [unhex(vector["key"])], ephemeral, offers_aes)
    sent = {"initiator": b"", "responder": b""}

    def carry(source, target):
        wire = ends[source].take_wire()
        sent[source] += wire
        return b"".join(ends[target].feed(wire))

    carry("initiator", "responder")
    carry("responder", "initiator")
    for role, end in ends.items():
        expect(f"{role}'s cipher", end.cipher.name, vector["cipher"])
        expect(f"{role}'s key", end.sending.key.hex(), vector[f"{role}_key"])
        for write in vector[f"{role}_writes"]:
            end.write(unhex(write))
        end.close()
    for source, target in (("initiator", "responder"), ("responder", "initiator")):
        expect("read", carry(source, target).hex(), "".join(vector[f"{source}_writes"]))
        expect("sent", sent[source].hex(), vector[f"{source}_sends"])
        ends[target].eof()


def check_stream_refused(vector):
    masters = [bytes.fromhex(key) for key in vector["keys"]]
    ephemeral = bytes.fromhex(vector["ephemeral"])
    end = Stream(vector["is_initiator"], masters, ephemeral, vector["offers_aes"])
    read, error = b"", None
    try:
        for plaintext in end.feed(bytes.fromhex(vector["receives"])):
            read += plaintext
        end.eof()
    except Refused as refused:
        error = refused.kind
    expect("error", error, vector["error"])
    expect("read", read.hex(), vector["reads"])


def check_rekeying(vector):
    cipher = CIPHERS[vector["cipher"]]
    expect("next", cipher.rekey(bytes.fromhex(vector["key"])).hex(), vector["next"])


def check_datagram(vector):
    master, salt = bytes.fromhex(vector["key"]), bytes.fromhex(vector["sender_salt"])
    payload = bytes.fromhex(vector["payload"])
    expect("key", datagram_key(master, salt).hex(), vector["datagram_key"])
    sealed = seal_datagram(master, salt, vector["sequence"], payload)
    expect("sealed", sealed.hex(), vector["sealed"])
    expect("opened", DatagramReceiver([master]).open(sealed), payload)


def check_datagram_refused(vector):
    receiver = DatagramReceiver([bytes.fromhex(key) for key in vector["keys"]])
    for received in vector["received"]:
        receiver.open(bytes.fromhex(received))
    error = None
    try:
        receiver.open(bytes.fromhex(vector["sealed"]))
    except Refused as refused:
        error = refused.kind
    expect("error", error, vector["error"])


CHECKS = {
    "streams": check_stream,
    "streams_refused": check_stream_refused,
    "rekeying": check_rekeying,
    "datagrams": check_datagram,
    "datagrams_refused": check_datagram_refused,
}


def self_test(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    counts = []
    for kind, check in CHECKS.items():
        for vector in vectors[kind]:
            try:
                check(vector)
            except (Refused, AssertionError) as problem:
                sys.exit(f"{path}: {kind}: {vector.get('name', '')}: {problem}")
        counts.append(f"{len(vectors[kind])} {kind.replace('_', ' ')}")
    print(f"agreed: {', '.join(counts)}")


def talk(transport, is_initiator, master, offers_aes):
    """Standard input to the peer, and the peer to standard output, until both have ended."""
    stream = Stream(is_initiator, [master], os.urandom(KEY_LEN), offers_aes)
    transport.sendall(stream.take_wire())
    early = b""
    while stream.sending is None:
        data = transport.recv(65536)
        if not data:
            stream.eof()
        early += b"".join(stream.feed(data))
    transport.sendall(stream.take_wire())

    def send():
        while data := os.read(0, 65536):
            stream.write(data)
            transport.sendall(stream.take_wire())
        stream.close()
        transport.sendall(stream.take_wire())
        transport.shutdown(socket.SHUT_WR)

    # From here on sending and receiving share nothing.
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    out = sys.stdout.buffer
    out.write(early)
    while data := transport.recv(65536):
        for plaintext in stream.feed(data):
            out.write(plaintext)
        out.flush()
    stream.eof()
    sender.join()
    print(stream.cipher.name, file=sys.stderr)


def read_key(path):
    with open(path, "rb") as file:
        key = file.read(KEY_LEN + 1)
    if len(key) != KEY_LEN:
        sys.exit(f"{path}: a key file is {KEY_LEN} bytes long")
    return key


def main():
    parser = argparse.ArgumentParser(description="Speaks sealed connections (docs/wire.md).")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("connect", "listen"):
        command = commands.add_parser(name)
        command.add_argument("host")
        command.add_argument("port", type=int)
        command.add_argument("--key", required=True, help="the key file")
        command.add_argument("--aes", action="store_true", help="offer AES-256-GCM")
    commands.add_parser("self-test").add_argument("vectors")
    options = parser.parse_args()
    if options.command == "self-test":
        self_test(options.vectors)
        return

    master = read_key(options.key)
    address = (options.host, options.port)
    try:
        if options.command == "connect":
            with socket.create_connection(address) as transport:
                talk(transport, True, master, options.aes)
        else:
            with socket.create_server(address) as listener:
                print(listener.getsockname()[1], file=sys.stderr, flush=True)
                transport, _ = listener.accept()
            with transport:
                talk(transport, False, master, options.aes)
    except Refused as refused:
        sys.exit(f"{options.host}:{options.port}: {refused}")
    except OSError as error:
        sys.exit(f"{options.host}:{options.port}: {error.strerror or error}")


if __name__ == "__main__":
    main()
