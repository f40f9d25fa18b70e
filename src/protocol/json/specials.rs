//! Where the bytes stand that do not mean themselves in a JSON string: quotes, backslashes and
//! control characters. Sixty-four bytes are looked at in one go.

/// Bytes whose special ones are the bits of one number.
pub(super) const BLOCK_BYTES: usize = 64;

/// Bytes that the processor looks at, or copies, in one step.
const CHUNK_BYTES: usize = 16;

type Chunk = [u8; CHUNK_BYTES];

/// Finds the ends of strings for somebody who reads from the front.
#[derive(Default)]
pub(super) struct Ahead {
    /// Where the block begins that was looked at last.
    start: usize,
    /// Where it ends: `end == start` before the first look, else `start + BLOCK_BYTES`.
    end: usize,
    /// Its special bytes, as bits; the end of the text counts as one.
    found: u64,
}

impl Ahead {
    /// Where the bytes from `at` on that mean themselves end: at a quote, a backslash, a control
    /// character, or the end. `at` is never before what was found last.
    #[inline]
    pub(super) fn plain_end(&mut self, text: &[u8], mut at: usize) -> usize {
        loop {
            if at >= self.end {
                self.look(text, at);
            }
            let found = self.found >> (at - self.start);
            if found != 0 {
                return at + found.trailing_zeros() as usize;
            }
            at = self.end;
        }
    }

    #[inline(never)]
    fn look(&mut self, text: &[u8], at: usize) {
        let left = text.len().saturating_sub(at);
        let behind_end = if left < BLOCK_BYTES { u64::MAX << left } else { 0 };
        self.found = specials(text, at) | behind_end;
        self.start = at;
        self.end = at + BLOCK_BYTES;
    }
}

/// The bytes from `at` on that do not mean themselves, as bits, the first byte's lowest.
#[inline]
pub(super) fn specials(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    rest.first_chunk().map_or_else(|| in_tail(rest), in_block)
}

#[cold]
fn in_tail(tail: &[u8]) -> u64 {
    let mut padded = [b' '; BLOCK_BYTES];
    padded.iter_mut().zip(tail).for_each(|(space, byte)| *space = *byte);
    in_block(&padded)
}

#[inline(always)]
fn in_block(block: &[u8; BLOCK_BYTES]) -> u64 {
    let (chunks, _) = block.as_chunks();
    chunks.iter().rev().fold(0, |found, chunk| found << CHUNK_BYTES | u64::from(in_chunk(chunk)))
}

/// Appends a part of `text`. Most parts are short: those go over in one step, with whatever stands
/// behind them, which is then taken back.
#[inline]
pub(super) fn append(output: &mut Vec<u8>, text: &[u8], from: usize, to: usize) {
    let length = to.wrapping_sub(from);
    match text.get(from..).and_then(<[u8]>::first_chunk::<CHUNK_BYTES>) {
        Some(chunk) if length <= CHUNK_BYTES => {
            let end = output.len() + length;
            output.extend_from_slice(chunk);
            output.truncate(end);
        }
        _ => output.extend_from_slice(text.get(from..to).unwrap_or_default()),
    }
}

/// Appends a part of `text`, and then a byte.
#[inline]
pub(super) fn append_then(output: &mut Vec<u8>, text: &[u8], from: usize, to: usize, then: u8) {
    let length = to.wrapping_sub(from);
    match text.get(from..).and_then(<[u8]>::first_chunk::<CHUNK_BYTES>) {
        Some(chunk) if length < CHUNK_BYTES => {
            let end = output.len() + length;
            output.extend_from_slice(chunk);
            output[end] = then;
            output.truncate(end + 1);
        }
        _ => {
            output.extend_from_slice(text.get(from..to).unwrap_or_default());
            output.push(then);
        }
    }
}

/// A bit for each byte that does not mean itself, the first byte's lowest.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn in_chunk(chunk: &Chunk) -> u16 {
    // SAFETY: SSE2 is part of every x86-64 processor.
    unsafe { in_chunk_sse2(chunk) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn in_chunk_sse2(chunk: &Chunk) -> u16 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };
    let number = u128::from_le_bytes(*chunk);
    let bytes = _mm_set_epi64x((number >> 64) as i64, number as i64);
    let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x22));
    let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x5c));
    let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    let found = _mm_or_si128(_mm_or_si128(quotes, backslashes), controls);
    _mm_movemask_epi8(found) as u16
}

/// A bit for each byte that does not mean itself, the first byte's lowest.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn in_chunk(chunk: &Chunk) -> u16 {
    in_chunk_by_words(chunk)
}

/// The same on any processor: eight bytes in one step.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn in_chunk_by_words(chunk: &Chunk) -> u16 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const LOWS: u64 = ONES * 0x7f;
    /// Sets the high bit of each byte that is zero, and no other bit.
    fn zeros(word: u64) -> u64 {
        !(((word & LOWS) + LOWS) | word | LOWS)
    }
    let (words, _) = chunk.as_chunks::<8>();
    let marks = words.iter().map(|word| {
        let word = u64::from_le_bytes(*word);
        let controls = zeros(word & (ONES * 0xe0));
        zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c)) | controls
    });
    // The multiplication moves the eighth bit of each byte into the last one, in order.
    let bits = marks.map(|marks| ((marks >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u16);
    bits.zip([0, 8]).map(|(bits, shift)| bits << shift).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_special(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..0x20)
    }

    /// Bytes that are special, nearly special, and anything.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let near = b"\"\\\x00\x1f\x20\x21\x23\x5b\x5d\x7f\x80\x9f\xa2\xdc\xff";
        let near = near.as_slice();
        let plain = Just(b'x');
        let byte = prop_oneof![1 => prop::sample::select(near), 1 => any::<u8>(), 8 => plain];
        prop::collection::vec(byte, 0..300)
    }

    proptest! {
        #[test]
        fn special_bytes_are_found_wherever_they_stand(text in bytes(), step in 1_usize..70) {
            let special = |place: &usize| is_special(text[*place]);
            let expected: Vec<usize> = (0..text.len()).filter(special).collect();
            let mut ahead = Ahead::default();
            let mut end = 0;
            for at in (0..=text.len()).step_by(step) {
                if at >= end {
                    let next = expected.iter().copied().find(|place| *place >= at);
                    end = next.unwrap_or(text.len());
                    prop_assert_eq!(ahead.plain_end(&text, at), end);
                }
                let found = specials(&text, at);
                for offset in 0..BLOCK_BYTES {
                    let is_found = found >> offset & 1 == 1;
                    prop_assert_eq!(is_found, expected.contains(&(at + offset)));
                }
            }
            for chunk in text.as_chunks().0 {
                prop_assert_eq!(in_chunk(chunk), in_chunk_by_words(chunk));
            }
        }

        #[test]
        fn parts_are_appended_as_they_are(
            text in bytes(), from in 0_usize..300, length in 0_usize..40,
        ) {
            let from = from.min(text.len());
            let to = (from + length).min(text.len());
            let mut output = b"before".to_vec();
            append(&mut output, &text, from, to);
            append_then(&mut output, &text, from, to, b'!');
            append(&mut output, b"after", 0, 5);
            let part = &text[from..to];
            prop_assert_eq!(output, [b"before", part, part, b"!", b"after"].concat());
        }
    }
}
