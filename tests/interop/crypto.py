"""Hashes, keys and signatures (sections 2 and 3), and what seals keys and content (sections 8 and 9)."""

import base64
import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from encoding import Refused, check

# --- 2. Hashes ---


def H(context, *parts):
    text = f"sealbus/v1/{context}\0".encode()
    for part in parts:
        text += struct.pack(">I", len(part)) + part
    return hashlib.sha256(text).digest()


# --- 3. Keys and signatures ---

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P


def decompress(data):
    """The point (x, y) that these bytes canonically encode, or None."""
    n = int.from_bytes(data, "little")
    y, sign = n & ((1 << 255) - 1), n >> 255
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != xx or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def small_order(point):
    for _ in range(3):
        (x, y) = point
        k = D * x * x * y * y
        x, y = 2 * x * y * pow(1 + k, P - 2, P) % P, (y * y + x * x) * pow(1 - k, P - 2, P) % P
        point = (x, y)
    return point == (0, 1)


GOOD_KEYS = {}


def public_key(data):
    if data not in GOOD_KEYS:
        point = decompress(data)
        GOOD_KEYS[data] = point is not None and not small_order(point)
    check(GOOD_KEYS[data], "weak_key")
    return data


def verify_raw(key, text, signature, code="bad_signature"):
    point = decompress(signature[:32])
    check(point is not None and not small_order(point), code)
    try:
        # OpenSSL checks S < L and compares the bytes of R, so without the cofactor.
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except InvalidSignature:
        raise Refused(code) from None


PURPOSES = {
    "session certificate": 1, "session possession": 2, "batch": 3, "grant": 4, "reader key": 5, "box key": 6,
    "admission": 7, "status": 8, "bundle": 9, "hello": 10, "heartbeat": 11, "order": 12, "approval": 13,
}  # fmt: skip


def verify(key, purpose, text, signature, code="bad_signature"):
    verify_raw(key, bytes([0xFF, PURPOSES[purpose]]) + text, signature, code)


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def nkey(text, prefix, code="bad_name"):
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        raise Refused(code) from None
    check(len(text) == 56 and base64.b32encode(raw).decode().rstrip("=") == text, code)
    check(raw[0] == prefix and crc16(raw[:33]) == int.from_bytes(raw[33:], "little"), code)
    return public_key(raw[1:33])


# --- 8. Sealing to a reader ---


def small_order_x25519(point):
    try:
        secret = x25519.X25519PrivateKey.from_private_bytes(b"\1" * 32)
        secret.exchange(x25519.X25519PublicKey.from_public_bytes(point))
        return False
    except ValueError:
        return True


def hkdf_extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def hkdf_expand(prk, info, n):
    out, block = b"", b""
    while len(out) < n:
        block = hmac.digest(prk, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:n]


def hpke_open(seed, enc, info, sealed):
    """RFC 9180 base mode: X-Wing, HKDF-SHA256, ChaCha20Poly1305. None if it does not open."""
    expanded = hashlib.shake_256(seed).digest(96)
    ss_m = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(enc[:1088])
    secret, ct_x = x25519.X25519PrivateKey.from_private_bytes(expanded[64:]), enc[1088:]
    ss_x = secret.exchange(x25519.X25519PublicKey.from_public_bytes(ct_x))
    pk_x = secret.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + bytes.fromhex("5c2e2f2f5e5c")).digest()

    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0x0003)

    def extract(salt, label, ikm):
        return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)

    def expand(prk, label, info, n):
        return hkdf_expand(prk, struct.pack(">H", n) + b"HPKE-v1" + suite + label + info, n)

    schedule = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    prk = extract(shared, b"secret", b"")
    key, nonce = expand(prk, b"key", schedule, 32), expand(prk, b"base_nonce", schedule, 12)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, b"")
    except InvalidTag:
        return None


# --- 9. Sealing content ---


def hchacha20(key, nonce):
    mask = 0xFFFFFFFF
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & mask
            s[z] ^= s[x]
            s[z] = (s[z] << turn | s[z] >> 32 - turn) & mask

    for _ in range(10):
        for n in range(4):
            quarter(n, 4 + n, 8 + n, 12 + n)
        for n in range(4):
            quarter(n, 4 + (n + 1) % 4, 8 + (n + 2) % 4, 12 + (n + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def xchacha20poly1305_open(key, nonce, data, associated):
    try:
        subkey = hchacha20(key, nonce[:16])
        return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], data, associated)
    except InvalidTag:
        raise Refused("decrypt_failed") from None
