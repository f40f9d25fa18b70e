//! What Redis' answers mean.

use super::super::finding::{Area, Finding, Subject, Verdict, grouped};

/// The oldest version that is still looked after.
const VERSION_MIN: (u64, u64) = (6, 2);
/// Redis' own defaults for subscribers: bytes at once, and bytes for a minute.
const HARD_BYTES_MIN: u64 = 32 << 20;
const SOFT_BYTES_MIN: u64 = 8 << 20;
/// More than this waiting for our subscription means that the control core is behind.
const WAITING_BYTES_MAX: u64 = 1 << 20;

/// What Redis has answered: text, or its error.
#[derive(Clone, Debug)]
pub struct Answers {
    /// `INFO server`.
    pub info: Result<String, String>,
    /// `CONFIG GET client-output-buffer-limit`.
    pub buffers: Result<String, String>,
    /// `CONFIG GET maxmemory-policy`.
    pub eviction: Result<String, String>,
    /// `CONFIG GET maxmemory`.
    pub memory_max: Result<String, String>,
    /// `CLIENT LIST TYPE pubsub`.
    pub clients: Result<String, String>,
    /// `SET subscribed:… EX`.
    pub set: Result<(), String>,
    /// `PING`.
    pub ping: Result<(), String>,
    /// `SUBSCRIBE` to a channel of each kind.
    pub subscribe: Result<(), String>,
}

/// Every check.
pub fn judge(answers: &Answers) -> Vec<Finding> {
    vec![
        version(answers),
        right(
            "SUBSCRIBE",
            "events come this way",
            &answers.subscribe,
            "ACL SETUSER … +subscribe +unsubscribe &timeline:*",
            Verdict::Broken,
        ),
        right(
            "SET subscribed:…",
            "Rails publishes to home, notification, list and direct channels only while this key \
             is there",
            &answers.set,
            "ACL SETUSER … +set ~subscribed:*   (a replica: name the master, or use Sentinel)",
            Verdict::Broken,
        ),
        right(
            "PING",
            "how the server notices within ten seconds that a connection is dead",
            &answers.ping,
            "ACL SETUSER … +ping",
            Verdict::Change,
        ),
        buffers(answers),
        waiting(answers),
        eviction(answers),
    ]
}

fn version(answers: &Answers) -> Finding {
    let subject = Subject::new(Area::Redis, "version", "older ones get no more corrections")
        .should(format!("{}.{} or later", VERSION_MIN.0, VERSION_MIN.1));
    let line = |text: &String| {
        let line = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        line.map(|version| version.trim().to_owned())
    };
    let Some(version) = answers.info.as_ref().ok().and_then(line) else {
        return subject.unknown("INFO is refused to us");
    };
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number: (u64, u64) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let command = "upgrade Redis (Debian: apt-get install redis-server)";
    subject.is(&version).unless(number >= VERSION_MIN, Verdict::Change, command)
}

fn right(
    name: &'static str,
    why: &'static str,
    answer: &Result<(), String>,
    command: &str,
    verdict: Verdict,
) -> Finding {
    let subject = Subject::new(Area::Redis, name, why).should("allowed");
    match answer {
        Ok(()) => subject.is("allowed").fine(),
        Err(text) => subject.is(text).needs(verdict, command),
    }
}

fn buffers(answers: &Answers) -> Finding {
    let subject = Subject::new(
        Area::Redis,
        "client-output-buffer-limit pubsub",
        "Redis cuts a subscriber that falls behind by more, and what is published until it is back \
         is lost",
    )
    .should("at least 32mb 8mb 60");
    let limits = answers.buffers.as_ref().ok().and_then(|text| {
        let mut words = text.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    });
    let Some((hard, soft)): Option<(u64, u64)> = limits else {
        return subject.unknown("CONFIG is refused to us");
    };
    // Zero stands for no limit.
    let is_enough = |bytes: u64, least: u64| bytes == 0 || bytes >= least;
    let is_fine = is_enough(hard, HARD_BYTES_MIN) && is_enough(soft, SOFT_BYTES_MIN);
    let is = format!("{} bytes at once, {} for longer", grouped(hard), grouped(soft));
    let command = "redis-cli CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'   # and \
                   redis.conf";
    subject.is(is).unless(is_fine, Verdict::Change, command)
}

fn waiting(answers: &Answers) -> Finding {
    let subject = Subject::new(
        Area::Redis,
        "waiting for our subscription (omem)",
        "what waits here was published and not yet taken: the control core is behind",
    )
    .should(format!("at most {} bytes", grouped(WAITING_BYTES_MAX)));
    let Ok(clients) = &answers.clients else {
        return subject.unknown("CLIENT LIST is refused to us");
    };
    let ours = clients.lines().filter(|line| field(line, "name") == Some("trunkline-subscriber"));
    let waiting: Vec<u64> = ours.filter_map(|line| field(line, "omem")?.parse().ok()).collect();
    match waiting.iter().max() {
        None => subject.is("no server is subscribed").fine(),
        Some(most) => {
            let is = format!("{} bytes, {} connected", grouped(*most), waiting.len());
            let command = "look at trunkline_loop_lag_seconds{core=\"control\"} and \
                           trunkline_redis_gaps_total; give the control core a processor of its \
                           own (TRUNKLINE_CONTROL_CPU)";
            subject.is(is).unless(*most <= WAITING_BYTES_MAX, Verdict::Change, command)
        }
    }
}

/// The value of a field in a line of `CLIENT LIST`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn eviction(answers: &Answers) -> Finding {
    let subject = Subject::new(
        Area::Redis,
        "eviction (maxmemory-policy)",
        "a `subscribed:` key that is evicted silences Rails for its channel, for up to six minutes",
    )
    .should("noeviction, or no maxmemory");
    let second = |answer: &Result<String, String>| {
        answer.as_ref().ok().and_then(|text| text.lines().nth(1).map(str::to_owned))
    };
    let (Some(policy), Some(most)) = (second(&answers.eviction), second(&answers.memory_max))
    else {
        return subject.unknown("CONFIG is refused to us");
    };
    let is_fine = policy == "noeviction" || most == "0";
    let command = "redis-cli CONFIG SET maxmemory-policy noeviction   # and redis.conf";
    let is = format!("{policy}, maxmemory {most}");
    subject.is(is).unless(is_fine, Verdict::Change, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Answers {
        let text = |text: &str| Ok(text.to_owned());
        Answers {
            info: text("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"),
            buffers: text(
                "client-output-buffer-limit\nnormal 0 0 0 slave 268435456 67108864 60 pubsub \
                 33554432 8388608 60",
            ),
            eviction: text("maxmemory-policy\nallkeys-lru"),
            memory_max: text("maxmemory\n0"),
            clients: text(
                "id=3 addr=127.0.0.1:1 name=trunkline-subscriber sub=9 omem=0\n\
                 id=4 addr=127.0.0.1:2 name=sidekiq sub=1 omem=99999999\n",
            ),
            set: Ok(()),
            ping: Ok(()),
            subscribe: Ok(()),
        }
    }

    #[track_caller]
    fn assert_complains(answers: &Answers, verdict: Verdict, name: &str) {
        let found: Vec<_> = judge(answers)
            .into_iter()
            .filter(|finding| finding.verdict != Verdict::Fine)
            .map(|finding| (finding.verdict, finding.name))
            .collect();
        assert_eq!(found, [(verdict, name)]);
    }

    #[test]
    fn nothing_is_to_be_done_with_the_defaults() {
        assert!(judge(&good()).iter().all(|finding| finding.verdict == Verdict::Fine));
    }

    #[test]
    fn each_answer_that_is_not_good_enough_is_named() {
        let text = |text: &str| Ok(text.to_owned());
        let refused = || Err("NOPERM this user has no permissions".to_owned());
        let change = Verdict::Change;
        let old = Answers { info: text("redis_version:5.0.3\r\n"), ..good() };
        assert_complains(&old, change, "version");
        let small = Answers { buffers: text("x\npubsub 65536 8388608 60"), ..good() };
        assert_complains(&small, change, "client-output-buffer-limit pubsub");
        let behind =
            Answers { clients: text("id=1 name=trunkline-subscriber omem=2000000"), ..good() };
        assert_complains(&behind, change, "waiting for our subscription (omem)");
        let evicts = Answers { memory_max: text("maxmemory\n1000000"), ..good() };
        assert_complains(&evicts, change, "eviction (maxmemory-policy)");
        let mute = Answers { ping: refused(), ..good() };
        assert_complains(&mute, change, "PING");
        let deaf = Answers { subscribe: refused(), ..good() };
        assert_complains(&deaf, Verdict::Broken, "SUBSCRIBE");
        let keyless = Answers { set: Err("READONLY".to_owned()), ..good() };
        assert_complains(&keyless, Verdict::Broken, "SET subscribed:…");
    }

    #[test]
    fn no_limit_is_enough_room() {
        let free = Answers { buffers: Ok("x\npubsub 0 0 0".to_owned()), ..good() };
        assert!(judge(&free).iter().all(|finding| finding.verdict == Verdict::Fine));
    }

    #[test]
    fn a_user_who_may_not_ask_is_told_so_and_nothing_breaks() {
        let refused = || Err("NOPERM".to_owned());
        let answers = Answers {
            info: refused(),
            buffers: refused(),
            eviction: refused(),
            memory_max: refused(),
            clients: refused(),
            ..good()
        };
        let unknown = judge(&answers).into_iter().map(|finding| finding.verdict);
        assert_eq!(unknown.filter(|verdict| *verdict == Verdict::Unknown).count(), 4);
        assert!(judge(&answers).iter().all(|finding| finding.verdict <= Verdict::Unknown));
    }
}
