//! The folders that a module writes in are there before its process is: a module that is locked in
//! can make nothing outside of them, and an ordinary user nothing in `/etc` or `/var/lib`.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Gid, Uid, chown};

/// Makes the folders that are missing: their owner's to list and to write, everybody's to pass
/// through, because another module's folder may lie below. What is there already is never given
/// away, since an operator may have named any folder; one that the module cannot write in is
/// returned as a sentence that says who owns it.
pub(crate) fn prepare(folders: &[Box<str>], user: Option<(u32, u32)>) -> Vec<String> {
    let prepare = |folder: &str| match make(Path::new(folder), user) {
        Err(error) => Some(format!("{folder} cannot be made: {error}")),
        Ok(None) => None,
        Ok(Some(owner)) => {
            let (uid, _) = user?;
            Some(format!("{folder} belongs to user {owner}, expected user {uid}, who runs it"))
        }
    };
    folders.iter().filter_map(|folder| prepare(folder)).collect()
}

/// Makes one folder; returns the owner of one that is there and that `user` does not own.
fn make(folder: &Path, user: Option<(u32, u32)>) -> io::Result<Option<u32>> {
    if let Ok(metadata) = folder.metadata() {
        let stranger = |(uid, _): &(u32, u32)| *uid != metadata.uid();
        return Ok(user.filter(stranger).map(|_| metadata.uid()));
    }
    if let Some(parent) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    DirBuilder::new().mode(0o711).create(folder)?;
    if let Some((uid, gid)) = user {
        chown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_made_for_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        let named: Box<str> = folder.to_str().unwrap().into();
        assert_eq!(prepare(std::slice::from_ref(&named), None), [""; 0]);
        assert_eq!(folder.metadata().unwrap().mode() & 0o777, 0o711);
        assert_eq!(prepare(&[named], None), [""; 0]);
    }

    #[test]
    fn a_folder_of_somebody_else_stays_theirs_and_is_named() {
        let root = tempfile::tempdir().unwrap();
        let owner = root.path().metadata().unwrap().uid();
        let folder: Box<str> = root.path().to_str().unwrap().into();
        let said = prepare(std::slice::from_ref(&folder), Some((owner + 1, owner + 1)));
        let expected = owner + 1;
        assert_eq!(
            said,
            [format!("{folder} belongs to user {owner}, expected user {expected}, who runs it")]
        );
        assert_eq!(root.path().metadata().unwrap().uid(), owner);
    }

    #[test]
    fn a_folder_below_a_file_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let folder = file.path().join("store");
        let said = prepare(&[folder.to_str().unwrap().into()], None);
        assert!(said[0].contains("cannot be made: "), "{said:?}");
    }
}
