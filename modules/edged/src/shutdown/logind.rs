//! systemd's logind: it tells of a shutdown, and waits with it as long as somebody holds it back.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;

use super::Places;
use crate::bus::{BUS, Body, Bus, SYSTEMD, Target, Trouble};

const LOGIND: Target = Target {
    peer: "org.freedesktop.login1",
    object: "/org/freedesktop/login1",
    interface: "org.freedesktop.login1.Manager",
};

/// The signal that comes when a shutdown begins, and when it does not happen after all. Anybody on the
/// host can send one to us, so it says no more than that logind is to be asked.
const SIGNAL: &str = "PrepareForShutdown";

/// SIGHUP, at which logind reads its files again.
const READ_AGAIN: i32 = 1;

/// The connection to logind.
pub(super) struct Logind {
    bus: Bus,
    /// What holds a shutdown back while it is open.
    lock: Option<OwnedFd>,
    /// Whether the host shuts down, as far as it was told on.
    leaves: bool,
}

impl Logind {
    /// Has shutdowns wait; when logind lets them wait for less than `seconds`, it is told to wait longer.
    ///
    /// # Errors
    /// When there is no logind, or it does not let this process do it.
    pub(super) async fn begin(places: &Places, seconds: u64) -> Result<Self, Trouble> {
        let mut bus = Bus::shared(&places.bus).await?;
        let mut rule = Body::default();
        let (peer, interface) = (LOGIND.peer, LOGIND.interface);
        rule.text(&format!(
            "type='signal',sender='{peer}',interface='{interface}',member='{SIGNAL}'"
        ));
        bus.call(BUS, "AddMatch", rule).await?;
        if longest(&mut bus).await? < seconds {
            let written = write(places, seconds);
            written.map_err(|error| {
                Trouble::Broken(format!("cannot write {}: {error}", places.file.display()))
            })?;
            let mut signal = Body::default();
            signal.text("systemd-logind.service");
            signal.text("all");
            signal.number(READ_AGAIN);
            bus.call(SYSTEMD, "KillUnit", signal).await?;
            let now = longest(&mut bus).await?;
            if now < seconds {
                return Err(Trouble::Broken(format!(
                    "its InhibitDelayMaxSec is {now} s, expected {seconds} s as in {}",
                    places.file.display()
                )));
            }
        }
        let mut logind = Self { bus, lock: None, leaves: false };
        // One that is on already is told of at once, and cannot be held back any more.
        if !logind.is_leaving().await? {
            logind.hold().await?;
        }
        Ok(logind)
    }

    /// Holds shutdowns back, from now on.
    ///
    /// # Errors
    /// When logind refuses.
    pub(super) async fn hold(&mut self) -> Result<(), Trouble> {
        let mut body = Body::default();
        for text in ["shutdown", "edgecore", "Pods need time to end before the host does", "delay"]
        {
            body.text(text);
        }
        let answer = self.bus.call(LOGIND, "Inhibit", body).await?;
        let lock = answer.descriptor;
        self.lock = Some(lock.ok_or_else(|| Trouble::Broken("Inhibit gave no lock".to_owned()))?);
        Ok(())
    }

    /// Lets the shutdown go on.
    pub(super) fn release(&mut self) {
        self.lock = None;
    }

    /// Waits until the host begins to shut down, or does not shut down after all.
    ///
    /// # Errors
    /// When the connection broke.
    pub(super) async fn next(&mut self) -> Result<bool, Trouble> {
        loop {
            let now = self.is_leaving().await?;
            if now != self.leaves {
                self.leaves = now;
                return Ok(now);
            }
            while self.bus.signal().await? != SIGNAL {}
        }
    }

    async fn is_leaving(&mut self) -> Result<bool, Trouble> {
        let answer = self.bus.property(LOGIND, "PreparingForShutdown").await?;
        let mut cursor = answer.read();
        let value = cursor.signature().filter(|it| it == "b").and_then(|_| cursor.number());
        let value = value.map(|value| value != 0);
        value.ok_or_else(|| Trouble::Broken("PreparingForShutdown is no yes or no".to_owned()))
    }
}

/// Returns for how many seconds logind lets a shutdown wait.
async fn longest(bus: &mut Bus) -> Result<u64, Trouble> {
    let answer = bus.property(LOGIND, "InhibitDelayMaxUSec").await?;
    let mut cursor = answer.read();
    let micros = cursor.signature().filter(|it| it == "t").and_then(|_| cursor.long());
    let micros = micros.map(|micros| micros / 1_000_000);
    micros.ok_or_else(|| Trouble::Broken("InhibitDelayMaxUSec is no number".to_owned()))
}

/// Writes for how long logind is to let a shutdown wait.
fn write(places: &Places, seconds: u64) -> io::Result<()> {
    if let Some(folder) = places.file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let text = format!(
        "# Written by edgecore: see shutdownGracePeriod of edgecore.yaml.\n[Login]\nInhibitDelayMaxSec={seconds}\n"
    );
    fs::write(&places.file, text)
}
