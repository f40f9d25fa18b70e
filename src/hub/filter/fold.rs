//! Letter case as JavaScript's `i` flag without `u` sees it (ECMA-262, 22.2.2.7.3 Canonicalize):
//! per UTF-16 unit, by its upper case, unless that is longer than one unit or would turn a
//! non-ASCII character into ASCII.

use std::ops::Range;

/// A text for searching.
pub(super) struct Folded<'text> {
    written: &'text str,
    /// The folded UTF-16 units.
    units: Vec<u16>,
    /// Of each unit, and of the end: where its character begins in `written`, in bytes.
    /// `offsets.len() == units.len() + 1`.
    offsets: Vec<u32>,
}

impl<'text> Folded<'text> {
    /// Folds a text. What lies beyond 4 GiB is not searched.
    pub(super) fn new(written: &'text str) -> Folded<'text> {
        let mut units = Vec::with_capacity(written.len());
        let mut offsets = Vec::with_capacity(written.len() + 1);
        let mut end = 0;
        for (offset, char) in written.char_indices() {
            let Ok(offset) = u32::try_from(offset) else { break };
            for unit in char.encode_utf16(&mut [0; 2]) {
                units.push(fold_unit(*unit));
                offsets.push(offset);
            }
            end = offset.saturating_add(char.len_utf8() as u32);
        }
        offsets.push(end);
        Folded { written, units, offsets }
    }

    /// The folded units.
    pub(super) fn units(&self) -> &[u16] {
        &self.units
    }

    /// The text as written, by a range of units.
    pub(super) fn written(&self, range: Range<usize>) -> &'text str {
        let offset = |unit: usize| self.offsets.get(unit).map(|&offset| offset as usize);
        let bytes = offset(range.start).zip(offset(range.end));
        bytes.and_then(|(start, end)| self.written.get(start..end)).unwrap_or_default()
    }

    /// JavaScript's `\b` before this unit: it or the one before it is a word character, but not
    /// both. Folding changes no answer, as it never crosses the border of ASCII.
    pub(super) fn is_boundary(&self, at: usize) -> bool {
        let is_word = |at: Option<usize>| {
            at.and_then(|at| self.units.get(at)).is_some_and(|&unit| is_word(unit))
        };
        is_word(at.checked_sub(1)) != is_word(Some(at))
    }
}

/// The folded units of a keyword.
pub(super) fn fold(text: &str) -> Box<[u16]> {
    text.encode_utf16().map(fold_unit).collect()
}

/// A word character in the sense of `\w`: ASCII only.
pub(super) fn is_word(unit: u16) -> bool {
    u8::try_from(unit).is_ok_and(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

#[inline]
fn fold_unit(unit: u16) -> u16 {
    match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => u16::from(byte.to_ascii_uppercase()),
        _ => fold_beyond_ascii(unit),
    }
}

fn fold_beyond_ascii(unit: u16) -> u16 {
    // Half of a surrogate pair is no `char` and stays as it is.
    let Some(char) = char::from_u32(u32::from(unit)) else { return unit };
    let mut upper = char.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(first), None) if !first.is_ascii() => u16::try_from(u32::from(first)).unwrap_or(unit),
        _ => unit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_folds_by_unit_and_never_across_the_border_of_ascii() {
        assert_eq!(fold("été Straße"), fold("ÉTÉ sTRAßE"));
        assert_eq!(fold("σς"), fold("ΣΣ"));
        // U+017F and U+0131 have ASCII upper cases, U+212A (Kelvin) an ASCII lower case.
        assert_ne!(fold("\u{17f}"), fold("s"));
        assert_ne!(fold("ı"), fold("i"));
        assert_ne!(fold("\u{212a}"), fold("k"));
        // Two units: ß and SS, ŉ and ʼN.
        assert_ne!(fold("ß"), fold("ẞ"));
        // Beyond the first plane there is no case.
        assert_ne!(fold("𐐀"), fold("𐐨"));
    }

    #[test]
    fn a_range_of_units_is_the_text_as_written() {
        let folded = Folded::new("a😀é");
        assert_eq!(folded.units().len(), 4);
        assert_eq!(folded.written(0..1), "a");
        assert_eq!(folded.written(1..3), "😀");
        assert_eq!(folded.written(3..4), "é");
        assert_eq!(folded.written(0..9), "");
    }

    #[test]
    fn boundaries_are_those_of_ascii_words() {
        let folded = Folded::new("ab é_");
        let boundaries: Vec<usize> = (0..=5).filter(|&at| folded.is_boundary(at)).collect();
        assert_eq!(boundaries, [0, 2, 4, 5]);
        assert!(!Folded::new("").is_boundary(0));
    }
}
