//! Owns the step from a group's name to its slot: fixed for ever, because slots, not names, are placed on shards (S16).
//! Never says which shard has a slot: the catalog does.

/// Slots of a cluster.
pub const GROUP_SLOTS: u16 = 4_096;

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The slot of a group: FNV-1a, 64 bits, over the name's UTF-8 bytes, modulo 4,096.
#[must_use]
pub fn group_slot(group: &str) -> u16 {
    let hash = group
        .bytes()
        .fold(FNV_OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    u16::try_from(hash % u64::from(GROUP_SLOTS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_fnv_1a() {
        // Published vectors: "" → cbf29ce484222325, "a" → af63dc4c8601ec8c, "foobar" → 85944171f73967e8.
        assert_eq!(group_slot(""), 0x325);
        assert_eq!(group_slot("a"), 0xc8c);
        assert_eq!(group_slot("foobar"), 0x7e8);
    }
}
