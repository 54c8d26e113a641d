//! What clients and the external broker say once they are connected.

use crate::journal::Record;
use crate::mqtt::{Packet, Publish, Qos, Reason};
use crate::topic;

use super::session::RECEIVE_MAXIMUM;
use super::{Act, BROKER, ConnectionId, Core, Decided, Now, QueueId, TO_BROKER};

impl Core {
    /// Takes a packet of a client. Tells whether there was room for what it brought.
    ///
    /// # Errors
    /// What the connection ends for.
    pub(super) fn take_of_client(
        &mut self,
        connection: ConnectionId,
        packet: Packet,
        now: Now,
        out: &mut Decided,
    ) -> Result<bool, Reason> {
        let Some(queue) = self.links.get(&connection).map(|link| link.queue) else {
            return Ok(true);
        };
        match packet {
            Packet::Publish(message) => {
                return self.take_publish(connection, queue, &message, now, out);
            }
            Packet::Puback { id, .. } => self.arrived(queue, id, Qos::AtLeastOnce, now, out),
            Packet::Pubrec { id, reason } => self.seen(connection, queue, id, reason, now, out),
            Packet::Pubrel { id, .. } => self.released(connection, queue, id, out),
            Packet::Pubcomp { id, .. } => self.arrived(queue, id, Qos::ExactlyOnce, now, out),
            Packet::Subscribe { identified: true, .. } => return Err(Reason::IDENTIFIERS),
            Packet::Subscribe { id, filters, .. } => {
                self.subscribe(connection, id, filters, now, out);
            }
            Packet::Unsubscribe { id, filters } => self.unsubscribe(connection, id, filters, out),
            Packet::Pingreq => out.now.push(Act::Send(connection, Packet::Pingresp)),
            Packet::Disconnect { reason, session_expiry } => {
                self.goodbye(connection, reason, session_expiry, now, out)?;
            }
            Packet::Auth => return Err(Reason::AUTHENTICATION),
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback { .. }
            | Packet::Unsuback { .. }
            | Packet::Pingresp => return Err(Reason::PROTOCOL),
        }
        Ok(true)
    }

    fn take_publish(
        &mut self,
        connection: ConnectionId,
        queue: QueueId,
        message: &Publish,
        now: Now,
        out: &mut Decided,
    ) -> Result<bool, Reason> {
        if !topic::is_topic(&message.topic) {
            return Err(Reason::TOPIC);
        }
        let user = self.links.get(&connection).map(|link| link.user.clone()).unwrap_or_default();
        let id = message.id;
        if !self.settings.access.may_publish(&user, &message.topic) {
            self.counts.refused += 1;
            let reason = Reason::NOT_AUTHORIZED;
            match message.qos {
                Qos::AtMostOnce => {}
                Qos::AtLeastOnce => {
                    out.then.push(Act::Send(connection, Packet::Puback { id, reason }));
                }
                Qos::ExactlyOnce => {
                    out.then.push(Act::Send(connection, Packet::Pubrec { id, reason }));
                }
            }
            return Ok(true);
        }
        let Some(session) = self.sessions.get(&queue) else { return Ok(true) };
        let is_again = message.qos == Qos::ExactlyOnce && session.received.contains(&id);
        let (known, durable) = (session.received.len(), session.expiry > 0);
        if message.qos == Qos::ExactlyOnce && known >= usize::from(RECEIVE_MAXIMUM) && !is_again {
            return Err(Reason::RECEIVE_MAXIMUM);
        }
        if !is_again && !self.publish_from_client(queue, message, now, out) {
            return Ok(false);
        }
        self.counts.received += u64::from(!is_again);
        let reason = Reason::SUCCESS;
        match message.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                out.then.push(Act::Send(connection, Packet::Puback { id, reason }));
            }
            Qos::ExactlyOnce => {
                if let Some(session) = self.sessions.get_mut(&queue)
                    && session.received.insert(id)
                    && durable
                {
                    out.records.push(Record::Inbound { queue, id });
                }
                out.then.push(Act::Send(connection, Packet::Pubrec { id, reason }));
            }
        }
        Ok(true)
    }

    /// A message has arrived for good.
    fn arrived(&mut self, queue: QueueId, id: u16, qos: Qos, now: Now, out: &mut Decided) {
        let durable = self.is_durable(queue);
        let settled = self.queue_mut(queue).and_then(|entries| entries.settle(id, qos));
        if let Some(entry) = settled
            && durable
        {
            out.records.push(Record::Done { queue, sequence: entry.message.sequence });
        }
        self.pump(queue, now, out);
    }

    /// A message with QoS 2 was seen by a client.
    fn seen(
        &mut self,
        connection: ConnectionId,
        queue: QueueId,
        id: u16,
        reason: Reason,
        now: Now,
        out: &mut Decided,
    ) {
        if reason.is_failure() {
            return self.arrived(queue, id, Qos::ExactlyOnce, now, out);
        }
        let durable = self.is_durable(queue);
        let sequence = self.queue_mut(queue).and_then(|entries| entries.received(id));
        if let Some(sequence) = sequence.filter(|_| durable) {
            out.records.push(Record::Received { queue, sequence });
        }
        // Also when it is not known: a client that asks is told that it may forget it.
        let packet = Packet::Pubrel { id, reason: Reason::SUCCESS };
        out.then.push(Act::Send(connection, packet));
    }

    /// A client will not send a message with QoS 2 again.
    fn released(&mut self, connection: ConnectionId, queue: QueueId, id: u16, out: &mut Decided) {
        let Some(session) = self.sessions.get_mut(&queue) else { return };
        let known = session.received.remove(&id);
        if known && session.expiry > 0 {
            out.records.push(Record::Released { queue, id });
        }
        let reason = if known { Reason::SUCCESS } else { Reason::UNKNOWN_ID };
        out.then.push(Act::Send(connection, Packet::Pubcomp { id, reason }));
    }

    fn is_durable(&self, queue: QueueId) -> bool {
        queue == BROKER || self.sessions.get(&queue).is_some_and(|session| session.expiry > 0)
    }

    /// Takes a packet of the external broker. Tells whether there was room for what it brought.
    pub(super) fn take_of_broker(&mut self, now: Now, packet: Packet, out: &mut Decided) -> bool {
        match packet {
            Packet::Publish(message) => {
                if !self.publish_from_broker(&message, now, out) {
                    return false;
                }
                self.counts.received += 1;
                let (id, reason) = (message.id, Reason::SUCCESS);
                match message.qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => {
                        out.then.push(Act::Send(TO_BROKER, Packet::Puback { id, reason }));
                    }
                    // Not asked for; taken at least once all the same.
                    Qos::ExactlyOnce => {
                        out.then.push(Act::Send(TO_BROKER, Packet::Pubrec { id, reason }));
                    }
                }
            }
            Packet::Pubrel { id, .. } => {
                let reason = Reason::SUCCESS;
                out.then.push(Act::Send(TO_BROKER, Packet::Pubcomp { id, reason }));
            }
            Packet::Puback { id, .. } => self.arrived(BROKER, id, Qos::AtLeastOnce, now, out),
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Pubrec { .. }
            | Packet::Pubcomp { .. }
            | Packet::Subscribe { .. }
            | Packet::Suback { .. }
            | Packet::Unsubscribe { .. }
            | Packet::Unsuback { .. }
            | Packet::Pingreq
            | Packet::Pingresp
            | Packet::Disconnect { .. }
            | Packet::Auth => {}
        }
        true
    }
}
