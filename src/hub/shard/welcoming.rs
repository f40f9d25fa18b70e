//! The answer that opens a stream is written when the control core has been told what its client
//! wants to hear, and not before: whoever has read it misses nothing of a channel that is
//! subscribed at Redis already.
//!
//! ```text
//!   who is this? ──► registered, answer held ──► wants handed to the mesh ──► answer written
//! ```

use super::Shard;
use super::connection::Socket;
use crate::hub::message::ConnectionId;
use crate::hub::moment::Moment;
use crate::hub::outbox::Frame;

impl<S: Socket> Shard<S> {
    /// Writes what opens streams. Call it when what [`Shard::take_outgoing`] has given is in the
    /// mesh. True if anybody was waiting, which may leave more to tell.
    pub fn welcome(&mut self, now: Moment) -> bool {
        let welcomed = std::mem::take(&mut self.welcomed);
        welcomed.iter().for_each(|id| self.write_held(*id, now));
        !welcomed.is_empty()
    }

    /// Keeps what was put together in the scratch buffer until [`Shard::welcome`]. What follows for
    /// this connection stands behind it.
    pub(super) fn push_welcome(&mut self, id: ConnectionId, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        // Somebody who has not read the answers to earlier requests waits for a socket anyway.
        if connection.outbox.is_some() {
            return self.push_scratch(id, now);
        }
        let answer = Frame::new(self.scratch.clone());
        self.hold(id, &answer, now);
        self.welcomed.push(id);
    }
}
