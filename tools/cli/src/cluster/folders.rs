//! The data folders of a cluster on one machine, looked at before any process is started.

use std::path::{Path, PathBuf};

use raftgram::run::disk::FolderDisk;
use raftgram::store::{OpenError, inspect};

use crate::error::CliError;
use crate::output::file_error;

/// What a node's folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nothing that counts: no folder, an empty one, or one that was formatted and never founded.
    Blank,
    /// A member's data.
    Founded,
    /// Something that only the node itself can say what is wrong with.
    Unclear,
}

/// The flag that a node is started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It has data.
    AsItIs,
    /// All are blank: they found a cluster together.
    Bootstrap,
    /// Its folder is blank beside founded ones: it lost its data, and must not found again.
    Join,
}

impl Start {
    pub(super) const fn flag(self) -> Option<&'static str> {
        match self {
            Self::AsItIs => None,
            Self::Bootstrap => Some("--bootstrap"),
            Self::Join => Some("--join"),
        }
    }
}

/// Where node `id` keeps its data.
pub(super) fn folder(dir: &Path, id: u16) -> PathBuf {
    dir.join(id.to_string())
}

/// Makes sure that all folders can be made and written, and says what they hold. Leaves nothing behind in them.
pub(super) fn look(dir: &Path, ids: impl Iterator<Item = u16>) -> Result<Vec<Holding>, CliError> {
    ids.map(|id| {
        let folder = folder(dir, id);
        check_writable(&folder)?;
        Ok(holding(&folder))
    })
    .collect()
}

/// How each node is started: a cluster is founded only when nobody has any data.
pub(super) fn plan(holdings: &[Holding]) -> Vec<Start> {
    let nobody_has_data = holdings.iter().all(|holding| *holding == Holding::Blank);
    let start = |holding: &Holding| match holding {
        Holding::Blank if nobody_has_data => Start::Bootstrap,
        Holding::Blank => Start::Join,
        Holding::Founded | Holding::Unclear => Start::AsItIs,
    };
    holdings.iter().map(start).collect()
}

fn holding(folder: &Path) -> Holding {
    let Ok(mut disk) = FolderDisk::open_read_only(folder) else { return Holding::Unclear };
    match inspect::meta(&mut disk) {
        Ok(meta) if meta.record.cluster.is_zero() => Holding::Blank,
        Ok(_) => Holding::Founded,
        Err(OpenError::NotFormatted | OpenError::FormatUnfinished) => Holding::Blank,
        Err(_) => Holding::Unclear,
    }
}

fn check_writable(folder: &Path) -> Result<(), CliError> {
    let fault = |what: &'static str| {
        move |error: std::io::Error| {
            file_error(folder, what, &error).hint("choose another place with --dir, or use --temp")
        }
    };
    std::fs::create_dir_all(folder).map_err(fault("making the data folder"))?;
    tempfile::tempfile_in(folder).map(drop).map_err(fault("writing in the data folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_founded_only_when_nobody_has_data() {
        use Holding::{Blank, Founded, Unclear};
        assert_eq!(plan(&[Blank, Blank, Blank]), [Start::Bootstrap; 3]);
        assert_eq!(plan(&[Founded, Blank, Founded]), [Start::AsItIs, Start::Join, Start::AsItIs]);
        assert_eq!(plan(&[Unclear, Blank]), [Start::AsItIs, Start::Join]);
    }

    #[test]
    fn looking_at_missing_folders_makes_them_and_finds_them_blank() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path(), 1..=2).unwrap(), [Holding::Blank; 2]);
        assert_eq!(std::fs::read_dir(folder(dir.path(), 1)).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(folder(dir.path(), 1), "").unwrap();
        let error = look(dir.path(), 1..=2).unwrap_err();
        assert_eq!(error.address.as_deref(), folder(dir.path(), 1).to_str());
    }
}
