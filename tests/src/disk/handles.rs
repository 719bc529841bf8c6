//! The Disk seam on the simulated disk: what each call changes in view. It never decides what survives a crash.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use waymark_node::storage::disk::{AlignedBuf, BLOCK, Disk, DiskFile, OpenMode, Space};

use super::content::{Change, Inode};
use super::points::{Call, Stage};
use super::{NameChange, Node, SimDisk, os_error, parent, set_names};

#[async_trait]
impl Disk for SimDisk {
    async fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let reads = mode == OpenMode::Read;
        let mut state = if reads { self.call()? } else { self.call_to_change()? };
        if reads {
            state.can_read(path)?;
        }
        let number = match state.names.get(path) {
            Some(Node::File(number)) => *number,
            Some(Node::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            None if reads => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let folder = parent(path);
                if !folder.is_empty() && state.names.get(folder) != Some(&Node::Folder) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let number = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(number, Inode::default());
                state.rename_step(vec![(path.to_owned(), Some(Node::File(number)))]);
                state.pass(Call::Create, path, Stage::After)?;
                number
            }
        };
        state.open += 1;
        Ok(Arc::new(SimFile { disk: self.clone(), number, path: path.to_owned(), mode }))
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut state = self.call()?;
        state.can_read(dir)?;
        let inside = state.names.keys().filter(|path| parent(path) == dir);
        Ok(inside.map(|path| path[path.rfind('/').map_or(0, |at| at + 1)..].to_owned()).collect())
    }

    async fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.call()?;
        if state.names.get(dir) == Some(&Node::Folder) {
            return Ok(());
        }
        if state.faults.read_only {
            return Err(os_error(libc::EROFS));
        }
        let ends = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]);
        for end in ends {
            let path = &dir[..end];
            if !path.is_empty() && !state.names.contains_key(path) {
                state.rename_step(vec![(path.to_owned(), Some(Node::Folder))]);
            }
        }
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.call_to_change()?;
        state.pass(Call::Rename, from, Stage::Before)?;
        let prefix = format!("{from}/");
        let moved = |path: &String| path == from || path.starts_with(&prefix);
        let mut step = NameChange::new();
        for (path, node) in state.names.iter().filter(|(path, _)| moved(path)) {
            step.push((path.clone(), None));
            step.push((format!("{to}{}", &path[from.len()..]), Some(*node)));
        }
        if step.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(Node::File(replaced)) = state.names.get(to).copied().filter(|_| from != to) {
            state.used -= state.inodes.get(&replaced).map_or(0, |inode| inode.view.len);
        }
        state.rename_step(step);
        state.pass(Call::Rename, from, Stage::After)
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.call_to_change()?;
        let Some(Node::File(number)) = state.names.get(path).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        state.used -= state.inodes.get(&number).map_or(0, |inode| inode.view.len);
        state.rename_step(vec![(path.to_owned(), None)]);
        state.pass(Call::Remove, path, Stage::After)
    }

    async fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.call_to_change()?;
        let prefix = format!("{dir}/");
        let inside = |path: &&String| *path == dir || path.starts_with(&prefix);
        let gone: Vec<String> = state.names.keys().filter(inside).cloned().collect();
        for path in gone {
            let number = state.names.get(&path).and_then(Node::inode);
            let inode = number.and_then(|number| state.inodes.get(&number));
            state.used -= inode.map_or(0, |inode| inode.view.len);
            state.rename_step(vec![(path, None)]);
        }
        Ok(())
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.call()?;
        state.pass(Call::SyncNames, dir, Stage::Before)?;
        let steps = std::mem::take(&mut state.name_changes);
        for step in steps {
            if step.iter().any(|(path, _)| parent(path) == dir) {
                set_names(&mut state.durable_names, &step);
            } else {
                state.name_changes.push(step);
            }
        }
        Ok(())
    }

    async fn sync_all(&self) -> io::Result<()> {
        self.sync_where(|_| true, "").await?;
        let mut state = self.call()?;
        for step in std::mem::take(&mut state.name_changes) {
            set_names(&mut state.durable_names, &step);
        }
        Ok(())
    }

    async fn space(&self) -> io::Result<Space> {
        let state = self.call()?;
        let total = state.faults.capacity.unwrap_or(1 << 40);
        Ok(Space { total, free: total.saturating_sub(state.used) })
    }
}

/// One open file of one life.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    number: u64,
    path: String,
    mode: OpenMode,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().open -= 1;
    }
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        if self.mode == OpenMode::Read {
            return Err(os_error(libc::EBADF));
        }
        self.disk.call()?.change(self.number, &self.path, change)
    }
}

#[async_trait]
impl DiskFile for SimFile {
    async fn len(&self) -> io::Result<u64> {
        let state = self.disk.call()?;
        Ok(state.inodes.get(&self.number).map_or(0, |inode| inode.view.len))
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut state = self.disk.call()?;
        state.can_read(&self.path)?;
        let inode = state.inodes.get(&self.number);
        Ok(inode.map_or_else(Bytes::new, |inode| inode.view.read(offset, len).into()))
    }

    async fn write_at(&self, offset: u64, data: Vec<Bytes>) -> io::Result<()> {
        if self.mode == OpenMode::Direct {
            return Err(os_error(libc::EINVAL));
        }
        self.change(Change::Write(offset, data.concat().into()))
    }

    async fn write_blocks(&self, offset: u64, data: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        let aligned = offset.is_multiple_of(BLOCK as u64) && data.len().is_multiple_of(BLOCK);
        let written = if aligned {
            self.change(Change::Write(offset, Bytes::copy_from_slice(data.as_slice())))
        } else {
            Err(os_error(libc::EINVAL))
        };
        (written, data)
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len().await? < len { self.change(Change::SetLen(len)) } else { Ok(()) }
    }

    async fn sync(&self) -> io::Result<()> {
        self.disk.sync_where(|number| number == self.number, &self.path).await
    }
}
