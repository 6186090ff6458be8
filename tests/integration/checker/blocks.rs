//! What PHP keeps in the object cache of its node: half of the pages are rendered from a block, which is
//! saved, read and cleaned with the commands of Magento's backend, some with its scripts.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use parvis::resp::{Request, Value, decode};

use super::PATIENCE;
use crate::support::redis::Replies;

/// The scripts of `Cm_Cache_Backend_Redis`.
const SAVE: &str = "1617c9fb2bda7d790bb1aaa320c1099d81825e64";
const CLEAN: &str = "39383dcf36d2e71364a666b2a806bc8219cd332d";

/// Between two reads of other things while a block is built: a page asks for dozens.
const BETWEEN_READS: Duration = Duration::from_millis(100);

/// Is this page rendered from a block, and not from the database?
pub fn has(page: usize) -> bool {
    page % 2 == 1
}

/// One request of PHP to the object cache of its node.
pub struct Php {
    stream: UnixStream,
    replies: Replies,
}

impl Php {
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(2 * PATIENCE))?;
        Ok(Self { stream, replies: Replies::default() })
    }

    /// Sends commands together; gives the replies. An error among them is one here, too.
    fn ask(&mut self, commands: &[&[&str]]) -> io::Result<Vec<Value>> {
        let mut bytes = Vec::new();
        for command in commands {
            let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
            bytes.extend_from_slice(Request::pack(&words).raw());
        }
        self.stream.write_all(&bytes)?;
        commands.iter().map(|_| self.reply()).collect()
    }

    fn reply(&mut self) -> io::Result<Value> {
        let reply = self.replies.next(&mut self.stream)?;
        let reply = reply.ok_or(io::ErrorKind::UnexpectedEof)?;
        match decode(&reply).map_err(io::Error::other)? {
            Value::Error(error) => Err(io::Error::other(format!("{error:?}"))),
            value => Ok(value),
        }
    }

    /// The version in a page's block, be it that it is there, or that it is built now. So long take the page
    /// and the building.
    pub fn block(
        &mut self,
        page: usize,
        committed: impl FnOnce() -> u64,
        (takes, build): (Duration, Duration),
    ) -> io::Result<u64> {
        let key = format!("zc:k:block_{page}");
        let found = self.ask(&[&["HGET", &key, "d"]])?;
        let kept = match found.first() {
            Some(Value::Bulk(text)) => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        let version = kept.unwrap_or_else(committed);
        self.work(takes)?;
        if kept.is_none() {
            self.work(build)?;
            self.save(page, version)?;
        }
        Ok(version)
    }

    /// What takes time; the page asks for other things meanwhile.
    fn work(&mut self, takes: Duration) -> io::Result<()> {
        let end = Instant::now() + takes;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(BETWEEN_READS));
            self.ask(&[&["HGET", "zc:k:config", "d"]])?;
        }
    }

    fn save(&mut self, page: usize, version: u64) -> io::Result<()> {
        let (id, tag, data) =
            (format!("block_{page}"), format!("BLOCK_{page}"), version.to_string());
        self.write(&id, &tag, &data, version.is_multiple_of(2))?;
        // As Zend_Cache_Core does: what is not found again is removed.
        let key = format!("zc:k:{id}");
        let found = self.ask(&[&["HGET", &key, "d"]])?;
        if found == [Value::Bulk(data.into())] {
            return Ok(());
        }
        self.ask(&[&["HGET", &key, "t"]])?;
        let sets = [format!("zc:ti:{tag}"), "zc:ti:MAGE".to_owned()];
        self.ask(&[
            &["MULTI"],
            &["UNLINK", &key],
            &["SREM", &sets[0], &id],
            &["SREM", &sets[1], &id],
            &["EXEC"],
        ])
        .map(drop)
    }

    fn write(&mut self, id: &str, tag: &str, data: &str, by_script: bool) -> io::Result<()> {
        let tags = format!("{tag},MAGE");
        if by_script {
            let script = [
                "EVALSHA",
                SAVE,
                "2",
                tag,
                "MAGE",
                "zc:k:",
                "d",
                "t",
                "m",
                "i",
                "zc:tags",
                "zc:ti:",
                "zc:ids",
                id,
                data,
                &tags,
                "1700000000",
                "0",
                "7200",
                "0",
            ];
            return self.ask(&[&script]).map(drop);
        }
        let (key, set) = (format!("zc:k:{id}"), format!("zc:ti:{tag}"));
        let hash = ["HMSET", &key, "d", data, "t", &tags, "m", "1700000000", "i", "0"];
        self.ask(&[
            &["MULTI"],
            &hash,
            &["EXPIRE", &key, "7200"],
            &["SADD", "zc:tags", tag, "MAGE"],
            &["SADD", &set, id],
            &["SADD", "zc:ti:MAGE", id],
            &["EXEC"],
        ])
        .map(drop)
    }

    /// Cleans the tag of a page's block.
    pub fn clean(&mut self, page: usize, by_script: bool) -> io::Result<()> {
        let tag = format!("BLOCK_{page}");
        if by_script {
            let script =
                ["EVALSHA", CLEAN, "1", &tag, "zc:ti:", "zc:k:", "zc:tags", "zc:ids", "0", "5000"];
            return self.ask(&[&script]).map(drop);
        }
        let set = format!("zc:ti:{tag}");
        // What of this tag is of Magento, as its frontend asks.
        let found = self.ask(&[&["SINTER", &set, "zc:ti:MAGE"]])?;
        let keys: Vec<String> = match found.first() {
            Some(Value::Array(ids)) => ids.iter().filter_map(key_of).collect(),
            _ => Vec::new(),
        };
        let mut delete = vec!["DEL"];
        delete.extend(keys.iter().map(String::as_str));
        let (delete_set, forget) = (["DEL", &set], ["SREM", "zc:tags", &tag]);
        let mut commands: Vec<&[&str]> = vec![&["MULTI"]];
        if !keys.is_empty() {
            commands.push(&delete);
        }
        commands.extend([&delete_set[..], &forget, &["EXEC"]]);
        self.ask(&commands).map(drop)
    }
}

fn key_of(id: &Value) -> Option<String> {
    let Value::Bulk(id) = id else { return None };
    Some(format!("zc:k:{}", std::str::from_utf8(id).ok()?))
}
