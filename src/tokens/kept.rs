//! Where the secret comes from that signs: from the settings, or a node makes one for itself and keeps it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Signer;
use crate::settings::Settings;

/// The file's name in the directory where what is stored is kept.
const NAME: &str = "tokens.secret";

/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;

/// Whoever else may read or write it.
const OTHERS: u32 = 0o077;

/// Where a secret comes from.
#[derive(Debug)]
pub enum Source {
    /// It is a setting of its own.
    Given,
    /// It is the fleet's.
    Fleet,
    /// This node has made it, and keeps it in this directory.
    Kept(PathBuf),
    /// This process has made it: nothing that it signs outlives it. Why it is not kept, where it should be.
    Process(Option<NotKept>),
}

impl Source {
    /// Do other nodes, where there are some, know it?
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Given | Self::Fleet)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => formatter.write_str("given"),
            Self::Fleet => formatter.write_str("fleet.secret"),
            Self::Kept(directory) => write!(formatter, "kept in {}", directory.display()),
            Self::Process(None) => {
                formatter.write_str("of this process, since store.snapshot_directory is unset")
            }
            Self::Process(Some(why)) => write!(formatter, "of this process, since {why}"),
        }
    }
}

/// What signs for clients: by the secret that was given for it, else by the fleet's, else by one that is made and kept where
/// snapshots are, else by one of this process. What those given as `earlier` have signed is opened as well.
pub fn signer(given: &str, earlier: &[String], settings: &Settings) -> (Signer, Source) {
    let (fleet, directory) = (&settings.fleet.peers.secret, &settings.store.snapshot_directory);
    let (secret, source) = if !given.is_empty() {
        (given.as_bytes().to_vec(), Source::Given)
    } else if !fleet.is_empty() {
        (fleet.as_bytes().to_vec(), Source::Fleet)
    } else if directory.as_os_str().is_empty() {
        (Vec::new(), Source::Process(None))
    } else {
        match secret_in(directory) {
            Ok(secret) => (secret, Source::Kept(directory.clone())),
            Err(why) => (Vec::new(), Source::Process(Some(why))),
        }
    };
    let signer = Signer::new(&secret);
    (earlier.iter().fold(signer, |signer, earlier| signer.also_opens(earlier.as_bytes())), source)
}

/// Why no secret is kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not one that was made here.
    #[error("{0} has not the 32 bytes of a secret: delete it, and another one is made")]
    Length(PathBuf),
    /// It is no secret.
    #[error("{0} can be read or changed by others than its owner (chmod 600)")]
    Open(PathBuf),
}

/// The secret that is kept in this directory; where there is none yet it is made, for its owner alone (mode 0600). Of two
/// processes that make one at the same time both get the same.
///
/// # Errors
/// [`NotKept`]. What is there is never replaced: it may be what others have signed with.
pub fn secret_in(directory: &Path) -> Result<Vec<u8>, NotKept> {
    let path = directory.join(NAME);
    let failed = |source| NotKept::Io { path: path.clone(), source };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(directory, &path).map_err(failed)?;
            File::open(&path).map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.mode() & OTHERS != 0 {
        return Err(NotKept::Open(path));
    }
    let mut secret = Vec::with_capacity(SECRET_BYTES + 1);
    file.take(SECRET_BYTES as u64 + 1).read_to_end(&mut secret).map_err(failed)?;
    if secret.len() == SECRET_BYTES { Ok(secret) } else { Err(NotKept::Length(path)) }
}

/// Written beside it, and put in its place only where nothing is there by then.
fn make(directory: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    // Its error names the file beside, by a name that says nothing to anybody.
    let mut beside = tempfile::NamedTempFile::new_in(directory)
        .map_err(|error| io::Error::from(error.kind()))?;
    beside.write_all(&crate::random::bytes::<SECRET_BYTES>())?;
    beside.as_file().sync_all()?;
    match beside.persist_noclobber(path) {
        // The name is to outlive a loss of power, too.
        Ok(_) => File::open(directory)?.sync_all(),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = secret_in(directory.path()).expect("made");
        assert_eq!(made.len(), SECRET_BYTES);
        assert_eq!(secret_in(directory.path()).expect("read"), made);
        let file = fs::metadata(directory.path().join(NAME)).expect("there");
        assert_eq!(file.mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(directory.path()).expect("a directory").count(),
            1,
            "nothing beside"
        );
        let other = tempfile::tempdir().expect("a directory");
        assert_ne!(secret_in(other.path()).expect("made"), made);
    }

    #[test]
    fn who_comes_second_takes_what_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = secret_in(directory.path()).expect("made");
        make(directory.path(), &directory.path().join(NAME)).expect("another was first");
        assert_eq!(secret_in(directory.path()).expect("read"), made);
    }

    #[test]
    fn what_is_no_secret_is_not_used_and_not_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(NAME);
        secret_in(directory.path()).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(secret_in(directory.path()), Err(NotKept::Open(_))));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        for wrong in [0, SECRET_BYTES - 1, SECRET_BYTES + 1] {
            fs::write(&path, vec![7; wrong]).expect("written");
            assert!(matches!(secret_in(directory.path()), Err(NotKept::Length(_))), "{wrong}");
            assert_eq!(fs::read(&path).expect("there").len(), wrong);
        }
        assert!(matches!(secret_in(&path), Err(NotKept::Io { .. })), "a file is no directory");
    }

    #[test]
    fn the_secret_is_the_first_that_there_is() {
        let purpose = crate::tokens::Purpose::Challenge;
        let opens = |signer: &Signer, secret: &[u8]| {
            let token = Signer::new(secret).sign(purpose, b"payload");
            signer.open(purpose, token.as_bytes()).is_some()
        };
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = Settings::default();
        let (_, source) = signer("", &[], &settings);
        assert!(matches!(source, Source::Process(None)), "{source}");
        settings.store.snapshot_directory = directory.path().join("made");
        let (kept, source) = signer("", &[], &settings);
        assert!(matches!(source, Source::Kept(_)) && !source.is_shared(), "{source}");
        assert!(opens(&kept, &secret_in(&settings.store.snapshot_directory).expect("kept")));
        settings.fleet.peers.secret = "of the fleet".to_owned();
        let (fleet, source) = signer("", &[], &settings);
        assert!(matches!(source, Source::Fleet) && opens(&fleet, b"of the fleet"), "{source}");
        let (given, source) = signer("given", &["earlier".to_owned()], &settings);
        assert!(matches!(source, Source::Given) && opens(&given, b"given"), "{source}");
        assert!(opens(&given, b"earlier") && !opens(&given, b"of the fleet"));
        let all = ["first", "second", "third"].map(str::to_owned);
        assert_eq!(all.len(), crate::settings::EARLIER_SECRETS_MAX);
        let (given, _) = signer("given", &all, &settings);
        assert!(all.iter().all(|earlier| opens(&given, earlier.as_bytes())), "all that are taken");
    }

    #[test]
    fn a_secret_that_cannot_be_kept_is_this_processs() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = Settings::default();
        settings.store.snapshot_directory = directory.path().join("file");
        fs::write(&settings.store.snapshot_directory, "").expect("written");
        let (_, source) = signer("", &[], &settings);
        assert!(matches!(source, Source::Process(Some(_))), "{source}");
        assert!(source.to_string().starts_with("of this process, since "), "{source}");
        let why = secret_in(Path::new("/proc/self")).expect_err("nobody makes files there");
        let why = why.to_string();
        assert!(why.starts_with("/proc/self/tokens.secret: ") && !why.contains(".tmp"), "{why}");
    }
}
