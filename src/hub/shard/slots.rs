//! The slab of a shard's connections. A slot carries a generation, so that nothing late reaches its
//! next owner.

use super::connection::Connection;
use crate::hub::message::ConnectionId;
use crate::hub::origins::Origin;

/// A slab of connections with generations.
pub struct Slots<S> {
    entries: Vec<Entry<S>>,
    /// Entries without a connection; the last freed is used first, while its memory is warm.
    free: Vec<u32>,
}

struct Entry<S> {
    generation: u32,
    /// Where the connection's address is counted. It stands here, in what would be padding.
    origin: Option<Origin>,
    connection: Option<Connection<S>>,
}

impl<S> Slots<S> {
    /// An empty slab.
    pub fn new() -> Self {
        Slots { entries: Vec::new(), free: Vec::new() }
    }

    /// Puts a connection into a free slot. `None` when four billion are taken.
    pub fn insert(&mut self, connection: Connection<S>) -> Option<ConnectionId> {
        if let Some(slot) = self.free.pop() {
            let entry = self.entries.get_mut(slot as usize)?;
            entry.connection = Some(connection);
            return Some(ConnectionId { slot, generation: entry.generation });
        }
        let slot = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Entry { generation: 0, origin: None, connection: Some(connection) });
        Some(ConnectionId { slot, generation: 0 })
    }

    /// The connection, if it is still this one.
    pub fn get(&self, id: ConnectionId) -> Option<&Connection<S>> {
        let entry = self.entries.get(id.slot as usize)?;
        if entry.generation == id.generation { entry.connection.as_ref() } else { None }
    }

    /// The connection, if it is still this one.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation == id.generation { entry.connection.as_mut() } else { None }
    }

    /// Says where the connection's address is counted from now on, and returns where it was.
    pub fn replace_origin(&mut self, id: ConnectionId, origin: Option<Origin>) -> Option<Origin> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        std::mem::replace(&mut entry.origin, origin)
    }

    /// Takes the connection out and ages its slot.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Connection<S>> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let connection = entry.connection.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(connection)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// How many slots there are, taken or not.
    pub fn capacity(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The connection in a slot, if there is one.
    pub fn occupant(&self, slot: u32) -> Option<ConnectionId> {
        let entry = self.entries.get(slot as usize)?;
        entry.connection.as_ref()?;
        Some(ConnectionId { slot, generation: entry.generation })
    }
}
