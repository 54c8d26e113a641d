//! A whole cloud and whole modules in one value, with time that is given: proptest writes their
//! history, and named invariants are looked at after every step.

mod behaviour;
mod mutations;
mod world;
