//! Some of the shards, as bits.

/// More shards than this are not possible: [`ShardSet`] has a bit for each.
pub const SHARDS_MAX: usize = 64;

/// Some of the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// Adds a shard. One beyond [`SHARDS_MAX`] is not added (`boot` starts no such shard).
    pub fn insert(&mut self, shard: usize) {
        if let Some(word) = self.0.get_mut(shard / 64) {
            *word |= 1 << (shard % 64);
        }
    }

    /// Takes a shard out; was it in?
    pub fn remove(&mut self, shard: usize) -> bool {
        let Some(word) = self.0.get_mut(shard / 64) else { return false };
        let bit = 1 << (shard % 64);
        let held = *word & bit != 0;
        *word &= !bit;
        held
    }

    /// Is the shard in?
    pub fn contains(self, shard: usize) -> bool {
        self.0.get(shard / 64).is_some_and(|word| word & (1 << (shard % 64)) != 0)
    }

    /// No shard at all.
    pub fn is_empty(self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The shards in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(number, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(number * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_exactly_what_was_put_in_and_not_taken_out() {
        let mut set = ShardSet::default();
        for shard in [63, 0, 31, 31, 64, usize::MAX] {
            set.insert(shard);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 31, 63]);
        assert!(set.remove(31) && !set.remove(31) && !set.remove(500));
        assert!(set.contains(63) && !set.contains(31) && !set.contains(500));
        for shard in [0, 63] {
            set.remove(shard);
        }
        assert!(set.is_empty());
    }
}
