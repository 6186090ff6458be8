//! Opens files below a root, with no way out of it but the links that settings allow.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::origin::web_root::SafePath;

/// `O_NONBLOCK` so that a FIFO does not hold the thread until somebody writes to it.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// A handle that reads nothing and so has no effect on a device.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The last second that an HTTP date can name: the end of the year 9999.
pub(super) const HTTP_DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// The root of the files.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    links: Vec<PathBuf>,
    unreadable_seen: AtomicBool,
    escape_seen: AtomicBool,
}

/// A regular file that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) stamp: Stamp,
}

/// What a file was when it was opened; it must still be that when it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its length in bytes.
    pub(super) length: u64,
    /// When it was modified, in whole seconds since 1970, as an HTTP date can say.
    pub(super) modified_seconds: u64,
    modified_nanoseconds: i64,
}

impl Directory {
    /// The root need not exist yet and may be a link (`current`): it is looked up each time, so
    /// that a release that is switched is seen.
    pub(super) fn new(root: PathBuf, links: Vec<PathBuf>) -> Self {
        Self {
            root,
            links,
            unreadable_seen: AtomicBool::new(false),
            escape_seen: AtomicBool::new(false),
        }
    }

    /// Is the root a directory that can be opened?
    pub(super) fn check(&self) -> io::Result<()> {
        self.open_root().map(drop)
    }

    /// Opens a regular file; `None` where there is none, or none that may be shown.
    pub(super) fn open(&self, path: &SafePath) -> io::Result<Option<Opened>> {
        if path.names_directory() {
            return Ok(None);
        }
        match self.open_below(path.as_path()) {
            Ok(Some(file)) => regular(file),
            Ok(None) => Ok(None),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.report_unreadable(&error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn open_below(&self, path: &Path) -> io::Result<Option<File>> {
        let root = self.open_root()?;
        let resolve = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
        match openat2(&root, path, READ, Mode::empty(), resolve) {
            Ok(file) => Ok(Some(File::from(file))),
            // It leads out of the root or over an absolute link, the tree moved meanwhile, or this
            // kernel or its seccomp filter has no openat2: look where it ends.
            Err(Errno::XDEV | Errno::AGAIN | Errno::NOSYS | Errno::PERM) => {
                self.open_where_allowed(root.as_fd(), path)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Follows links wherever they lead, takes hold of what is there without opening it, asks the
    /// kernel what it is, and only then opens that very file: no race can slip another in between.
    fn open_where_allowed(&self, root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<File>> {
        let handle = openat(root, path, HANDLE, Mode::empty())?;
        let place = place_of(handle.as_fd())?;
        if !self.is_allowed(root, &place)? {
            self.report_escape(&place);
            return Ok(None);
        }
        if regular(File::from(handle.try_clone()?))?.is_none() {
            return Ok(None);
        }
        let file = open(descriptor_path(handle.as_fd()), READ, Mode::empty())?;
        Ok(Some(File::from(file)))
    }

    fn is_allowed(&self, root: BorrowedFd<'_>, place: &Path) -> io::Result<bool> {
        if place.starts_with(place_of(root)?) {
            return Ok(true);
        }
        for link in &self.links {
            // A target that is not there allows nothing.
            if let Ok(target) = open(link, HANDLE, Mode::empty())
                && place.starts_with(place_of(target.as_fd())?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open_root(&self) -> io::Result<OwnedFd> {
        let flags = HANDLE.union(OFlags::DIRECTORY);
        Ok(openat(CWD, &self.root, flags, Mode::empty())?)
    }

    /// Once as a warning: `pub/media` is often a link to a place that `origin.links` must name.
    fn report_escape(&self, place: &Path) {
        let place = place.display();
        if self.escape_seen.swap(true, Ordering::Relaxed) {
            tracing::debug!(%place, "a link leads out of the root");
        } else {
            let root = self.root.display();
            tracing::warn!(
                %place, %root,
                "a link leads out of the root to a place that origin.links does not allow, so its \
                 files are not served (said once)"
            );
        }
    }

    /// Once as a warning, since whoever asks for the file again must not fill the log.
    fn report_unreadable(&self, error: &io::Error) {
        if self.unreadable_seen.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "a file below the root cannot be read");
        } else {
            let root = self.root.display();
            tracing::warn!(%error, %root, "a file below the root cannot be read (said once)");
        }
    }
}

impl Stamp {
    /// What the file is now.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from_metadata(&file.metadata()?))
    }

    fn from_metadata(metadata: &std::fs::Metadata) -> Self {
        let modified_seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        Self {
            length: metadata.len(),
            modified_seconds: modified_seconds.min(HTTP_DATE_SECONDS_MAX),
            modified_nanoseconds: metadata.mtime_nsec(),
        }
    }
}

fn regular(file: File) -> io::Result<Option<Opened>> {
    let metadata = file.metadata()?;
    let stamp = Stamp::from_metadata(&metadata);
    Ok(metadata.is_file().then_some(Opened { file, stamp }))
}

/// Errors that say that no such file can be reached by that name.
fn is_absence(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    // NXIO: a socket, or a device without a driver. INVAL: a name this file system cannot have.
    let absent =
        [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG, Errno::NXIO, Errno::INVAL];
    errno.is_some_and(|errno| absent.contains(&errno))
}

/// Where an open file really lies. The kernel's word, which no rename can make wrong for what was
/// opened.
fn place_of(descriptor: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let place = readlinkat(CWD, descriptor_path(descriptor), Vec::new())?;
    let place = PathBuf::from(std::ffi::OsString::from_vec(place.into_bytes()));
    // Not absolute: it lies in no place that this process can see.
    if place.is_absolute() { Ok(place) } else { Err(Errno::NOENT.into()) }
}

fn descriptor_path(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    struct Tree {
        base: TempDir,
        directory: Directory,
    }

    /// `releases/1/pub` with `current` as a link to the release, `shared` beside it, and
    /// `secret` where no request may get.
    fn tree() -> Tree {
        let base = TempDir::new().expect("directory");
        let at = |name: &str| base.path().join(name);
        for name in ["releases/1/pub/static", "releases/2/pub/static", "shared/media", "secret"] {
            fs::create_dir_all(at(name)).expect("directory");
        }
        fs::write(at("releases/1/pub/static/a.css"), "one").expect("file");
        fs::write(at("releases/2/pub/static/a.css"), "two!").expect("file");
        fs::write(at("shared/media/b.jpg"), "image").expect("file");
        fs::write(at("secret/env.php"), "password").expect("file");
        symlink("releases/1", at("current")).expect("link");
        let directory = Directory::new(at("current/pub"), vec![at("shared")]);
        Tree { base, directory }
    }

    impl Tree {
        fn public(&self, name: &str) -> PathBuf {
            self.base.path().join("releases/1/pub").join(name)
        }

        fn length(&self, target: &str) -> Option<u64> {
            let path = SafePath::check(target.as_bytes()).expect("safe");
            let opened = self.directory.open(&path).expect("no trouble");
            opened.map(|opened| opened.stamp.length)
        }
    }

    #[test]
    fn a_regular_file_is_opened_and_nothing_else() {
        let tree = tree();
        let _socket = UnixListener::bind(tree.public("socket")).expect("socket");
        let fifo = tree.public("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("fifo");
        assert_eq!(tree.length("/static/a.css"), Some(3));
        for target in ["/", "/static", "/static/", "/static/a.css/", "/none", "/static/a.css/x"] {
            assert_eq!(tree.length(target), None, "{target}");
        }
        assert_eq!(tree.length("/socket"), None);
        assert_eq!(tree.length("/fifo"), None);
        assert_eq!(tree.length(&format!("/{}", "x".repeat(255))), None);
    }

    #[test]
    fn a_link_that_stays_inside_is_followed() {
        let tree = tree();
        symlink("static/a.css", tree.public("relative.css")).expect("link");
        symlink("../pub/static", tree.public("out-and-in")).expect("link");
        symlink(tree.public("static"), tree.public("absolute")).expect("link");
        assert_eq!(tree.length("/relative.css"), Some(3));
        assert_eq!(tree.length("/out-and-in/a.css"), Some(3));
        assert_eq!(tree.length("/absolute/a.css"), Some(3));
    }

    #[test]
    fn a_link_to_an_allowed_target_is_followed() {
        let tree = tree();
        symlink("../../../shared/media", tree.public("media")).expect("link");
        symlink(tree.base.path().join("shared/media/b.jpg"), tree.public("b.jpg")).expect("link");
        assert_eq!(tree.length("/media/b.jpg"), Some(5));
        assert_eq!(tree.length("/b.jpg"), Some(5));
        fs::create_dir(tree.base.path().join("shared-not")).expect("directory");
        fs::write(tree.base.path().join("shared-not/x"), "x").expect("file");
        symlink("../../../shared-not/x", tree.public("x")).expect("link");
        assert_eq!(tree.length("/x"), None);
    }

    #[test]
    fn a_link_to_anywhere_else_leads_nowhere() {
        let tree = tree();
        let secret = tree.base.path().join("secret");
        symlink(&secret, tree.public("absolute")).expect("link");
        symlink("../../../secret", tree.public("relative")).expect("link");
        symlink("../../../secret/env.php", tree.public("x.txt")).expect("link");
        symlink("/proc/self/environ", tree.public("environ")).expect("link");
        symlink("/dev/null", tree.public("null")).expect("link");
        symlink("loop", tree.public("loop")).expect("link");
        symlink("nowhere", tree.public("dangling")).expect("link");
        symlink("../../2", tree.public("release")).expect("link");
        fs::create_dir(tree.base.path().join("shared/media/in")).expect("directory");
        symlink("../../../shared/media", tree.public("media")).expect("link");
        symlink(&secret, tree.base.path().join("shared/media/in/out")).expect("link");
        for target in [
            "/absolute/env.php",
            "/relative/env.php",
            "/x.txt",
            "/environ",
            "/null",
            "/loop",
            "/loop/x",
            "/dangling",
            "/release/pub/static/a.css",
            "/media/in/out/env.php",
        ] {
            assert_eq!(tree.length(target), None, "{target}");
        }
    }

    #[test]
    fn without_openat2_the_same_files_are_opened() {
        let tree = tree();
        symlink("static/a.css", tree.public("in.css")).expect("link");
        symlink("../../../secret/env.php", tree.public("out.txt")).expect("link");
        symlink("../../../shared/media", tree.public("media")).expect("link");
        let root = tree.directory.open_root().expect("root");
        let opens = |name: &str| {
            let found = tree.directory.open_where_allowed(root.as_fd(), Path::new(name));
            matches!(found, Ok(Some(_)))
        };
        assert!(opens("static/a.css") && opens("in.css") && opens("media/b.jpg"));
        assert!(!opens("out.txt") && !opens("static") && !opens("none"));
        // Even a path that its checker would refuse finds nothing outside.
        assert!(!opens("../../../secret/env.php") && !opens("/etc/passwd"));
    }

    #[test]
    fn without_the_check_of_the_place_the_secret_would_be_read() {
        let mut tree = tree();
        symlink("../../../secret/env.php", tree.public("x.txt")).expect("link");
        tree.directory.links.push(PathBuf::from("/"));
        assert_eq!(tree.length("/x.txt"), Some(8));
    }

    #[test]
    fn a_release_that_is_switched_is_seen() {
        let tree = tree();
        assert_eq!(tree.length("/static/a.css"), Some(3));
        let next = tree.base.path().join("next");
        symlink("releases/2", &next).expect("link");
        fs::rename(&next, tree.base.path().join("current")).expect("rename");
        assert_eq!(tree.length("/static/a.css"), Some(4));
    }

    #[test]
    fn a_root_that_is_no_directory_is_refused() {
        let tree = tree();
        assert!(tree.directory.check().is_ok());
        let file = tree.public("static/a.css");
        for root in [file, tree.public("none")] {
            assert!(Directory::new(root, Vec::new()).check().is_err());
        }
    }
}
