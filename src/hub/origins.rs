//! How many connections come from one address.
//!
//! An entry of its own for every address would cost most connections as much memory as their whole
//! session. So addresses share a fixed number of counters: an address is counted together with the
//! few others that fall on its counter (at a million connections some fifteen), which a limit of
//! thousands does not notice. A connection only remembers which counter is its own.

use std::net::IpAddr;
use std::num::NonZeroU32;

/// Counters: 256 KiB a shard, of which the kernel gives only what is touched.
const COUNTERS: usize = 1 << 16;

/// The counter of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin(NonZeroU32);

/// Connections by address.
pub struct Origins {
    counters: Vec<u32>,
    /// Chosen at random, so that nobody can choose addresses that share a counter. The second is
    /// odd.
    keys: [u64; 2],
}

impl Origins {
    /// Nobody is connected. `seed` decides which addresses share a counter.
    pub fn new(seed: u64) -> Origins {
        let mut random = fastrand::Rng::with_seed(seed);
        Origins { counters: vec![0; COUNTERS], keys: [random.u64(..), random.u64(..) | 1] }
    }

    /// One more connection from this address. `None`: there are `most` already.
    pub fn admit(&mut self, address: IpAddr, most: usize) -> Option<Origin> {
        let index = self.place(address);
        let counter = self.counters.get_mut(index).filter(|count| (**count as usize) < most)?;
        *counter += 1;
        NonZeroU32::new(index as u32 + 1).map(Origin)
    }

    /// The counter of an address: the halves of a product, folded, so that each bit of the address
    /// has a say in each bit of the place.
    fn place(&self, address: IpAddr) -> usize {
        let product =
            u128::from(network(address) ^ self.keys[0]).wrapping_mul(u128::from(self.keys[1]));
        let folded = (product as u64) ^ ((product >> 64) as u64);
        folded as usize % COUNTERS
    }

    /// One less.
    pub fn leave(&mut self, origin: Origin) {
        if let Some(counter) = self.counters.get_mut(origin.0.get() as usize - 1) {
            *counter = counter.saturating_sub(1);
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, which is what one customer gets at least
/// (RFC 6177).
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_room_for_so_many_and_again_when_one_leaves() {
        let mut origins = Origins::new(7);
        let first = origins.admit(address("203.0.113.7"), 2).unwrap();
        let mapped = origins.admit(address("::ffff:203.0.113.7"), 2).unwrap();
        assert_eq!(first, mapped, "the same address in another form");
        assert_eq!(origins.admit(address("203.0.113.7"), 2), None);
        origins.leave(first);
        assert_eq!(origins.admit(address("203.0.113.7"), 2), Some(first));
    }

    #[test]
    fn of_ipv6_the_network_counts() {
        let mut origins = Origins::new(7);
        let first = origins.admit(address("2001:db8:1:2::1"), 1);
        assert!(first.is_some());
        assert_eq!(origins.admit(address("2001:db8:1:2:ffff::9"), 1), None);
        let others = (0..64).filter(|other| {
            origins.admit(address(&format!("2001:db8:1:{:x}::1", other + 256)), 1).is_some()
        });
        assert!(others.count() > 60, "other networks have counters of their own");
    }

    #[test]
    fn addresses_of_any_pattern_spread_over_the_counters() {
        let patterns: [fn(u32) -> IpAddr; 3] = [
            |number| IpAddr::V4((0x0a00_0000 + number).into()),
            |number| IpAddr::V4(number.reverse_bits().into()),
            |number| IpAddr::V6((u128::from(number) << 64 | 0x2001_0db8 << 96).into()),
        ];
        for (seed, pattern) in (1..).zip(patterns) {
            let mut origins = Origins::new(seed);
            (0..COUNTERS as u32).for_each(|number| {
                origins.admit(pattern(number), usize::MAX);
            });
            let most = origins.counters.iter().max();
            assert!(most.is_some_and(|most| *most < 64), "{most:?} on one counter");
        }
    }
}
