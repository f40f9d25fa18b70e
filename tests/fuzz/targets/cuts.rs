//! Chance that follows from the input alone.

/// Dice that fall the same way for the same bytes.
pub fn dice(input: &[u8]) -> fastrand::Rng {
    // FNV-1a: any change of the input changes everything that is decided by it.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    fastrand::Rng::with_seed(input.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

/// The same bytes in pieces, some of them a single byte, some empty.
pub fn pieces<'input>(input: &'input [u8], dice: &mut fastrand::Rng) -> Vec<&'input [u8]> {
    let longest = [1, 3, 17, 200][dice.usize(0..4)];
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(dice.usize(0..=longest).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Each byte by itself.
pub fn bytes(input: &[u8]) -> Vec<&[u8]> {
    input.chunks(1).collect()
}
