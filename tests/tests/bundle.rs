//! `edgectl bundle`: all that helps is in the archive, and nothing secret.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::cloud::Cloud;
use edgecore_tests::rig::operator::{Said, edgectl};
use edgecore_tests::rig::{SOON, Setup, filled, wait_until};
use minicloud::Config;
use rusqlite::Connection;
use serde_json::{Value, json};

/// What must not leave the node.
const BROKER: &str = "br0ker-pass";
const USER: &str = "us3r-pass";
const ACCOUNT: &str = "eyJhbGciOi.eyJhdWQiOi.c2lnbmF0dXJl";
const OBJECT: &str = "b2JqZWN0LXZhbHVl";

/// The greatest archive: far more than a node of this size has to tell.
const MAX: u64 = 2 * 1024 * 1024;

/// Unpacks the archive; returns each file's name and text.
fn unpack(archive: &Path) -> Result<Vec<(String, String)>> {
    let folder = tempfile::tempdir()?;
    let mut tar = Command::new("tar");
    let status = tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path()).status()?;
    ensure!(status.success(), "tar ended with {status}");
    let mut found = Vec::new();
    let mut open = vec![folder.path().to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
            continue;
        }
        let name = path.strip_prefix(folder.path())?.to_string_lossy();
        let name = name.split_once('/').context("all is in one folder")?.1.to_owned();
        found.push((name, fs::read_to_string(&path)?));
    }
    Ok(found)
}

fn part<'a>(parts: &'a [(String, String)], name: &str) -> Result<&'a str> {
    let found = parts.iter().find(|(part, _)| part == name);
    Ok(&found.with_context(|| format!("no {name} in {:?}", parts.iter().map(|it| &it.0)))?.1)
}

#[test]
fn the_archive_has_what_helps_and_nothing_secret() -> Result<()> {
    let cloud = Cloud::start(Config::default())?;
    let mut setup = Setup::new()?.with(json!({"modules": {"eventbus": {
        "mqttUsers": {"screen": {"password": USER}},
    }}}));
    cloud.lead(&mut setup);
    let token = cloud.minicloud().token();
    setup.edgecore["modules"]["eventBus"] = json!({"mqttPassword": BROKER});
    filled::with_token(&setup, ACCOUNT)?;
    let database = setup.edgecore["database"]["dataSource"].as_str().context("a database")?;
    let secret = json!({"metadata": {"name": "s"}, "data": {"key": OBJECT}}).to_string();
    let row = ["default/secret/s", "secret", &secret];
    Connection::open(database)?.execute("INSERT INTO meta VALUES (?1, ?2, ?3)", row)?;
    let rig = setup.start()?;
    let folder = rig.setup().folder.path().to_owned();
    let key = folder.join("certs/server.key");
    wait_until("the node has joined", SOON, || key.exists())?;
    let key = fs::read_to_string(key)?;
    // a careless line of a module, or of a library
    let mut log = fs::File::options().append(true).open(rig.runtime_dir().join("log/edged.log"))?;
    writeln!(log, "logged: {token} {BROKER} {USER} Bearer {ACCOUNT} tcp://me:{OBJECT}@host")?;
    writeln!(log, "{key}the last line")?;

    let archive = folder.join("out.tar.gz");
    let mut command = edgectl(&rig.runtime_dir(), &["bundle"])?;
    command.arg("--output").arg(&archive).arg("--config").arg(folder.join("edgecore.yaml"));
    command.arg("--supervisor-config").arg(folder.join("supervisor.yaml"));
    let said = Said::of(command.arg("--backup").arg(folder.join("none")).output()?)?;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out.trim(), archive.display().to_string());
    assert!(fs::metadata(&archive)?.len() < MAX);
    let parts = unpack(&archive)?;

    let private = key.lines().nth(1).context("a key")?;
    for (name, text) in &parts {
        for gone in [&token[65..], BROKER, USER, ACCOUNT, OBJECT, private] {
            assert!(!text.contains(gone), "{name} has '{gone}'");
        }
    }
    let status: Value = serde_json::from_str(part(&parts, "status.json")?)?;
    assert_eq!(status["node"], "edge1");
    assert!(status["pssBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    assert!(part(&parts, "doctor.json")?.contains("container runtime"));
    let effective = part(&parts, "edgecore.yaml")?;
    assert!(effective.contains("mqttPassword: \"(removed)\""), "{effective}");
    assert!(part(&parts, "supervisor.json")?.contains("\"memoryMax\""));
    let tables: Value = serde_json::from_str(part(&parts, "database.json")?)?;
    let meta = tables.as_array().into_iter().flatten();
    let made = |it: &&Value| it["made"].as_str().is_some_and(|sql| sql.contains("`meta` "));
    let meta = meta.into_iter().find(made).context("no table of objects")?;
    assert!(meta["rows"].as_u64().is_some_and(|rows| rows >= 2), "{tables}");
    assert!(part(&parts, "logs/edged.log")?.contains("\nthe last line\n"));
    assert!(part(&parts, "host.txt")?.contains("MemTotal"));
    let left: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.file_name()).collect();
    let hidden = left.iter().find(|name| name.to_string_lossy().starts_with(".edgecore-bundle"));
    assert_eq!(hidden, None, "the parts are still there");
    Ok(())
}

#[test]
fn a_machine_without_an_agent_has_a_bundle_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("out.tar.gz");
    let mut command = edgectl(&folder.path().join("run"), &["bundle"])?;
    command.arg("--output").arg(&archive).arg("--config").arg(folder.path().join("none.yaml"));
    command.arg("--supervisor-config").arg(folder.path().join("none"));
    let said = Said::of(command.arg("--backup").arg(folder.path().join("none")).output()?)?;
    assert_eq!(said.code, 0, "{said:?}");
    let parts = unpack(&archive)?;
    let status = part(&parts, "status.json")?;
    assert!(status.starts_with("not there: edgecore is not running"), "{status}");
    assert!(part(&parts, "edgecore.yaml")?.starts_with("not there: "));
    Ok(())
}
