//! A path that cannot leave its root, which its checker alone can build.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a whole path: what Linux takes (`PATH_MAX`), with room for the root before it.
const PATH_BYTES_MAX: usize = 3_072;

/// Bytes of one name: what Linux' file systems take (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Names below each other; Magento's own static files have about twelve.
const DEPTH_MAX: usize = 64;

/// A path relative to the web root: decoded once, of ordinary names alone.
///
/// No name is empty, `.` or `..`, none holds a slash, a backslash, a NUL or another control byte,
/// and lengths and depth are bounded. It says nothing of symbolic links: those are the opener's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SafePath {
    relative: Vec<u8>,
    directory: bool,
}

/// Why a raw path names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafePath {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A percent sign without two hexadecimal digits (RFC 3986 2.1).
    #[error("a percent sign is not followed by two hexadecimal digits")]
    BadEscape,
    /// It holds a NUL.
    #[error("the path holds a NUL")]
    Nul,
    /// Its `..` climb above the root.
    #[error("the path climbs above its root")]
    AboveRoot,
    /// It holds an encoded slash, which readers take apart differently.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// It holds a backslash, which some readers take for a slash.
    #[error("the path holds a backslash")]
    Backslash,
    /// It holds a control byte.
    #[error("the path holds a control byte")]
    Control,
    /// It holds `.` or `..`, raw or encoded.
    #[error("the path holds a dot segment")]
    DotSegment,
    /// A name or the whole is longer than a file system takes.
    #[error("the path is longer than a file system takes")]
    TooLong,
    /// It has more names below each other than are followed.
    #[error("the path is deeper than {DEPTH_MAX} names")]
    TooDeep,
}

impl UnsafePath {
    /// Is the request itself broken, so that the answer is 400? The others name no file, but a
    /// front controller may know what to do with them.
    pub const fn is_malformed(self) -> bool {
        matches!(self, Self::NotAbsolute | Self::BadEscape | Self::Nul | Self::AboveRoot)
    }
}

impl SafePath {
    /// Checks a raw path, without its query. Repeated slashes count as one, as nginx has it.
    pub fn check(raw: &[u8]) -> Result<Self, UnsafePath> {
        let raw = raw.strip_prefix(b"/").ok_or(UnsafePath::NotAbsolute)?;
        let (decoded, mut oddity) = decode(raw)?;
        let mut relative = Vec::with_capacity(decoded.len());
        let mut depth = 0_usize;
        for name in decoded.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match name {
                b"." => oddity = oddity.or(Some(UnsafePath::DotSegment)),
                b".." => {
                    depth = depth.checked_sub(1).ok_or(UnsafePath::AboveRoot)?;
                    oddity = oddity.or(Some(UnsafePath::DotSegment));
                }
                _ => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        oddity = oddity.or(Some(UnsafePath::TooDeep));
                    }
                    if name.len() > NAME_BYTES_MAX {
                        oddity = oddity.or(Some(UnsafePath::TooLong));
                    }
                    if !relative.is_empty() {
                        relative.push(b'/');
                    }
                    relative.extend_from_slice(name);
                }
            }
        }
        if relative.len() > PATH_BYTES_MAX {
            oddity = oddity.or(Some(UnsafePath::TooLong));
        }
        match oddity {
            Some(oddity) => Err(oddity),
            None => Ok(Self { directory: decoded.is_empty() || decoded.ends_with(b"/"), relative }),
        }
    }

    /// The path below the root, without a slash at either end; empty for the root itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.relative
    }

    /// As [`SafePath::as_bytes`], for the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.relative))
    }

    /// Its names from the root down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.relative.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The last name; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        let start = memchr::memrchr(b'/', &self.relative).map_or(0, |at| at + 1);
        &self.relative[start..]
    }

    /// What follows the last dot of the last name, if there is one.
    pub fn extension(&self) -> Option<&[u8]> {
        let name = self.file_name();
        memchr::memrchr(b'.', name).map(|at| &name[at + 1..])
    }

    /// Did it end with a slash? Then it names no regular file.
    pub fn names_directory(&self) -> bool {
        self.directory
    }

    /// The path without its first name, where that is `first`.
    pub fn below(&self, first: &[u8]) -> Option<Self> {
        let rest = self.relative.strip_prefix(first)?;
        match rest.strip_prefix(b"/") {
            Some(rest) => Some(Self { relative: rest.to_vec(), directory: self.directory }),
            None if rest.is_empty() && self.directory => {
                Some(Self { relative: Vec::new(), directory: true })
            }
            None => None,
        }
    }

    /// The path one name deeper, under `first`: the counterpart of [`SafePath::below`].
    #[must_use]
    pub(super) fn under(&self, first: &'static str) -> Self {
        let mut relative = first.as_bytes().to_vec();
        if !self.relative.is_empty() {
            relative.push(b'/');
            relative.extend_from_slice(&self.relative);
        }
        Self { relative, directory: self.directory }
    }

    /// The neighbour whose name has `suffix` at its end, such as `.br`.
    #[must_use]
    pub fn neighbour(&self, suffix: &'static str) -> Self {
        let mut relative = Vec::with_capacity(self.relative.len() + suffix.len());
        relative.extend_from_slice(&self.relative);
        relative.extend_from_slice(suffix.as_bytes());
        Self { relative, directory: self.directory }
    }
}

/// Decodes each escape once, and says what is odd about the result.
fn decode(raw: &[u8]) -> Result<(Vec<u8>, Option<UnsafePath>), UnsafePath> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut oddity = None;
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let mut byte = first;
        if first == b'%' {
            let (digits, tail) = tail.split_first_chunk::<2>().ok_or(UnsafePath::BadEscape)?;
            byte = hexadecimal(digits[0])? << 4 | hexadecimal(digits[1])?;
            rest = tail;
        }
        let odd = match byte {
            0 => return Err(UnsafePath::Nul),
            b'/' if first == b'%' => Some(UnsafePath::EncodedSlash),
            b'\\' => Some(UnsafePath::Backslash),
            byte if byte.is_ascii_control() => Some(UnsafePath::Control),
            _ => None,
        };
        oddity = oddity.or(odd);
        decoded.push(byte);
    }
    Ok((decoded, oddity))
}

fn hexadecimal(digit: u8) -> Result<u8, UnsafePath> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
        .ok_or(UnsafePath::BadEscape)
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_path_is_decoded_once_and_its_slashes_merged() {
        let path = SafePath::check(b"//a%20b//%2541/c%C3%A9.Jpg").expect("safe");
        assert_eq!(path.as_bytes(), "a b/%41/c\u{e9}.Jpg".as_bytes());
        assert_eq!(path.extension(), Some(&b"Jpg"[..]));
        assert_eq!(path.names().count(), 3);
        assert!(!path.names_directory());
        assert!(SafePath::check(b"/a/").expect("safe").names_directory());
        assert!(SafePath::check(b"/").expect("safe").as_bytes().is_empty());
    }

    #[test]
    fn each_trick_has_its_own_refusal() {
        let long_name = [b"/".as_slice(), &[b'a'; 256]].concat();
        let long_path = b"/0123456789".repeat(300);
        let deep = b"/a".repeat(65);
        let table: &[(&[u8], UnsafePath)] = &[
            (b"", UnsafePath::NotAbsolute),
            (b"*", UnsafePath::NotAbsolute),
            (b"etc/passwd", UnsafePath::NotAbsolute),
            (b"/%", UnsafePath::BadEscape),
            (b"/%2", UnsafePath::BadEscape),
            (b"/%zz", UnsafePath::BadEscape),
            (b"/%u002e", UnsafePath::BadEscape),
            (b"/\0", UnsafePath::Nul),
            (b"/x.php%00.jpg", UnsafePath::Nul),
            (b"/..", UnsafePath::AboveRoot),
            (b"/%2e%2e/etc/passwd", UnsafePath::AboveRoot),
            (b"/static/..%2f..%2fetc/passwd", UnsafePath::AboveRoot),
            (b"/a/../../b", UnsafePath::AboveRoot),
            (b"/a/..%2F.%2e/b", UnsafePath::AboveRoot),
            (b"/a%2fb", UnsafePath::EncodedSlash),
            (b"/a%5cb", UnsafePath::Backslash),
            (b"/..\\..\\x", UnsafePath::Backslash),
            (b"/a%0ab", UnsafePath::Control),
            (b"/a%7f", UnsafePath::Control),
            (b"/a/../b", UnsafePath::DotSegment),
            (b"/a/%2E/b", UnsafePath::DotSegment),
            (b"/a/.", UnsafePath::DotSegment),
            (&long_name, UnsafePath::TooLong),
            (&long_path[..], UnsafePath::TooDeep),
            (&deep, UnsafePath::TooDeep),
        ];
        for (raw, refusal) in table {
            let text = String::from_utf8_lossy(raw);
            assert_eq!(SafePath::check(raw), Err(*refusal), "{text}");
        }
        let wide = [b"/".as_slice(), &[b'a'; 250]].concat().repeat(13);
        assert_eq!(SafePath::check(&wide), Err(UnsafePath::TooLong));
    }

    #[test]
    fn dots_that_are_no_dot_segments_are_names() {
        for raw in [&b"/....//x"[..], b"/...", b"/a..b/..c", b"/%252e%252e/x"] {
            assert!(SafePath::check(raw).is_ok(), "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn below_takes_a_whole_name_off() {
        let path = SafePath::check(b"/static/a/b").expect("safe");
        assert_eq!(path.below(b"static").expect("below").as_bytes(), b"a/b");
        assert_eq!(path.below(b"stat"), None);
        assert_eq!(path.below(b"static").expect("below").under("static"), path);
        let bare = SafePath::check(b"/static").expect("safe");
        assert_eq!(bare.below(b"static"), None);
        let directory = SafePath::check(b"/static/").expect("safe");
        assert!(directory.below(b"static").expect("below").as_bytes().is_empty());
    }

    /// Bytes which make tricks likely.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            &b"/"[..],
            b".",
            b"..",
            b"%2e",
            b"%2F",
            b"%5c",
            b"\\",
            b"%00",
            b"%",
            b"%25",
            b"a",
            b"static",
            b"media",
            b"customer",
            b"x.php",
            b".git",
            b"%0a",
            b"\xff",
            b"index.php",
        ]);
        let pieces = prop::collection::vec(piece, 0..24);
        let arbitrary = prop::collection::vec(any::<u8>(), 0..200);
        prop_oneof![
            pieces.prop_map(|pieces| [b"/".as_slice(), &pieces.concat()].concat()),
            arbitrary.prop_map(|bytes| [b"/".as_slice(), &bytes].concat()),
        ]
    }

    proptest! {
        #[test]
        fn a_safe_path_never_leaves_its_root(raw in tricky()) {
            if let Ok(path) = SafePath::check(&raw) {
                prop_assert!(path.as_path().components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(!path.as_path().is_absolute());
                prop_assert!(!path.as_bytes().iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'));
                prop_assert!(path.names().all(|name| name.len() <= NAME_BYTES_MAX));
                prop_assert!(path.names().count() <= DEPTH_MAX);
                prop_assert!(path.as_bytes().len() <= PATH_BYTES_MAX);
            }
        }
    }
}
