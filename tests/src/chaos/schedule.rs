//! What goes wrong when: a pure function of the seed, so that a run can be repeated.

use std::time::Duration;

use ipc_proto::Module;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Kill(Module),
    /// SIGSTOP, which is found by the missing beats.
    Stop(Module),
    /// SIGSEGV.
    Segv(Module),
    /// A broken invariant inside.
    Panic(Module),
    /// The main loop stops turning.
    Hang(Module),
    /// The module's end of the lifeline is closed.
    CloseLifeline(Module),
    /// The supervisor executes itself anew.
    Reload,
    /// All connections of one seat are cut and dialled again.
    Cut(usize),
    /// Rubbish on a module's socket.
    Garbage(Module),
    /// Rubbish on the supervisor's socket.
    GarbageToSupervisor,
}

impl Blow {
    /// Returns the module that does not survive this, if one does not.
    #[must_use]
    pub const fn victim(self) -> Option<Module> {
        match self {
            Self::Kill(module)
            | Self::Stop(module)
            | Self::Segv(module)
            | Self::Panic(module)
            | Self::Hang(module)
            | Self::CloseLifeline(module) => Some(module),
            Self::Reload | Self::Cut(_) | Self::Garbage(_) | Self::GarbageToSupervisor => None,
        }
    }
}

/// A blow and its time, counted from the beginning of the run.
pub type Planned = (Duration, Blow);

/// Writes the schedule of a run, which never ends; who runs it takes as much as there is time for.
pub fn schedule(
    seed: u64,
    victims: &[Module],
    seats: usize,
) -> impl Iterator<Item = Planned> + use<> {
    let victims = victims.to_vec();
    let mut dice = Dice(seed);
    let mut at = Duration::ZERO;
    std::iter::repeat_with(move || {
        at += Duration::from_millis(20 + dice.below(280));
        (at, blow(&mut dice, &victims, seats))
    })
}

/// Draws one blow. Plain kills are the most, as they are the fastest to come back from; whatever
/// is found by missing beats alone takes a module away for seconds, so it is rare.
fn blow(dice: &mut Dice, victims: &[Module], seats: usize) -> Blow {
    let module = victims[dice.index(victims.len())];
    match dice.below(100) {
        0..50 => Blow::Kill(module),
        50..54 => Blow::Stop(module),
        54..62 => Blow::Segv(module),
        62..70 => Blow::Panic(module),
        70..74 => Blow::Hang(module),
        74..80 => Blow::CloseLifeline(module),
        80..84 => Blow::Reload,
        84..92 => Blow::Cut(dice.index(seats)),
        92..97 => Blow::Garbage(module),
        _ => Blow::GarbageToSupervisor,
    }
}

/// A source of numbers that is the same for the same seed on every machine (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Draws any number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number under `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Draws a place in a list of `length`, which is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

/// Draws from a list by chance, each thing once before one comes again.
#[derive(Clone, Debug, Default)]
pub struct Bag(Vec<usize>);

impl Bag {
    /// Draws a place in a list of `length`, which is not 0 and always the same.
    pub fn draw(&mut self, dice: &mut Dice, length: usize) -> usize {
        if self.0.is_empty() {
            self.0.extend(0..length);
        }
        self.0.swap_remove(dice.index(self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same_schedule() {
        let [first, second] =
            [7, 7].map(|seed| schedule(seed, &Module::ALL, 2).take(500).collect::<Vec<_>>());
        assert_eq!(first, second);
        assert_ne!(first, schedule(8, &Module::ALL, 2).take(500).collect::<Vec<_>>());
    }

    #[test]
    fn every_kind_of_blow_and_every_victim_comes() {
        let blows: Vec<Blow> =
            schedule(1, &Module::ALL, 2).take(2000).map(|(_, blow)| blow).collect();
        for module in Module::ALL {
            for blow in [
                Blow::Kill(module),
                Blow::Stop(module),
                Blow::Segv(module),
                Blow::Panic(module),
                Blow::Hang(module),
                Blow::CloseLifeline(module),
                Blow::Garbage(module),
            ] {
                assert!(blows.contains(&blow), "{blow:?}");
            }
        }
        for blow in [Blow::Reload, Blow::Cut(0), Blow::Cut(1), Blow::GarbageToSupervisor] {
            assert!(blows.contains(&blow), "{blow:?}");
        }
    }
}
