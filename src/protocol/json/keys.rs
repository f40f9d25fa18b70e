//! Repeated keys of an object: the last value wins, at the place of the first (ECMA-262,
//! `JSON.parse`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// From this many members on, keys are compared through a hash map: comparing each with each would
/// let a message with many keys cost the square of its length.
const COMPARED_MAX: usize = 64;

/// Members for which there is room from the start: a status has some 40, its author some 30 more.
const MEMBERS_USUAL: usize = 96;

/// The members of all objects that are open, the innermost last.
pub(super) struct Members {
    /// `members.len() == hashes.len()`.
    members: Vec<Member>,
    /// A short hash of each key, by itself so that looking for one is a scan of few bytes.
    hashes: Vec<u32>,
    /// Two keys of an open object may be the same.
    suspicion: bool,
}

/// Where a member stands in the new spelling.
#[derive(Clone)]
struct Member {
    /// From the key's first quote to the end of the value.
    place: Range<usize>,
    /// The length of the key, with its quotes.
    key_bytes: usize,
}

impl Members {
    /// None yet.
    pub(super) fn new() -> Members {
        Members {
            members: Vec::with_capacity(MEMBERS_USUAL),
            hashes: Vec::with_capacity(MEMBERS_USUAL),
            suspicion: false,
        }
    }

    /// An object opens: the place where its members will begin.
    pub(super) fn mark(&self) -> usize {
        self.members.len()
    }

    /// A member has been read. `hash` is that of its key, if that needed no new spelling.
    #[inline]
    pub(super) fn add(
        &mut self,
        hash: Option<u32>,
        place: Range<usize>,
        key_bytes: usize,
        mark: usize,
    ) {
        let known = self.hashes.get(mark..).unwrap_or_default();
        if known.len() >= COMPARED_MAX || hash.is_none_or(|hash| known.contains(&hash)) {
            self.suspicion = true;
        }
        self.hashes.push(hash.unwrap_or_default());
        self.members.push(Member { place, key_bytes });
    }

    /// [`Members::close`] will look at the output.
    #[inline]
    pub(super) fn is_suspicious(&self) -> bool {
        self.suspicion
    }

    /// The object that began at `start` of the new spelling has been read: merges repeated keys. If
    /// there is a suspicion, the whole object must stand in `output`.
    #[inline]
    pub(super) fn close(&mut self, output: &mut Vec<u8>, start: usize, mark: usize) {
        if self.suspicion {
            merge(output, start, self.members.get(mark..).unwrap_or_default());
            // Outer objects with a suspicion of their own look again: it costs time, never
            // correctness.
            self.suspicion = mark > 0;
        }
        self.members.truncate(mark);
        self.hashes.truncate(mark);
    }
}

/// Writes the object at the end of `output` again, if a key in it repeats.
fn merge(output: &mut Vec<u8>, start: usize, members: &[Member]) {
    let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(members.len());
    let mut kept: Vec<&Member> = Vec::with_capacity(members.len());
    for member in members {
        let key = member.place.start..member.place.start + member.key_bytes;
        match places.entry(output.get(key).unwrap_or_default()) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(member);
            }
            Entry::Occupied(place) => {
                if let Some(first) = kept.get_mut(*place.get()) {
                    *first = member;
                }
            }
        }
    }
    if kept.len() == members.len() {
        return;
    }
    let mut object = Vec::with_capacity(output.len() - start);
    for member in kept {
        object.push(if object.is_empty() { b'{' } else { b',' });
        object.extend_from_slice(output.get(member.place.clone()).unwrap_or_default());
    }
    object.push(b'}');
    output.truncate(start);
    output.extend_from_slice(&object);
}

/// Mixes the length, the first and the last bytes: enough to tell the keys of one object apart.
/// Whoever makes keys collide on purpose only makes [`merge`] look at them.
#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            let middle = key.get(key.len() / 2).copied().unwrap_or_default();
            u64::from_le_bytes(*first).wrapping_mul(FACTOR)
                ^ u64::from_le_bytes(*last).rotate_left(23).wrapping_mul(FACTOR)
                ^ u64::from(middle) << 40
        }
        _ => key.iter().fold(0, |mixed, &byte| (mixed << 8) | u64::from(byte)),
    };
    let mixed = (mixed ^ key.len() as u64).wrapping_mul(FACTOR);
    (mixed >> 32) as u32
}
