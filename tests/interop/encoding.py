"""Strict MessagePack, and the texts and labels in it (sections 1 and 4)."""

import base64
import re
import struct

# --- 1. Encoding ---


class Refused(Exception):
    """A refusal with its reason code."""


def check(condition, code):
    if not condition:
        raise Refused(code)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        check(n <= self.left(), "truncated")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def end(self):
        check(self.left() == 0, "trailing_bytes")

    def length(self, forms, short=None):
        """A length behind its first byte; `forms` maps that byte to (bytes of length, least length)."""
        first = self.number(1)
        if short and short[0] <= first <= short[1]:
            return first - short[0]
        check(first in forms, "bad_encoding")
        size, least = forms[first]
        value = self.number(size)
        check(value >= least, "bad_encoding")
        return value

    def array(self, arity=None, limit=None, over="too_large"):
        n = self.length({0xDC: (2, 16)}, (0x90, 0x9F))
        check(limit is None or n <= limit, over)
        check(n <= self.left(), "truncated")
        check(arity is None or n == arity, "wrong_arity")
        return n

    def uint(self, bits=64):
        forms = {0xCC: (1, 1 << 7), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32)}
        value = self.length(forms, (0x00, 0x7F))
        check(value < 1 << bits, "too_large")
        return value

    def bool(self):
        first = self.number(1)
        check(first in (0xC2, 0xC3), "bad_encoding")
        return first == 0xC3

    def bin(self, exact=None, limit=None):
        n = self.length({0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)})
        check(limit is None or n <= limit, "too_large")
        data = self.take(n)
        check(exact is None or n == exact, "bad_length")
        return data

    def str(self, limit, over="too_large"):
        n = self.length({0xD9: (1, 32), 0xDA: (2, 1 << 8)}, (0xA0, 0xBF))
        check(n <= limit, over)
        try:
            return self.take(n).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("bad_encoding") from None

    def option(self, read):
        if self.left() and self.data[self.at] == 0xC0:
            self.at += 1
            return None
        return read(self)

    # 4. Names, subjects, labels
    def name(self):
        return name(self.str(48))

    def token(self):
        text = self.str(59)
        check(TOKEN.fullmatch(text), "bad_name")
        return text

    def subject(self):
        return subject(self.str(200, "bad_subject"))

    def label(self):
        self.array(3)
        level = self.uint()
        check(level < 16, "bad_label")
        compartments = self.uint()
        integrity = self.uint()
        check(integrity < 8, "bad_label")
        return (level, compartments, integrity)


def write_uint(n):
    if n < 1 << 7:
        return bytes([n])
    for first, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if n < 1 << 8 * size:
            return bytes([first]) + n.to_bytes(size, "big")
    raise ValueError(n)


def write_bin(data):
    n = len(data)
    if n < 1 << 8:
        return bytes([0xC4, n]) + data
    if n < 1 << 16:
        return b"\xc5" + struct.pack(">H", n) + data
    return b"\xc6" + struct.pack(">I", n) + data


def write_str(text):
    data = text.encode()
    assert len(data) < 256
    return (bytes([0xA0 + len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data


def write_array(*elements):
    assert len(elements) < 16
    return bytes([0x90 + len(elements)]) + b"".join(elements)


def write_label(label):
    return write_array(*map(write_uint, label))


def base64url(text, code):
    check(re.fullmatch(r"[A-Za-z0-9_-]*", text) and len(text) % 4 != 1, code)
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    check(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text, code)
    return data


def base32(data, n):
    return base64.b32encode(data).decode().lower()[:n]


# --- 4. Names, subjects, labels, times ---

TOKEN = re.compile(r"[a-z][a-z0-9-]{0,47}-[a-z2-7]{10}")


def name(text):
    check(re.fullmatch(r"[a-z][a-z0-9-]{0,47}", text), "bad_name")
    return text


def subject(text, wildcards=False):
    tokens = text.split(".")
    check(1 <= len(text.encode()) <= 200 and len(tokens) <= 16, "bad_subject")
    for n, token in enumerate(tokens):
        if wildcards and (token == "*" or token == ">" and n == len(tokens) - 1):
            continue
        check(re.fullmatch(r"[\x21-\x7e]+", token) and not set(token) & set("*>$"), "bad_subject")
    return text


def matches(pattern, text):
    pattern, text = pattern.split("."), text.split(".")
    for n, want in enumerate(pattern):
        if n >= len(text):
            return False
        if want == ">":
            return True
        if want not in ("*", text[n]):
            return False
    return len(pattern) == len(text)


def dominates(a, b):
    return a[0] >= b[0] and a[1] & b[1] == b[1] and a[2] <= b[2]


def covers(clearance, label):
    return clearance[0] >= label[0] and clearance[1] & label[1] == label[1]


def valid(at, validity, late):
    check(at >= validity[0], "not_yet_valid")
    check(at < validity[1], late)
