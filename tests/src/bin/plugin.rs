//! A device plug-in or a storage driver as a process of its own, to be killed. What it is asked is
//! written to its standard output, a line each.

use std::path::Path;

use anyhow::{Context, Result, bail};
use fake_plugins::device::{Manner, PlugIn};
use fake_plugins::storage::Driver;
use tokio::sync::watch;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match words[..] {
            ["device", root, resource, manner] => {
                let manner = Manner::of(manner).context("no such manner")?;
                device(PlugIn::new(Path::new(root), resource, manner)).await
            }
            ["storage", root] => {
                let mut driver = Driver::new(Path::new(root));
                driver.begin()?;
                say(driver.asked.subscribe()).await;
                Ok(())
            }
            _ => bail!("expected 'device ROOT RESOURCE MANNER' or 'storage ROOT'"),
        }
    })
}

/// Registers whenever that was forgotten, as plug-ins do.
async fn device(mut plugin: PlugIn) -> Result<()> {
    tokio::spawn(say(plugin.asked.subscribe()));
    loop {
        match plugin.begin().await {
            Ok(()) => plugin.forgotten().await,
            // Nobody to register with is there yet.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

/// Writes down what is asked, for ever.
async fn say(mut asked: watch::Receiver<Vec<String>>) {
    let mut said = 0;
    while asked.changed().await.is_ok() {
        let lines = asked.borrow_and_update()[said..].to_vec();
        said += lines.len();
        for line in lines {
            #[expect(clippy::print_stdout, reason = "that is what it is for")]
            {
                println!("{line}");
            }
        }
    }
}
