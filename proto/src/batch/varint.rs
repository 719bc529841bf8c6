//! Zigzag varints as in Kafka's records. Owns their bounds: a 32-bit number takes at most five bytes, a 64-bit one ten.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::BadBatch;

pub(super) fn put_varint(out: &mut BytesMut, value: i32) {
    put_varlong(out, i64::from(value));
}

pub(super) fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    out.put_u8(low_bits(rest));
}

pub(super) fn get_varint(input: &mut Bytes) -> Result<i32, BadBatch> {
    i32::try_from(get_varlong(input)?).map_err(|_| BadBatch("a number of more than 32 bits"))
}

pub(super) fn get_varlong(input: &mut Bytes) -> Result<i64, BadBatch> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = input.try_get_u8().map_err(|_| BadBatch("a number cut off"))?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    Err(BadBatch("a number of more than 64 bits"))
}

#[allow(clippy::cast_possible_truncation, reason = "masked to seven bits")]
fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}
