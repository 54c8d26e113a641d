//! What is served of the host's logs, and what is not.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn text(folder: &Path, path: &str) -> Result<String, io::ErrorKind> {
    let parts: Vec<String> = path.split('/').map(ToOwned::to_owned).collect();
    match find(folder, &parts).map_err(|error| error.kind())? {
        Found::File(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(|error| error.kind())?;
            Ok(text)
        }
        Found::Folder(names) => Ok(names.join(" ")),
    }
}

#[test]
fn what_everybody_may_read_is_served_and_no_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
    let make = |path: &str, mode: u32| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "said\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    };
    make("apt/history.log", 0o644);
    make("auth.log", 0o640);
    make("private/open.log", 0o644);
    let private = Permissions::from_mode(0o750);
    std::fs::set_permissions(root.join("private"), private).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    symlink("/etc", root.join("folder")).unwrap();
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from(0o644), 0).unwrap();

    assert_eq!(text(root, "apt/history.log").unwrap(), "said\n");
    assert_eq!(text(root, "apt").unwrap(), "history.log");
    for (path, kind) in [
        ("auth.log", io::ErrorKind::PermissionDenied),
        ("private", io::ErrorKind::PermissionDenied),
        ("private/open.log", io::ErrorKind::PermissionDenied),
        ("link", io::ErrorKind::NotFound),
        ("folder/passwd", io::ErrorKind::NotADirectory),
        ("pipe", io::ErrorKind::NotFound),
        ("absent", io::ErrorKind::NotFound),
    ] {
        assert_eq!(text(root, path), Err(kind), "{path}");
    }
    assert_eq!(
        list("/logs", &["a b<".to_owned()]).lines().nth(2),
        Some("<a href=\"/logs/a%20b%3C\">a b&lt;</a>")
    );
}
