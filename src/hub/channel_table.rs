//! A table by channel with numbered places: values lie dense in a slab, channels are found through
//! an index of four bytes each. A million users have four channels each, twice: what an entry costs
//! is what a client costs.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::hub::stream::Channel;

/// A table by channel. A place keeps its number until it is released.
#[derive(Debug)]
pub struct ChannelTable<V> {
    /// By number; released ones are used again.
    places: Vec<Option<(Channel, V)>>,
    /// Numbers of released places.
    free: Vec<u32>,
    /// Channel → number. Holds exactly the numbers of places that are taken.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<V> Default for ChannelTable<V> {
    fn default() -> Self {
        ChannelTable {
            places: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<V> ChannelTable<V> {
    /// The number of a channel's place.
    pub fn find(&self, channel: &Channel) -> Option<u32> {
        let hash = self.hasher.hash_one(channel);
        let holds = |at: &u32| self.get(*at).is_some_and(|(held, _)| held == channel);
        self.index.find(hash, holds).copied()
    }

    /// What lies at a place.
    pub fn get(&self, at: u32) -> Option<(&Channel, &V)> {
        let (channel, value) = self.places.get(at as usize)?.as_ref()?;
        Some((channel, value))
    }

    /// What lies at a place.
    pub fn get_mut(&mut self, at: u32) -> Option<(&Channel, &mut V)> {
        let (channel, value) = self.places.get_mut(at as usize)?.as_mut()?;
        Some((channel, value))
    }

    /// Takes a place for a channel that has none.
    pub fn insert(&mut self, channel: Channel, value: V) -> u32 {
        let hash = self.hasher.hash_one(&channel);
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = Some((channel, value));
                at
            }
            None => {
                self.places.push(Some((channel, value)));
                (self.places.len() - 1) as u32
            }
        };
        let (places, hasher) = (&self.places, &self.hasher);
        let rehash = |at: &u32| match places.get(*at as usize) {
            Some(Some((channel, _))) => hasher.hash_one(channel),
            _ => 0,
        };
        self.index.insert_unique(hash, at, rehash);
        at
    }

    /// Releases a place.
    pub fn release(&mut self, at: u32) {
        let Some(place) = self.places.get_mut(at as usize) else { return };
        let Some((channel, _)) = place.take() else { return };
        let hash = self.hasher.hash_one(&channel);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == at) {
            found.remove();
        }
        self.free.push(at);
    }

    /// How many places there are, taken or released: numbers are below it.
    pub fn places(&self) -> u32 {
        self.places.len() as u32
    }

    /// How many channels have a place.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// No channel has a place.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// All values.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.places.iter_mut().flatten().map(|(_, value)| value)
    }
}
