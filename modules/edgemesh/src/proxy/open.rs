//! Connections and flows, counted as long as they stand.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::balance::Balancer;
use crate::targets::Target;

/// A connection or flow that counts for its endpoint, as long as this lives.
#[derive(Debug)]
pub(super) struct Open {
    balancer: Rc<RefCell<Balancer>>,
    target: Target,
}

impl Open {
    pub(super) fn new(balancer: &Rc<RefCell<Balancer>>, target: Target) -> Self {
        let balancer = Rc::clone(balancer);
        balancer.borrow_mut().opened(target);
        Self { balancer, target }
    }

    /// Notes that the endpoint was not there after all.
    pub(super) fn failed(&self, now: Instant) {
        self.balancer.borrow_mut().failed(self.target, now);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.balancer.borrow_mut().closed(self.target);
    }
}
