"""The CRC-64 that ends a dump (Jones's polynomial, reflected, from 0)."""

_POLYNOMIAL = 0x95AC9329AC4BC9B5


def _row(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_row(byte) for byte in range(256)]


def crc64(data):
    value = 0
    for byte in data:
        value = _TABLE[(value ^ byte) & 255] ^ value >> 8
    return value
