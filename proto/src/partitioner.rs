//! The partition of a key exactly as Kafka's default partitioner picks it, so that producers of both kinds agree. Owns
//! murmur2.

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// Kafka's 32-bit murmur2.
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the hash is defined over the low 32 bits of the length"
    )]
    let mut hash = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in words.by_ref() {
        let mut mixed = word.iter().rev().fold(0u32, |word, byte| (word << 8) | u32::from(*byte));
        mixed = mixed.wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0u32, |word, byte| (word << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a key among `partitions`, which count as at least one.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    let partition = positive % partitions.unsigned_abs().max(1);
    i32::try_from(partition).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own partitioner: key, murmur2, and the partition of 3, 12 and 50.
    const KAFKA: [(&[u8], i32, [i32; 3]); 4] = [
        (b"", 275_646_681, [0, 9, 31]),
        (b"a", -1_563_381_124, [1, 4, 24]),
        (b"ab", 316_155_434, [2, 2, 34]),
        (b"abc", 479_470_107, [0, 3, 7]),
    ];

    #[test]
    fn keys_go_where_kafka_puts_them() {
        for (key, hash, partitions) in KAFKA {
            assert_eq!(murmur2(key).cast_signed(), hash);
            let ours = [3, 12, 50].map(|count| partition_for_key(key, count));
            assert_eq!(ours, partitions, "{key:?}");
        }
    }

    #[test]
    fn no_number_of_partitions_panics() {
        for partitions in [i32::MIN, -1, 0, 1, i32::MAX] {
            assert!(partition_for_key(b"key", partitions) >= 0);
        }
    }
}
