//! Who gets a message that was published.

use std::rc::Rc;
use std::time::Duration;

use crate::journal::{Address, Kept, Record};
use crate::mqtt::{Publish, Qos};
use crate::topic::{self, Way};

use super::{Act, BROKER, CLOUD, Core, Decided, FromPeer, Message, Now, QueueId, TWIN};

/// One who is to have a message.
struct Receiver {
    queue: QueueId,
    qos: Qos,
    retain: bool,
    /// Whether its queue survives this process.
    durable: bool,
}

impl Core {
    /// Takes a message that a client published. Tells whether there was room for it; one with QoS 0
    /// that finds none is dropped.
    pub(super) fn publish_from_client(
        &mut self,
        from: QueueId,
        packet: &Publish,
        now: Now,
        out: &mut Decided,
    ) -> bool {
        let message = self.message(now, packet);
        let way = self.way(&packet.topic).map(|way| if way == Way::Twin { TWIN } else { CLOUD });
        let has_room = self.has_room(way, &message);
        if !has_room && packet.qos > Qos::AtMostOnce {
            return false;
        }
        self.counts.dropped += u64::from(!has_room);
        let node = way.filter(|_| has_room).map(|queue| Receiver {
            queue,
            qos: packet.qos,
            retain: false,
            durable: packet.qos > Qos::AtMostOnce,
        });
        self.hand_out(node, Some(from), &message, now, out);
        true
    }

    /// Takes a message that the external broker sent: it has all filters of the node.
    pub(super) fn publish_from_broker(
        &mut self,
        packet: &Publish,
        now: Now,
        out: &mut Decided,
    ) -> bool {
        let message = self.message(now, packet);
        let queue = if topic::way(&packet.topic) == Way::Twin { TWIN } else { CLOUD };
        if !self.has_room(Some(queue), &message) {
            let is_droppable = packet.qos == Qos::AtMostOnce;
            self.counts.dropped += u64::from(is_droppable);
            return is_droppable;
        }
        let durable = packet.qos > Qos::AtMostOnce;
        let receiver = Receiver { queue, qos: packet.qos, retain: false, durable };
        self.enqueue(vec![receiver], &message, false, now, out);
        true
    }

    /// Takes a message of the cloud or of devicetwin. Tells whether there was room for it.
    pub(super) fn publish_from_peer(
        &mut self,
        now: Now,
        from: &FromPeer,
        out: &mut Decided,
    ) -> bool {
        let packet = Publish {
            dup: false,
            qos: self.settings.qos,
            retain: self.settings.retain,
            topic: from.topic.clone(),
            id: 0,
            payload: from.payload.clone(),
            expiry: None,
            properties: bytes::Bytes::new(),
        };
        let message = self.message(now, &packet);
        let broker = self.settings.external.then_some(BROKER);
        if !self.has_room(broker, &message) {
            return false;
        }
        // The external broker gets it with QoS 1, whatever the clients of this one get.
        let (qos, durable) = (Qos::AtLeastOnce, true);
        let broker = broker.map(|queue| Receiver { queue, qos, retain: false, durable });
        self.hand_out(broker, None, &message, now, out);
        out.then.push(Act::Settle(from.token));
        true
    }

    fn has_room(&self, queue: Option<QueueId>, message: &Message) -> bool {
        let queue = queue.and_then(|queue| self.queue(queue));
        queue.is_none_or(|queue| queue.has_room(message.size()))
    }

    fn message(&mut self, now: Now, packet: &Publish) -> Message {
        Message {
            sequence: self.sequence + 1,
            topic: packet.topic.clone(),
            payload: packet.payload.clone(),
            qos: packet.qos,
            retain: packet.retain,
            properties: packet.properties.clone(),
            born: now.steady,
            expires: packet
                .expiry
                .and_then(|expiry| now.steady.checked_add(Duration::from_secs(expiry.into()))),
        }
    }

    /// Hands a message to `node`, to the sessions that subscribed to it, and keeps it.
    fn hand_out(
        &mut self,
        node: Option<Receiver>,
        from: Option<QueueId>,
        message: &Message,
        now: Now,
        out: &mut Decided,
    ) {
        let mut receivers: Vec<Receiver> = node.into_iter().collect();
        for (id, session) in &mut self.sessions {
            let Some(options) = session.wants(&message.topic, Some(*id) == from) else { continue };
            let qos = options.qos.min(message.qos);
            if session.connection.is_none() && qos == Qos::AtMostOnce {
                continue;
            }
            if !session.queue.has_room(message.size()) {
                self.counts.overflowed += 1;
                continue;
            }
            let retain = options.retain_as_published && message.retain;
            let durable = session.expiry > 0 && qos > Qos::AtMostOnce;
            receivers.push(Receiver { queue: *id, qos, retain, durable });
        }
        let kept = message.retain && self.keep(message);
        self.enqueue(receivers, message, kept, now, out);
    }

    /// Tells whether a message may be kept for later subscribers; an empty one ends that.
    fn keep(&mut self, message: &Message) -> bool {
        let has_room = self.retained.len() < self.settings.retained
            || self.retained.contains_key(&message.topic);
        self.counts.overflowed += u64::from(!has_room);
        has_room || message.payload.is_empty()
    }

    fn enqueue(
        &mut self,
        receivers: Vec<Receiver>,
        message: &Message,
        kept: bool,
        now: Now,
        out: &mut Decided,
    ) {
        if receivers.is_empty() && !kept {
            return;
        }
        self.sequence += 1;
        let message = Rc::new(Message { retain: kept, ..message.share() });
        let mut to = Vec::new();
        let queues: Vec<QueueId> = receivers.iter().map(|receiver| receiver.queue).collect();
        for Receiver { queue, qos, retain, durable } in receivers {
            let Some(entries) = self.queue_mut(queue) else { continue };
            let id = entries.push(Rc::clone(&message), qos, retain);
            if durable {
                to.push(Address { queue, id, qos, retain });
            }
        }
        if !to.is_empty() || kept {
            out.records.push(Record::Message(written(&message, to, now)));
        }
        if kept && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if kept {
            self.retained.insert(message.topic.clone(), Rc::clone(&message));
        }
        for queue in queues {
            self.pump(queue, now, out);
        }
    }

    /// Gives a session what is kept of the topics that a filter takes.
    pub(super) fn give_retained(
        &mut self,
        queue: QueueId,
        filter: &str,
        qos: Qos,
        now: Now,
        out: &mut Decided,
    ) {
        let found: Vec<Rc<Message>> = self
            .retained
            .values()
            .filter(|kept| topic::matches(filter, &kept.topic) && !kept.is_over(now.steady))
            .cloned()
            .collect();
        for kept in found {
            let qos = qos.min(kept.qos);
            let Some(session) = self.sessions.get(&queue) else { return };
            if !session.queue.has_room(kept.size()) {
                self.counts.overflowed += 1;
                continue;
            }
            let durable = session.expiry > 0 && qos > Qos::AtMostOnce;
            let message = Message { sequence: self.sequence + 1, ..kept.share() };
            let receiver = Receiver { queue, qos, retain: true, durable };
            self.enqueue(vec![receiver], &message, false, now, out);
        }
    }
}

impl Message {
    /// Makes another of the same body.
    fn share(&self) -> Self {
        Self {
            sequence: self.sequence,
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            qos: self.qos,
            retain: self.retain,
            properties: self.properties.clone(),
            born: self.born,
            expires: self.expires,
        }
    }
}

/// Makes the record of a message.
pub(super) fn written(message: &Message, to: Vec<Address>, now: Now) -> Kept {
    let age = millis(now.steady.saturating_duration_since(message.born));
    let left = |at: std::time::Instant| {
        now.unix.saturating_add(millis(at.saturating_duration_since(now.steady)))
    };
    Kept {
        sequence: message.sequence,
        at: now.unix.saturating_sub(age),
        expires: message.expires.map(left),
        topic: message.topic.clone(),
        qos: message.qos,
        retain: message.retain,
        properties: message.properties.to_vec(),
        to,
        payload: message.payload.clone(),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
