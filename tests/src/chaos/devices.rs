//! Chaos among devices and messages: 500 a second with QoS 1, through both brokers and a mapper, while
//! modules, mosquitto and the mapper are killed and the cloud goes away and comes back. In the end
//! the cloud has all that was acknowledged: each message, in order on its topic; and of each property
//! the value reported last, its versions never having gone back.
//!
//! What mosquitto acknowledged and had not yet saved when it was killed is lost by mosquitto itself. It
//! saves at each change here, so that this can be no more than the client had under way.

pub(super) mod ledger;
mod mapper;

use std::fmt;
use std::path::Path;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_proto::Module;
use minicloud::fault::Fault;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Options;
use super::schedule::{Bag, Dice};
use crate::rig::bus::{Mode, Place};
use crate::rig::devices::{device, model, report_of_all};
use crate::rig::mqtt::{WINDOW, Writer};
use crate::rig::{process, wait_until};
use ledger::Ledger;
use mapper::Process;

pub use mapper::play;

/// Messages a second, of all kinds.
const RATE: u64 = 500;

/// Topics of each broker.
const TOPICS: u64 = 4;

/// The pause between two blows.
const CALM: Duration = Duration::from_millis(400);

/// How long everything may take to come through after the last blow.
const REST: Duration = Duration::from_secs(120);

/// The device that an application reports for, and the one that the mapper does.
const DEVICES: [&str; 2] = ["sensor1", "sensor2"];

/// What mosquitto does with what it has: it saves at each change.
const SAVING: &str = "autosave_on_changes true\nautosave_interval 1";

/// Something that goes wrong, or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// SIGKILL for a module.
    Kill(Module),
    /// The cloud is away for a while.
    Cloud,
    /// The cloud wants another value of a device.
    Want,
    /// SIGKILL for mosquitto.
    KillBroker,
    /// mosquitto is ended as an operator does it.
    EndBroker,
    /// SIGKILL for the mapper.
    KillMapper,
}

const BLOWS: [(&str, Blow); 9] = [
    ("eventbus", Blow::Kill(Module::Eventbus)),
    ("devicetwin", Blow::Kill(Module::Devicetwin)),
    ("metamanager", Blow::Kill(Module::Metamanager)),
    ("edgehub", Blow::Kill(Module::Edgehub)),
    ("cloud away", Blow::Cloud),
    ("value wanted", Blow::Want),
    ("mosquitto killed", Blow::KillBroker),
    ("mosquitto ended", Blow::EndBroker),
    ("mapper", Blow::KillMapper),
];

/// What a run came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// How often each thing went wrong.
    pub blows: [(&'static str, u32); 9],
    /// Messages that were published and acknowledged, and reports of devices besides.
    pub acknowledged: [u64; 2],
    /// Messages that came to the cloud, and those of them that came more than once.
    pub arrived: [u64; 2],
    /// Messages that mosquitto lost by itself.
    pub lost_by_mosquitto: u64,
    /// Reports that the cloud was told.
    pub reports: u64,
    /// How long it took after the last blow until all was there.
    pub settled: Duration,
    /// Promises that did not hold.
    pub breaches: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, arrived, lost_by_mosquitto, reports, .. } = self;
        let blows = self.blows.map(|(name, count)| format!("{name} {count}"));
        writeln!(f, "blows: {}", blows.join(", "))?;
        let [messages, reported] = acknowledged;
        let [once, again] = arrived;
        writeln!(
            f,
            "messages: acknowledged={messages} arrived={once} again={again} \
             lost by mosquitto itself={lost_by_mosquitto}"
        )?;
        writeln!(f, "reports of devices: acknowledged={reported} told to the cloud={reports}")?;
        writeln!(f, "all there {:.1} s after the last blow", self.settled.as_secs_f64())?;
        self.breaches.iter().try_for_each(|breach| writeln!(f, "BREACH: {breach}"))?;
        writeln!(f, "{}", if self.breaches.is_empty() { "every promise held" } else { "BROKEN" })
    }
}

/// Runs it. `program` is the one that can play the mapper.
///
/// # Errors
/// When the rig cannot be set up.
pub fn run(options: Options, program: &Path) -> Result<Summary> {
    let mut storm = Storm::start(options, program)?;
    if let Err(breach) = storm.blow(options.time).and_then(|()| storm.settle()) {
        storm.summary.breaches.push(format!("{breach:#}"));
    }
    Ok(storm.finish())
}

/// The node, who writes, and the books.
struct Storm<'a> {
    program: &'a Path,
    place: Place,
    /// A client of the internal broker.
    inner: Writer,
    /// A client of mosquitto.
    outer: Writer,
    mapper: Process,
    dice: Dice,
    /// The blows that are still to fall in this round.
    bag: Bag,
    ledger: Ledger,
    /// The messages that the client of mosquitto was given, in order.
    outside: Vec<(String, u64)>,
    /// What mosquitto had acknowledged when it was killed.
    killed_at: Vec<u64>,
    published: u64,
    messages: u64,
    /// The last number that each device reported.
    last: [u64; 2],
    wanted: u64,
    summary: Summary,
}

impl<'a> Storm<'a> {
    fn start(options: Options, program: &'a Path) -> Result<Self> {
        let place = Place::by(Mode::Both, SAVING, json!({}), |setup| {
            // Every restart is the first one.
            setup.supervisor["restart"] = json!({"stableAfter": "1ms"});
            Ok(())
        })?;
        place.apply(model())?;
        for name in DEVICES {
            place.apply(named(name, 0))?;
        }
        place.wait_for_devices(DEVICES.len() as u64)?;
        let mapper = Process::start(program, &place, DEVICES[1])?;
        let summary = Summary { blows: BLOWS.map(|(name, _)| (name, 0)), ..Summary::default() };
        Ok(Self {
            program,
            inner: Writer::new(place.internal, "inside"),
            outer: Writer::new(place.port(), "outside"),
            place,
            mapper,
            dice: Dice(options.seed),
            bag: Bag::default(),
            ledger: Ledger::default(),
            outside: Vec::new(),
            killed_at: Vec::new(),
            published: 0,
            messages: 0,
            last: [0; 2],
            wanted: 0,
            summary,
        })
    }

    /// Writes and lets blows fall until the time is over, each at least once.
    fn blow(&mut self, time: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut next = begin + CALM;
        while begin.elapsed() < time || self.struck() < BLOWS.len() {
            let due = u64::try_from(begin.elapsed().as_millis())? * RATE / 1000;
            while self.published < due {
                self.published += 1;
                self.publish(self.published)?;
            }
            self.work()?;
            if Instant::now() >= next {
                let chosen = self.bag.draw(&mut self.dice, BLOWS.len());
                self.summary.blows[chosen].1 += 1;
                let (name, blow) = BLOWS[chosen];
                self.strike(blow).with_context(|| format!("cannot strike: {name}"))?;
                next = Instant::now() + CALM;
            }
            park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Counts the blows that fell.
    fn struck(&self) -> usize {
        self.summary.blows.iter().map(|(_, count)| *count as usize).sum()
    }

    /// Publishes a number: of ten, eight are messages and two are reports.
    fn publish(&mut self, number: u64) -> Result<()> {
        let topic = |broker: &str| format!("default/user/{broker}{}", number / 10 % TOPICS);
        match number % 10 {
            0 => self.report(number),
            1 => {
                self.last[1] = number;
                return self.mapper.give(number);
            }
            2..6 => {
                self.messages += 1;
                self.inner.publish(&topic("inside"), &number.to_string());
            }
            _ => {
                self.messages += 1;
                let topic = topic("outside");
                self.outer.publish(&topic, &number.to_string());
                self.outside.push((topic, number));
            }
        }
        Ok(())
    }

    /// Reports a number for the first device, as an application does.
    fn report(&mut self, number: u64) {
        self.last[0] = number;
        let topic = format!("$hw/events/device/default/{}/twin/update", DEVICES[0]);
        self.inner.publish(&topic, &report_of_all(number));
    }

    fn work(&mut self) -> Result<()> {
        self.inner.work();
        self.outer.work();
        self.mapper.look(DEVICES[1]);
        self.ledger.look(&self.place.cloud)
    }

    fn strike(&mut self, blow: Blow) -> Result<()> {
        match blow {
            Blow::Kill(module) => {
                // It may be dead still from the last time.
                if let Ok(pid) = self.place.rig.pid_of(module) {
                    drop(process::signal(pid, Signal::KILL));
                }
                Ok(())
            }
            Blow::Cloud => {
                let down_millis = 300 + self.dice.below(1500);
                self.place.cloud.fault(Fault::Restart { down_millis })
            }
            Blow::Want => {
                self.wanted += 1;
                self.place.apply(named(DEVICES[1], self.wanted))
            }
            Blow::KillBroker | Blow::EndBroker => {
                let mosquitto = self.place.mosquitto.as_mut().context("there is mosquitto")?;
                if blow == Blow::EndBroker {
                    mosquitto.end()?;
                } else {
                    mosquitto.kill()?;
                    // What it still said is in the connection.
                    self.outer.work();
                    self.killed_at.push(self.outer.acknowledged());
                }
                mosquitto.start_again()
            }
            Blow::KillMapper => {
                self.mapper.kill()?;
                self.mapper.look(DEVICES[1]);
                self.mapper.start_again(self.program, &self.place, DEVICES[1])
            }
        }
    }

    /// Waits until everything is where it belongs.
    fn settle(&mut self) -> Result<()> {
        let begin = Instant::now();
        // What a killed mapper had not reported yet it never will.
        self.published += 1;
        self.last[1] = self.published;
        self.mapper.give(self.published)?;
        let mut broken = Ok(());
        let through = wait_until("everything is there", REST, || {
            broken = self.work();
            broken.is_err() || self.is_all_there()
        });
        self.summary.settled = begin.elapsed();
        broken?;
        through.with_context(|| self.evidence())
    }

    fn is_all_there(&self) -> bool {
        self.inner.is_idle()
            && self.outer.is_idle()
            && self.ledger.count() + self.lost_by_mosquitto() >= self.messages
            && (self.wanted == 0 || self.mapper.wanted == self.wanted.to_string())
            && DEVICES.iter().zip(self.last).all(|(name, last)| self.place.has(name, last))
    }

    /// Returns the places of the messages that mosquitto acknowledged and that are missing.
    fn missing(&self) -> impl Iterator<Item = u64> {
        let outside = (0..self.outer.acknowledged()).zip(&self.outside);
        outside.filter(|(_, (topic, number))| !self.ledger.has(topic, *number)).map(|(at, _)| at)
    }

    /// Counts the missing ones that were under way to mosquitto when that was killed.
    fn lost_by_mosquitto(&self) -> u64 {
        let under_way = |at: &u64| {
            self.killed_at.iter().any(|killed| at < killed && *killed <= at + WINDOW as u64)
        };
        self.missing().filter(under_way).count() as u64
    }

    fn evidence(&self) -> String {
        let report = |module| self.place.rig.module(module).ok().and_then(|it| it.report);
        format!(
            "{} messages, {} arrived, {:?} acknowledged; of those through mosquitto these are \
             missing: {:?}; it had acknowledged {:?} when it was killed; last reports {:?} of {:?}, wanted {}, the mapper \
             was told {}; {:?}",
            self.messages,
            self.ledger.count(),
            [self.inner.acknowledged(), self.outer.acknowledged()],
            self.missing().take(32).collect::<Vec<_>>(),
            self.killed_at,
            self.last,
            DEVICES.map(|name| self.place.status_of(name)),
            self.wanted,
            self.mapper.wanted,
            [Module::Eventbus, Module::Devicetwin, Module::Edgehub].map(report),
        )
    }

    fn finish(self) -> Summary {
        let acknowledged = self.inner.acknowledged() + self.outer.acknowledged();
        let reports = acknowledged.saturating_sub(self.messages);
        Summary {
            acknowledged: [self.messages, reports + self.mapper.taken],
            arrived: [self.ledger.count(), self.ledger.again],
            lost_by_mosquitto: self.lost_by_mosquitto(),
            reports: self.ledger.reports,
            ..self.summary
        }
    }
}

/// Makes a device of which the cloud wants a value.
fn named(name: &str, wanted: u64) -> Value {
    let mut object = device();
    object["metadata"]["name"] = json!(name);
    object["spec"]["properties"][0]["desired"]["value"] = json!(wanted.to_string());
    object
}
