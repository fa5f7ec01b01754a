//! Key files: read only when nobody but their owner can, and never written over.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::seal::{
    Entropy, Key, KeyFault, KeyFileError, KeyLog, KeyRing, KeyRole, Secret, SessionId, format_key,
    format_session, parse_keys, parse_sessions, suite,
};

/// Far more than the most keys with comments need.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// A million sessions.
const CAPTURE_FILE_BYTES_MAX: u64 = 128 << 20;

/// Why a key file was not taken or made. It says nothing of what the file holds.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or written.
    File {
        /// Which.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others than its owner may read or change it.
    Exposed {
        /// Which.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A new key would stand where something is.
    Exists {
        /// Where.
        file: PathBuf,
    },
    /// It does not hold keys.
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        error: KeyFileError,
    },
    /// This build has no cryptography.
    NoSeal,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, error } => write!(f, "key file {}: {error}", file.display()),
            Self::Exposed { file, mode } => write!(
                f,
                "key file {} has mode {mode:04o}: others than its owner can get at it",
                file.display()
            ),
            Self::Exists { file } => write!(f, "{} is there already, and is not overwritten", file.display()),
            Self::Content { file, error } => write!(f, "key file {}: {error}", file.display()),
            Self::NoSeal => f.write_str("this build cannot seal datagrams"),
        }
    }
}

impl std::error::Error for KeyError {}

/// Text that is overwritten when it goes.
struct Wiped(String);

impl Drop for Wiped {
    fn drop(&mut self) {
        #[cfg(feature = "seal")]
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// The keys of a file.
pub fn read_keys(path: &Path) -> Result<KeyRing, KeyError> {
    let bad = |error| KeyError::Content { file: path.to_owned(), error };
    let keys = parse_keys(&read_text(path, FILE_BYTES_MAX)?.0).map_err(bad)?;
    KeyRing::new(suite().ok_or(KeyError::NoSeal)?, keys).map_err(bad)
}

fn read_text(path: &Path, bytes_max: u64) -> Result<Wiped, KeyError> {
    let failed = |error| KeyError::File { file: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    check_mode(path, &file)?;
    let size = file.metadata().map_err(failed)?.len().min(bytes_max);
    // Room for all of it at once: what a text leaves behind when it grows would not be wiped.
    let mut text = Wiped(String::with_capacity(size as usize + 64));
    file.take(size).read_to_string(&mut text.0).map_err(failed)?;
    Ok(text)
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error| KeyError::File { file: path.to_owned(), error };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::Exposed { file: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _file: &File) -> Result<(), KeyError> {
    Ok(())
}

/// Writes a fresh key of this role to a file that is not there yet, readable by its owner only.
pub fn create_key(path: &Path, role: KeyRole) -> Result<(), KeyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { file: path.to_owned() },
        _ => KeyError::File { file: path.to_owned(), error },
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let secret = random_secret().map_err(failed)?;
    let mut file = options.open(path).map_err(failed)?;
    let line = Wiped(format_key(&Key { role, secret }));
    file.write_all(line.0.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Thirty-two bytes of the operating system.
fn random_secret() -> io::Result<Secret> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let secret = Secret::new(bytes);
    #[cfg(feature = "seal")]
    zeroize::Zeroize::zeroize(&mut bytes);
    Ok(secret)
}

/// A key log as a file that only its owner can read: each session's secrets are a line.
#[derive(Debug)]
pub struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    /// Appends to the file, which is made if it is not there.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|error| KeyError::File { file: path.to_owned(), error })?;
        check_mode(path, &file)?;
        Ok(Self(Mutex::new(file)))
    }
}

impl KeyLog for KeyLogFile {
    fn note(&self, id: SessionId, secret: &Secret) {
        let line = Wiped(format_session(id, secret));
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A capture that cannot be read is no reason to end a node.
        file.write_all(line.0.as_bytes()).ok();
    }
}

/// What opens a capture.
#[derive(Debug)]
pub struct CaptureKeys {
    /// For handshakes.
    pub keys: Option<KeyRing>,
    /// For what links carry.
    pub sessions: Vec<(SessionId, Secret)>,
}

/// The keys and the session secrets of a file for reading captures: a key file, a key log, or both in one.
pub fn read_capture_keys(path: &Path) -> Result<CaptureKeys, KeyError> {
    let text = read_text(path, CAPTURE_FILE_BYTES_MAX)?;
    let sessions = parse_sessions(&text.0);
    let is_key = |line: &&str| !line.trim_start().starts_with("session ");
    let keys = Wiped(text.0.lines().filter(is_key).flat_map(|line| [line, "\n"]).collect());
    let bad = |error| KeyError::Content { file: path.to_owned(), error };
    match parse_keys(&keys.0) {
        Err(KeyFileError { fault: KeyFault::Empty, .. }) if !sessions.is_empty() => {
            Ok(CaptureKeys { keys: None, sessions })
        }
        Err(error) => Err(bad(error)),
        Ok(keys) => {
            let keys = KeyRing::new(suite().ok_or(KeyError::NoSeal)?, keys).map_err(bad)?;
            Ok(CaptureKeys { keys: Some(keys), sessions })
        }
    }
}

/// What ephemeral keys of this process are made from.
pub fn random_entropy() -> io::Result<Entropy> {
    random_secret().map(Entropy::new)
}

#[cfg(all(test, unix, feature = "seal"))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("raftgram-keys-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_new_key_is_its_owners_alone_and_is_never_written_over() {
        let folder = folder("new");
        let path = folder.join("key");
        create_key(&path, KeyRole::Cluster).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let before = std::fs::read(&path).unwrap();
        assert!(matches!(create_key(&path, KeyRole::Client), Err(KeyError::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let keys = read_keys(&path).unwrap();
        assert_eq!(keys.list().map(|(role, _)| role).collect::<Vec<_>>(), [KeyRole::Cluster]);
        let hex = std::str::from_utf8(&before[8..72]).unwrap();
        assert!(!format!("{keys:?}").contains(&hex[..8]), "{keys:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_no_error_shows_a_key() {
        let folder = folder("exposed");
        let path = folder.join("key");
        let hex = "5".repeat(64);
        let cases = [
            (
                0o640,
                format!("cluster {hex}\n"),
                "key file FILE has mode 0640: others than its owner can get at it",
            ),
            (
                0o604,
                format!("cluster {hex}\n"),
                "key file FILE has mode 0604: others than its owner can get at it",
            ),
            (
                0o600,
                format!("master {hex}\n"),
                "key file FILE: line 1: a key begins with `cluster` or `client`",
            ),
            (
                0o600,
                format!("# old\n\ncluster {hex}0\n"),
                "key file FILE: line 3: a key is 64 hexadecimal digits",
            ),
            (
                0o600,
                format!("cluster {hex}\nclient {hex}\n"),
                "key file FILE: line 2: this key stands there twice",
            ),
            (0o600, "# nothing\n".to_owned(), "key file FILE: there is no key in it"),
        ];
        for (mode, text, expected) in cases {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = read_keys(&path).unwrap_err().to_string();
            assert_eq!(said.replace(&path.display().to_string(), "FILE"), expected);
            assert!(!said.contains("555"), "{said}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
