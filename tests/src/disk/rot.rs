//! What time does to bytes at rest: bits flip, and files lose their ends. Owns that it happens to what is durable, unseen by
//! everyone until it is read. It never touches a name.

use std::ops::Range;

use rand::Rng;

use super::{Node, SimDisk};

impl SimDisk {
    /// Flips bits of durable bytes, as rot does: nobody is told.
    ///
    /// # Panics
    /// When there is no such file, or the range is empty.
    pub fn rot(&self, path: &str, range: Range<u64>, bits: usize) {
        let mut state = self.lock();
        let number = state.names.get(path).and_then(Node::inode).expect("a file to rot");
        for _ in 0..bits {
            let (offset, bit) =
                (state.rng.random_range(range.clone()), state.rng.random_range(0..8));
            let inode = state.inodes.get_mut(&number).expect("names point to inodes");
            inode.rotten = true;
            let byte = inode.durable.read(offset, 1).first().copied().unwrap_or(0) ^ (1 << bit);
            inode.durable.write(offset, &[byte]);
            inode.view.write(offset, &[byte]);
        }
    }

    /// A file loses its end, and nobody is told.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, path: &str, len: u64) {
        let mut state = self.lock();
        let number = state.names.get(path).and_then(Node::inode).expect("a file to truncate");
        let inode = state.inodes.get_mut(&number).expect("names point to inodes");
        inode.rotten = true;
        let before = inode.view.len;
        inode.durable.set_len(len.min(inode.durable.len));
        inode.view.set_len(len.min(before));
        let lost = before - inode.view.len;
        state.used = state.used.saturating_sub(lost);
    }

    /// Files that have rotted, and in whose place there is no other one.
    #[must_use]
    pub fn rotten(&self) -> Vec<String> {
        let state = self.lock();
        let is_rotten = |node: &Node| {
            let inode = node.inode().and_then(|number| state.inodes.get(&number));
            inode.is_some_and(|inode| inode.rotten)
        };
        let rotten = state.names.iter().filter(|(_, node)| is_rotten(node));
        rotten.map(|(path, _)| path.clone()).collect()
    }

    /// Files whose name is durable, with how much of each is, sorted.
    #[must_use]
    pub fn at_rest(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let there =
            state.durable_names.iter().filter(|(path, node)| state.names.get(*path) == Some(*node));
        let files = there.filter_map(|(path, node)| {
            let inode = state.inodes.get(&node.inode()?)?;
            Some((path.clone(), inode.durable.len.min(inode.view.len)))
        });
        files.collect()
    }
}
