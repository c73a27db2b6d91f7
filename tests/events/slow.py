"""Decoders written a second time, an event after the other, from the formats' specifications.

Each returns a list of (x, y, t, polarity). They share no code with the readers under test.
"""

import struct


def _after_lines(data, mark):
    """Skip the lines that begin with a mark."""
    while data.startswith(mark):
        line, _, data = data.partition(b"\n")
        if b"% end" in line or b"END-HEADER" in line:
            break
    return data


def evt2(data):
    out, high = [], None
    for (word,) in struct.iter_unpack("<I", _after_lines(data, b"%")):
        kind = word >> 28
        if kind == 8:
            high = (word & 0xFFFFFFF) * 64
        elif kind in (0, 1) and high is not None:
            out.append((word >> 11 & 2047, word & 2047, high + (word >> 22 & 63), kind))
    return out


def evt21(data, upper_first=False):
    out, high = [], None
    for pair in struct.iter_unpack("<II", _after_lines(data, b"%")):
        upper, valid = pair if upper_first else pair[::-1]
        kind = upper >> 28
        if kind == 8:
            high = (upper & 0xFFFFFFF) * 64
        elif kind in (0, 1) and high is not None:
            for bit in range(32):
                if valid >> bit & 1:
                    column = (upper >> 11 & 2047) + bit
                    out.append((column, upper & 2047, high + (upper >> 22 & 63), kind))
    return out


def evt3(data):
    data = _after_lines(data, b"%")
    out, high, low, loops, row, base, sign = [], None, 0, 0, None, None, 0
    for (word,) in struct.iter_unpack("<H", data[: len(data) // 2 * 2]):
        kind, payload = word >> 12, word & 0xFFF
        if kind == 0:
            row = payload if payload < 2048 else None
        elif kind == 1:
            row = None
        elif kind == 3:
            base, sign = payload & 2047, payload >> 11
        elif kind == 6:
            low = payload
        elif kind == 8:
            if high is not None and payload < high - 2048:
                loops += 1
            if payload != high:
                low = 0
            high = payload
        elif kind in (2, 4, 5):
            pixels = []
            if kind == 2:
                pixels = [(payload & 2047, payload >> 11)]
            elif base is not None:
                length = 12 if kind == 4 else 8
                pixels = [(base + bit, sign) for bit in range(length) if payload >> bit & 1]
                base += length
            if high is not None and row is not None:
                t = loops << 24 | high << 12 | low
                out += [(x, row, t, p) for x, p in pixels]
    return out


def dat(data):
    data = _after_lines(data, b"%")[2:]
    return [
        (address & 0x3FFF, address >> 14 & 0x3FFF, t, address >> 28 & 1)
        for t, address in struct.iter_unpack("<II", data)
    ]


def aedat2_dvs128(data):
    return [
        (127 - (address >> 1 & 127), 127 - (address >> 8 & 127), t, 1 - (address & 1))
        for address, t in struct.iter_unpack(">II", _after_lines(data, b"#"))
        if not address & 0x8000
    ]


def aedat2_davis(data, width, height):
    return [
        (width - 1 - (a >> 12 & 1023), height - 1 - (a >> 22 & 511), t, a >> 11 & 1)
        for a, t in struct.iter_unpack(">II", _after_lines(data, b"#"))
        if not a >> 31 and not a & 1 << 10
    ]


def aedat3(data):
    data, out = _after_lines(data, b"#"), []
    while data:
        kind, _, size, _, overflow, _, number, _ = struct.unpack("<hhiiiiii", data[:28])
        body, data = data[28 : 28 + size * number], data[28 + size * number :]
        if kind == 1:
            for word, t in struct.iter_unpack("<Ii", body):
                if word & 1:
                    x, y = word >> 17, word >> 2 & 0x7FFF
                    out.append((x, y, overflow * 2**31 + t, word >> 1 & 1))
    return out


def aedat4(data, stream, decompress):
    """The packets of one stream, header and all other streams skipped by their lengths."""
    position = 18 + int.from_bytes(data[14:18], "little")
    table = 18 + struct.unpack_from("<I", data, 18)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    end = struct.unpack_from("<q", data, table + struct.unpack_from("<H", data, vtable + 6)[0])[0]
    out = []
    while position < (len(data) if end < 0 else end):
        number, size = struct.unpack_from("<ii", data, position)
        body = data[position + 8 : position + 8 + size]
        position += 8 + size
        if number != stream:
            continue
        body = decompress(body)
        if body[8:12] != b"EVTS":
            continue
        table = 4 + struct.unpack_from("<I", body, 4)[0]
        vtable = table - struct.unpack_from("<i", body, table)[0]
        field = table + struct.unpack_from("<H", body, vtable + 4)[0]
        vector = field + struct.unpack_from("<I", body, field)[0]
        for item in range(struct.unpack_from("<I", body, vector)[0]):
            t, x, y, on = struct.unpack_from("<qhhB", body, vector + 4 + 16 * item)
            out.append((x, y, t, on))
    return out


def atis_bin(data):
    out, shift = [], 0
    for i in range(0, len(data) // 5 * 5, 5):
        x, y, top, middle, bottom = data[i : i + 5]
        if y == 240:
            shift += 8192
        else:
            t = shift + ((top & 127) << 16 | middle << 8 | bottom)
            out.append((x, y, t, top >> 7))
    return out
