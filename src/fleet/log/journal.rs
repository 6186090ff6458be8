//! Purges that could not be written to the log, in order, on disk: records of a length, a CRC-32,
//! a name and an order.
//!
//! They are held in memory too, within the same bound, and the file is emptied once all of them are
//! in the log: a crash in between sends some of them twice, which is harmless. What a crash has torn
//! off at the end had not been answered. Where a record in the middle is corrupt, or the bound is
//! reached, purges are lost, and the journal says so in their place: [`Order::Soften`].

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::order::Order;
use super::token::Token;

/// Length, checksum and name.
const HEAD_BYTES: usize = 4 + 4 + 16;

/// The longest record that is believed; a purge's pattern came in a header line or in JSON.
const RECORD_MAX_BYTES: usize = 4 << 20;

/// What an order takes in memory besides its text.
const BOOKKEEPING_BYTES: u64 = 100;

/// Why a journal is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{}: another process uses it; give each node a fleet.name of its own", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
}

/// A purge that waits to be written to the log.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The entry's name.
    pub name: Token,
    /// What it asks for.
    pub order: Order,
}

/// Purges that wait, oldest first.
#[derive(Debug)]
pub struct Journal {
    file: Option<(PathBuf, File)>,
    waiting: VecDeque<Kept>,
    /// Of `waiting`, as it stands in the file.
    bytes: u64,
    bytes_max: u64,
}

/// What a file held.
struct Found {
    kept: VecDeque<Kept>,
    /// Something in it could not be read, and it was not the end that a crash tore off.
    is_corrupt: bool,
}

impl Journal {
    /// A journal in memory alone.
    pub fn in_memory(bytes_max: u64) -> Self {
        Self { file: None, waiting: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The journal of a node, with what it kept when it ended. `lost` names the entry that takes
    /// the place of what is corrupt.
    pub fn open(
        directory: &Path,
        node: &str,
        bytes_max: u64,
        regex_max_bytes: usize,
        lost: Token,
    ) -> Result<Self, JournalError> {
        let path = directory.join(format!("purges-{node}.journal"));
        let failed = |source| JournalError::File { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(JournalError::Taken { path }),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        // What is longer was not written with this bound; a bound that was lowered loses its rest.
        let read_max = bytes_max.saturating_add(RECORD_MAX_BYTES as u64);
        let mut content = Vec::new();
        Read::by_ref(&mut file).take(read_max).read_to_end(&mut content).map_err(failed)?;
        let Found { mut kept, is_corrupt } = read(&content, regex_max_bytes);
        if is_corrupt {
            tracing::warn!(
                file = %path.display(),
                kept = kept.len(),
                "the journal of purges is corrupt in parts; what is good is kept, and everything \
                 tagged will be stale on all nodes"
            );
            kept.push_back(Kept { name: lost, order: Order::Soften });
        }
        let mut journal =
            Self { file: Some((path, file)), waiting: VecDeque::new(), bytes: 0, bytes_max };
        // Written anew, so that what follows does not stand behind something unreadable.
        journal.replace(kept)?;
        Ok(journal)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Does none wait?
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of those that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds purges behind those that wait. Where they find no room, all that wait are replaced by
    /// one entry which says that purges were lost; true then.
    ///
    /// # Errors
    /// They are kept in memory then, and the file is used no more.
    pub fn push(&mut self, new: Vec<Kept>, lost: Token) -> Result<bool, JournalError> {
        let mut buffer = Vec::new();
        for kept in &new {
            write_record(&mut buffer, kept);
        }
        let weight = buffer.len() as u64 + BOOKKEEPING_BYTES * new.len() as u64;
        if self.bytes.saturating_add(weight) > self.bytes_max {
            self.replace(VecDeque::from([Kept { name: lost, order: Order::Soften }]))?;
            return Ok(true);
        }
        self.bytes += weight;
        self.waiting.extend(new);
        self.write(|file| file.write_all(&buffer).and_then(|()| file.sync_data()))?;
        Ok(false)
    }

    /// The oldest ones, to be sent.
    pub fn oldest(&self, count: usize) -> Vec<Kept> {
        self.waiting.iter().take(count).cloned().collect()
    }

    /// The oldest ones are in the log.
    pub fn delivered(&mut self, count: usize) -> Result<(), JournalError> {
        self.waiting.drain(..count.min(self.waiting.len()));
        if !self.waiting.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        self.write(|file| {
            file.set_len(0)?;
            file.rewind()
        })
    }

    fn replace(&mut self, kept: VecDeque<Kept>) -> Result<(), JournalError> {
        let mut buffer = Vec::new();
        for kept in &kept {
            write_record(&mut buffer, kept);
        }
        self.bytes = buffer.len() as u64 + BOOKKEEPING_BYTES * kept.len() as u64;
        self.waiting = kept;
        self.write(|file| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&buffer)?;
            file.sync_data()
        })
    }

    /// A file that fails once is given up: its content would no longer be what waits.
    fn write(
        &mut self,
        what: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<(), JournalError> {
        let Some((_, file)) = &mut self.file else { return Ok(()) };
        match what(file) {
            Ok(()) => Ok(()),
            Err(source) => {
                let path = self.file.take().map(|(path, _)| path).unwrap_or_default();
                Err(JournalError::File { path, source })
            }
        }
    }
}

fn write_record(buffer: &mut Vec<u8>, kept: &Kept) {
    let order = kept.order.encode();
    let name = kept.name.bytes();
    let length = u32::try_from(order.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&checksum(&name, &order).to_le_bytes());
    buffer.extend_from_slice(&name);
    buffer.extend_from_slice(&order);
}

fn checksum(name: &[u8], order: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&u32::try_from(order.len()).unwrap_or(u32::MAX).to_le_bytes());
    hasher.update(name);
    hasher.update(order);
    hasher.finalize()
}

fn read(content: &[u8], regex_max_bytes: usize) -> Found {
    let mut found = Found { kept: VecDeque::new(), is_corrupt: false };
    let mut rest = content;
    while let Some((head, behind)) = rest.split_at_checked(HEAD_BYTES) {
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            u32::from_le_bytes(bytes)
        };
        let length = number(0) as usize;
        if length > RECORD_MAX_BYTES {
            // No length that we wrote, so nobody knows where the next record begins.
            found.is_corrupt = true;
            return found;
        }
        // Torn off by a crash: it was not answered.
        let Some((order, behind)) = behind.split_at_checked(length) else { return found };
        rest = behind;
        let name = &head[8..];
        let name_bytes: [u8; 16] = name.try_into().unwrap_or_default();
        let is_good = checksum(name, order) == number(4);
        match Order::decode(order, regex_max_bytes) {
            Ok(order) if is_good => {
                found.kept.push_back(Kept { name: Token::new(name_bytes), order });
            }
            _ => found.is_corrupt = true,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::PurgeScope;

    const LOST: Token = Token::new([9; 16]);

    fn kept(number: u8) -> Kept {
        let scope = PurgeScope::Tags(vec![format!("cat_p_{number}").into()]);
        Kept { name: Token::new([number; 16]), order: Order::Purge { scope, soft: false } }
    }

    fn open(directory: &Path) -> Journal {
        Journal::open(directory, "web-1", 10_000, 1 << 16, LOST).expect("opens")
    }

    fn texts(journal: &Journal) -> Vec<String> {
        let text = |kept: &Kept| String::from_utf8(kept.order.encode()).expect("text");
        journal.waiting.iter().map(text).collect()
    }

    fn file(directory: &Path) -> PathBuf {
        directory.join("purges-web-1.journal")
    }

    #[test]
    fn what_waits_is_there_again_after_a_restart_in_its_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = open(directory.path());
        journal.push(vec![kept(1), kept(2)], LOST).expect("written");
        journal.push(vec![kept(3)], LOST).expect("written");
        drop(journal);
        let mut journal = open(directory.path());
        let want = ["1 hard tags cat_p_1", "1 hard tags cat_p_2", "1 hard tags cat_p_3"];
        assert_eq!(texts(&journal), want);
        journal.delivered(2).expect("noted");
        assert_eq!(texts(&journal), want[2..]);
        journal.delivered(1).expect("noted");
        drop(journal);
        assert!(open(directory.path()).is_empty());
    }

    #[test]
    fn a_torn_end_is_cut_off_and_nothing_else_is_lost() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = open(directory.path());
        journal.push(vec![kept(1), kept(2)], LOST).expect("written");
        drop(journal);
        let content = std::fs::read(file(directory.path())).expect("read");
        for length in content.len() / 2 + 1..content.len() {
            std::fs::write(file(directory.path()), &content[..length]).expect("torn");
            assert_eq!(texts(&open(directory.path())), ["1 hard tags cat_p_1"]);
        }
    }

    #[test]
    fn of_a_corrupt_journal_what_is_good_is_kept_and_the_loss_is_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = open(directory.path());
        journal.push(vec![kept(1), kept(2)], LOST).expect("written");
        drop(journal);
        let mut content = std::fs::read(file(directory.path())).expect("read");
        content[HEAD_BYTES + 3] ^= 1;
        std::fs::write(file(directory.path()), &content).expect("corrupted");
        let want = ["1 hard tags cat_p_2", "1 soft lost "];
        assert_eq!(texts(&open(directory.path())), want);
        assert_eq!(texts(&open(directory.path())), want, "it was written anew");
    }

    #[test]
    fn a_full_journal_says_that_purges_were_lost() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = open(directory.path());
        let lost = (0..100).find(|_| journal.push(vec![kept(1)], LOST).expect("written"));
        assert!(lost.is_some());
        assert_eq!(texts(&journal), ["1 soft lost "]);
        assert!(!journal.push(vec![kept(2)], LOST).expect("written"), "there is room again");
        drop(journal);
        assert_eq!(texts(&open(directory.path())), ["1 soft lost ", "1 hard tags cat_p_2"]);
    }

    #[test]
    fn two_processes_do_not_share_a_journal() {
        let directory = tempfile::tempdir().expect("a directory");
        let _first = open(directory.path());
        let second = Journal::open(directory.path(), "web-1", 10_000, 1 << 16, LOST);
        assert!(matches!(second, Err(JournalError::Taken { .. })));
        assert!(Journal::open(directory.path(), "web-2", 10_000, 1 << 16, LOST).is_ok());
    }

    proptest! {
        #[test]
        fn no_content_makes_the_reader_panic(content: Vec<u8>, cut in 0_usize..200) {
            let _ = read(&content, 1 << 10);
            let mut good = Vec::new();
            write_record(&mut good, &kept(1));
            good.truncate(cut);
            good.extend(content);
            let _ = read(&good, 1 << 10);
        }
    }
}
