//! Believable statuses of 2 to 6 KB, as Rails publishes them. Each carries in its `uri` which one
//! it is, its channel, its sequence number there, and when it was meant to be sent.

use serde_json::Value;

use super::plan::ChannelNumber;

/// Different statuses that take turns.
pub const TEMPLATES: usize = 48;

/// Digits of a status' id: `1`, seven of the channel, ten of the sequence.
pub const ID_BYTES: usize = 18;
/// What stands before the marker in a status' `uri`.
const BEFORE_MARKER: &[u8] = b"/statuses/load-";
/// `TTTT-CCCCCCC-SSSSSSSSSS-NNNNNNNNNNNNNNNNNNNN`.
pub const MARKER_BYTES: usize = 4 + 1 + 7 + 1 + 10 + 1 + 20;

/// What a status says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Which of the [`Templates`].
    pub template: usize,
    /// Where it was published.
    pub channel: ChannelNumber,
    /// Counts the channel's statuses from 0.
    pub sequence: u32,
    /// When it was meant to be sent, in nanoseconds of the machine's monotonic clock.
    pub intended_nanos: u64,
}

impl Marker {
    /// Finds the marker in a message and says where it begins.
    pub fn find(text: &[u8]) -> Option<(usize, Marker)> {
        let at = memchr::memmem::find(text, BEFORE_MARKER)? + BEFORE_MARKER.len();
        Marker::read(text.get(at..at + MARKER_BYTES)?).map(|marker| (at, marker))
    }

    fn read(text: &[u8]) -> Option<Marker> {
        let mut parts = text.split(|byte| *byte == b'-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.iter().try_fold(0_u64, |sum, byte| {
                let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
                sum.checked_mul(10)?.checked_add(digit.into())
            })
        };
        Some(Marker {
            template: number(4)? as usize,
            channel: ChannelNumber(u32::try_from(number(7)?).ok()?),
            sequence: u32::try_from(number(10)?).ok()?,
            intended_nanos: number(20)?,
        })
    }

    /// The marker as it stands in the `uri`.
    pub fn text(&self) -> [u8; MARKER_BYTES] {
        let mut text = [b'-'; MARKER_BYTES];
        write_digits(&mut text, 0, 4, self.template as u64);
        write_digits(&mut text, 5, 7, self.channel.0.into());
        write_digits(&mut text, 13, 10, self.sequence.into());
        write_digits(&mut text, 24, 20, self.intended_nanos);
        text
    }

    /// The status' id.
    pub fn id(&self) -> [u8; ID_BYTES] {
        let mut text = [b'1'; ID_BYTES];
        write_digits(&mut text, 1, 7, self.channel.0.into());
        write_digits(&mut text, 8, 10, self.sequence.into());
        text
    }
}

fn write_digits(text: &mut [u8], at: usize, digits: usize, mut number: u64) {
    for place in (at..at + digits).rev() {
        if let Some(byte) = text.get_mut(place) {
            *byte = b'0' + (number % 10) as u8;
        }
        number /= 10;
    }
}

/// The statuses of a run: the same in every process.
pub struct Templates(Vec<Template>);

/// A Redis message with room for its marker.
pub struct Template {
    message: Vec<u8>,
    id_at: usize,
    marker_at: usize,
    /// The status, as JSON means it.
    pub status: Value,
}

impl Templates {
    /// Makes them. With `keyword`, each text holds it, for readers who filter it.
    pub fn new(keyword: Option<&str>) -> Templates {
        let mut random = fastrand::Rng::with_seed(20_261_123);
        Templates((0..TEMPLATES).filter_map(|_| template(&mut random, keyword)).collect())
    }

    /// One by number.
    pub fn get(&self, number: usize) -> Option<&Template> {
        self.0.get(number)
    }
}

impl Template {
    /// Bytes of the message.
    pub fn length(&self) -> usize {
        self.message.len()
    }

    /// Appends the message with this marker.
    pub fn push_message(&self, marker: &Marker, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.message);
        let (id_at, marker_at) = (start + self.id_at, start + self.marker_at);
        if let Some(place) = out.get_mut(id_at..id_at + ID_BYTES) {
            place.copy_from_slice(&marker.id());
        }
        if let Some(place) = out.get_mut(marker_at..marker_at + MARKER_BYTES) {
            place.copy_from_slice(&marker.text());
        }
    }
}

const WORDS: &[&str] = &[
    "the",
    "harbour",
    "morning",
    "we",
    "walked",
    "along",
    "quiet",
    "streets",
    "und",
    "dann",
    "kam",
    "der",
    "Regen",
    "café",
    "naïve",
    "bread",
    "fresh",
    "from",
    "oven",
    "today",
    "release",
    "notes",
    "server",
    "upgrade",
    "went",
    "well",
    "thank",
    "you",
    "all",
    "for",
    "patience",
    "日本語",
    "🌱",
    "photograph",
    "light",
    "through",
    "leaves",
    "reading",
    "chapter",
    "seven",
    "again",
    "slowly",
];

fn template(random: &mut fastrand::Rng, keyword: Option<&str>) -> Option<Template> {
    let length = random.usize(2000..5600);
    let mut status = String::with_capacity(8 * 1024);
    let blank = Marker { template: 0, channel: ChannelNumber(0), sequence: 0, intended_nanos: 0 };
    let id = String::from_utf8_lossy(&blank.id()).into_owned();
    let marker = String::from_utf8_lossy(&blank.text()).into_owned();
    let author = random.u32(1..400);
    status += &format!(
        "{{\"id\":\"{id}\",\"created_at\":\"2026-11-23T03:00:00.000Z\",\"in_reply_to_id\":null,\
         \"in_reply_to_account_id\":null,\"sensitive\":false,\"spoiler_text\":\"\",\
         \"visibility\":\"public\",\"language\":\"en\",\
         \"uri\":\"https://remote.example/users/author{author}/statuses/load-{marker}\",\
         \"url\":\"https://remote.example/@author{author}/1\",\"replies_count\":0,\
         \"reblogs_count\":0,\"favourites_count\":0,\"edited_at\":null,\"content\":\""
    );
    push_paragraphs(&mut status, random, keyword, length.saturating_sub(1400) / 2);
    status += &format!("\",\"reblog\":null,\"account\":{},", account(author));
    let pictures = length.saturating_sub(status.len() + 100) / 430;
    let pictures: Vec<String> =
        (0..pictures.min(8)).map(|number| picture(number, random)).collect();
    status += &format!(
        "\"media_attachments\":[{}],\"mentions\":[],\"tags\":[{{\"name\":\"load\",\"url\":\
         \"https://remote.example/tags/load\"}}],\"emojis\":[],\"card\":null,\"poll\":null}}",
        pictures.join(",")
    );
    let before = "{\"event\":\"update\",\"payload\":";
    // Rails escapes what could end a script element.
    let escaped = status.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let message = format!("{before}{escaped},\"queued_at\":1795404969123}}").into_bytes();
    Some(Template {
        id_at: before.len() + "{\"id\":\"".len(),
        marker_at: Marker::find(&message)?.0,
        message,
        status: serde_json::from_str(&status).ok()?,
    })
}

fn push_paragraphs(
    out: &mut String,
    random: &mut fastrand::Rng,
    keyword: Option<&str>,
    length: usize,
) {
    let end = out.len() + length.max(200);
    while out.len() < end {
        *out += "<p>";
        for _ in 0..random.usize(8..40) {
            *out += random.choice(WORDS.iter()).map_or("", |word| word);
            *out += match random.u8(0..20) {
                0 => "<br />",
                1 => " &amp; ",
                2 => ", \\\"",
                _ => " ",
            };
        }
        *out += keyword.unwrap_or("");
        *out += ".</p>";
    }
}

fn account(author: u32) -> String {
    let id = 109_999_999_999_000_000 + u64::from(author);
    format!(
        "{{\"id\":\"{id}\",\"username\":\"author{author}\",\"acct\":\
         \"author{author}@remote.example\",\
         \"display_name\":\"Author {author}\",\"locked\":false,\"bot\":false,\"discoverable\":true,\
         \"indexable\":true,\"group\":false,\
         \"created_at\":\"2022-11-05T00:00:00.000Z\",\"note\":\
         \"<p>Writes about harbours, bread and \
         <a href=\\\"https://remote.example/tags/light\\\">light\
         </a>.</p>\",\"url\":\"https://remote.example/@author{author}\",\"uri\":\
         \"https://remote.example/users/author{author}\",\"avatar\":\
         \"https://files.example/cache/accounts/avatars/{id}/original/5e1b.png\",\"header\":\
         \"https://files.example/cache/accounts/headers/{id}/original/77aa.png\",\
         \"followers_count\":812,\"following_count\":402,\"statuses_count\":10312,\
         \"last_status_at\":\"2026-11-22\",\"emojis\":[],\"fields\":[]}}"
    )
}

fn picture(number: usize, random: &mut fastrand::Rng) -> String {
    let id = random.u64(1 << 50..1 << 60);
    let media = format!("https://files.example/cache/media/{id}");
    format!(
        "{{\"id\":\"{id}\",\"type\":\"image\",\"url\":\"{media}/original/a.jpg\",\
         \"preview_url\":\"{media}/small/a.jpg\",\"remote_url\":null,\"meta\":\
         {{\"original\":{{\"width\":1600,\"height\":1200,\"aspect\":1.3333333333333333}}}},\
         \"description\":\"Picture {number}: boats in the harbour\",\
         \"blurhash\":\"UBL_:rOpGG-oBUNG\"}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_of_believable_size_and_carry_their_marker() {
        let templates = Templates::new(Some("zzkeyword1"));
        for number in 0..TEMPLATES {
            let marker = Marker {
                template: number,
                channel: ChannelNumber(20_003),
                sequence: 77,
                intended_nanos: u64::MAX,
            };
            let template = templates.get(number).unwrap();
            assert!((1900..6600).contains(&template.length()), "{}", template.length());
            let mut message = Vec::new();
            template.push_message(&marker, &mut message);
            let (_, found) = Marker::find(&message).unwrap();
            assert_eq!(found, marker);
            let value: Value = serde_json::from_slice(&message).unwrap();
            assert_eq!(value["payload"]["id"], "100200030000000077");
            assert!(value["payload"]["content"].as_str().unwrap().contains("zzkeyword1"));
        }
        assert!(templates.get(TEMPLATES).is_none());
    }

    #[test]
    fn a_marker_that_is_none_is_not_read() {
        assert_eq!(Marker::find(b"/statuses/load-"), None);
        let good =
            Marker { template: 1, channel: ChannelNumber(2), sequence: 3, intended_nanos: 4 };
        let text = [BEFORE_MARKER, &good.text()].concat();
        assert_eq!(Marker::find(&text), Some((15, good)));
        for place in 15..text.len() {
            let mut bad = text.clone();
            bad[place] = b'x';
            assert_eq!(Marker::find(&bad), None);
        }
    }
}
