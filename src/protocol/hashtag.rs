//! Names of hashtags as Redis channels spell them.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::decompose_canonical;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The spelling of `tag` in its channel, as Rails makes it: NFKC, lowercase, accented Latin letters
/// without their accents, and nothing but letters, numbers, `_`, `·` and ZWNJ. May be empty: the
/// Node server subscribes to `timeline:hashtag:` then (the case `ws-hashtag-normalised` of
/// `tests/transcripts/`).
pub fn normalise(tag: &str) -> String {
    let composed: String = tag.nfkc().collect();
    composed.to_lowercase().chars().map(without_accent).filter(|&char| is_kept(char)).collect()
}

/// Folds the accented letters of Latin-1 and Latin Extended-A to ASCII: by decomposition, and by a
/// list for those that Unicode does not take apart. `ß`, `æ`, `œ` and `þ` are letters of their own.
fn without_accent(char: char) -> char {
    match char {
        'ø' => 'o',
        'đ' | 'ð' => 'd',
        'ħ' => 'h',
        'ı' => 'i',
        'ĸ' => 'k',
        'ł' | 'ŀ' => 'l',
        'ŉ' | 'ŋ' => 'n',
        'ſ' => 's',
        'ŧ' => 't',
        '\u{c0}'..='\u{17f}' => {
            let mut base = None;
            decompose_canonical(char, |part| {
                base.get_or_insert(part);
            });
            base.filter(char::is_ascii_alphabetic).unwrap_or(char)
        }
        _ => char,
    }
}

fn is_kept(char: char) -> bool {
    matches!(char, '_' | '\u{b7}' | '\u{200c}')
        || matches!(
            char.general_category_group(),
            GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_spelled_as_the_node_server_spells_them() {
        // The case `ws-hashtag-normalised` of tests/transcripts/.
        for (tag, channel) in [
            ("CAFÉ", "cafe"),
            ("ＦＵＬＬ", "full"),
            ("a b#c", "abc"),
            ("日本語", "日本語"),
            ("Łódź", "lodz"),
            ("ß", "ß"),
            ("İstanbul", "istanbul"),
            ("a·b", "a·b"),
            ("x_y", "x_y"),
            ("emoji😀z", "emojiz"),
            ("---", ""),
        ] {
            assert_eq!(normalise(tag), channel, "{tag}");
        }
    }

    #[test]
    fn accented_latin_letters_lose_their_accents_and_others_keep_theirs() {
        assert_eq!(normalise("ÀÅçĎÐđĤħıĵĸŁľÑŋØőŘšŢŧÜųŴŷŸž"), "aacdddhhijkllnnoorsttuuwyyz");
        assert_eq!(normalise("ÆŒÞß"), "æœþß");
        // Beyond Latin Extended-A nothing is folded.
        assert_eq!(normalise("ǎệ"), "ǎệ");
        // Accents that come as characters of their own are composed first.
        assert_eq!(normalise("e\u{301}"), "e");
        assert_eq!(normalise("ΟΔΟΣ"), "οδος");
        assert_eq!(normalise("²Ⅷ५\u{200c}"), "2viii५\u{200c}");
    }

    proptest! {
        #[test]
        fn only_letters_numbers_and_three_others_remain(tag: String) {
            prop_assert!(normalise(&tag).chars().all(is_kept));
        }

        #[test]
        fn ascii_words_are_only_lowercased(tag in "[A-Za-z0-9_]*") {
            prop_assert_eq!(normalise(&tag), tag.to_ascii_lowercase());
        }
    }
}
