//! The command line of `trunkline load`.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::plan::{Accounts, Plan, Stream, Transport};
use super::publisher::RedisAddress;
use super::target::Target;

/// What `trunkline load help` prints.
pub const USAGE: &str = "\
Usage: trunkline load SCENARIO [OPTIONS]

Statuses are invented and really published to Redis: never use it with an instance that people use.

Scenarios, and what they do unless told otherwise:
  hold     open ever more idle connections: memory and processor time of each
           (user; needs --pid)
  fanout   one stream, many readers: processor time and latency of a delivery
           (public; 10000 clients, 1 event a second, 20 s)
  home     a stream for each client, events for one at a time
           (user; 10000 clients, 1000 events a second, 20 s; with --outstanding 200000 events)
  storm    everybody leaves and comes back at once
           (user; 15000 clients, 2000 handshakes at a time, no bound on attempts a second)
  slow     some readers stop reading: do the others notice?
           (public; 200 clients, 120 events a second, twice 25 s: without and with slow ones)
  soak     clients come and go while events flow: does anything grow?
           (user,public; 2000 clients on both transports, 200 events a second, 60 s)
  stop     the server is told to stop: are clients sent away evenly, and does it end in time?
           (user; 10000 clients on both transports; needs --pid, exactly one)
  plot     --plot FILE REPORT...: latencies of runs, from their JSON reports

Where:
  --url URL            http://host:port or unix:/path (default http://127.0.0.1:4000)
  --redis URL          redis://[user:password@]host:port or unix:/path
                       (default redis://127.0.0.1:6379)
  --pid PID[,PID]      the server's processes: their CPU time and memory are reported
  --tokens TEMPLATE    access tokens; {n} is the account's number (default tok-{n})
  --account-ids B+S    account n has the id B + S*n (default 110000000000000000+1000003)
  --accounts N         so many accounts (default 20000)
  --account-file FILE  a token and an account id on each line, instead of the three above

What (defaults that differ stand with the scenarios):
  --clients N          connections (default 10000)
  --transport KIND     websocket (default), sse or both
  --stream NAMES       user, public, public:local, public:remote, hashtag:TAG; separated by commas
  --steps N,N,...      hold: connections at each step (default 2000,6000,10000,14000,18000)
  --settle-secs S      hold: how long each step is left alone first (default 17: longer than the
                       server's deadlines for a request)
  --idle-secs S        hold: how long each step is watched (default 30: whole keep-alive periods)
  --rate R             events a second
  --outstanding N      home: no rate, but so many deliveries on their way at a time
  --events N           how many events (default: rate times seconds)
  --secs S             how long; stop: TRUNKLINE_DRAIN_SECS of the server (default 10)
  --keyword WORD       put this word into every text, for readers who filter it
  --churn R            soak: connections that leave and come back a second (default 10)
  --slow N             slow: how many readers stop (default one in 100)
  --connect-rate R     connection attempts a second (default 2000)
  --in-flight N        handshakes at a time (default 200)
  --database-seen FILE storm: holds how many connections Postgres had at most (scripts/load-storm)
  --db-pool N          storm: and how many it may have (default 10)
  --threads N          threads of clients (default 1)
  --bare               the server is the bare program of benches/floor.rs

Reports:
  --name NAME          what the run is called in reports and plots
  --json FILE          the report for programs
  --plot FILE          latencies as an SVG picture

Exit codes: 0 all as it should be, 1 something was wrong or could not be carried out (the report or
standard error says what), 64 the command line is wrong.
";

/// The options, as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    given: BTreeMap<String, String>,
    /// Words that are no options.
    pub words: Vec<String>,
}

const FLAGS: &[&str] = &["bare"];
const NAMES: &[&str] = &[
    "url",
    "redis",
    "pid",
    "tokens",
    "account-ids",
    "accounts",
    "account-file",
    "clients",
    "transport",
    "stream",
    "steps",
    "settle-secs",
    "idle-secs",
    "rate",
    "outstanding",
    "events",
    "secs",
    "keyword",
    "churn",
    "slow",
    "connect-rate",
    "in-flight",
    "database-seen",
    "db-pool",
    "threads",
    "name",
    "json",
    "plot",
];

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// An option that does not exist, or lacks its value.
    pub fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                options.words.push((*word).to_owned());
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            let value = match (FLAGS.contains(&name), NAMES.contains(&name), value) {
                (true, _, None) => "",
                (_, true, Some(value)) => value,
                (_, true, None) => words.next().ok_or(format!("--{name} lacks its value"))?,
                _ => return Err(format!("there is no --{name} like this")),
            };
            options.given.insert(name.to_owned(), value.to_owned());
        }
        Ok(options)
    }

    /// Whether a flag or an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Sets an option that was not given.
    pub fn set_default(&mut self, name: &str, value: &str) {
        self.given.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// An option's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// An option's number, or `default`.
    ///
    /// # Errors
    /// It is no number.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: no such number")),
        }
    }

    /// Numbers separated by commas.
    ///
    /// # Errors
    /// One is no number.
    pub fn numbers(&self, name: &str, default: &str) -> Result<Vec<u32>, String> {
        let text = self.text(name).unwrap_or(default);
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .map(|part| part.trim().parse().map_err(|_| format!("--{name} {part}: no number")))
            .collect()
    }

    /// Where the server is.
    ///
    /// # Errors
    /// The address cannot be read.
    pub fn target(&self) -> Result<Target, String> {
        let url = self.text("url").unwrap_or("http://127.0.0.1:4000");
        Target::parse(url).map_err(|error| format!("--url {url}: {error}"))
    }

    /// Where Redis is.
    ///
    /// # Errors
    /// The address cannot be read.
    pub fn redis(&self) -> Result<RedisAddress, String> {
        let url = self.text("redis").unwrap_or("redis://127.0.0.1:6379");
        if let Some(path) = url.strip_prefix("unix:") {
            let path = format!("/{}", path.trim_start_matches('/'));
            return Ok(RedisAddress { place: path, login: None });
        }
        // The URL may hold a password: it is not repeated.
        let rest = url.strip_prefix("redis://").ok_or("--redis: neither redis:// nor unix:")?;
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => {
                let (user, password) = login.split_once(':').unwrap_or(("", login));
                (Some((user.to_owned(), password.to_owned())), place)
            }
            None => (None, rest),
        };
        let place = place.split('/').next().unwrap_or_default();
        let place = if place.contains(':') { place.to_owned() } else { format!("{place}:6379") };
        Ok(RedisAddress { place, login })
    }

    /// Who the clients are. `stream` is what they read unless told otherwise.
    ///
    /// # Errors
    /// A stream or a transport does not exist, or the file of accounts cannot be read.
    pub fn plan(&self, stream: &str) -> Result<Plan, String> {
        let names = self.text("stream").unwrap_or(stream).split(',');
        let streams: Result<Vec<Stream>, String> = names
            .map(|name| Stream::parse(name).ok_or(format!("--stream {name}: no such stream")))
            .collect();
        let transports = match self.text("transport").unwrap_or("websocket") {
            "websocket" | "ws" => vec![Transport::WebSocket],
            "sse" => vec![Transport::EventStream],
            "both" => vec![Transport::WebSocket, Transport::EventStream],
            other => return Err(format!("--transport {other}: no such transport")),
        };
        let accounts = self.accounts()?;
        let host = self.target()?.host();
        Ok(Plan { transports, streams: streams?, accounts, first_account: 0, host })
    }

    fn accounts(&self) -> Result<Accounts, String> {
        if let Some(path) = self.text("account-file") {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let pair = |line: &str| {
                let (token, id) = line.split_once(char::is_whitespace)?;
                Some((token.to_owned(), id.trim().parse().ok()?))
            };
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let pairs: Option<Vec<(String, u64)>> = lines.map(pair).collect();
            let pairs = pairs.filter(|pairs| !pairs.is_empty());
            return pairs
                .map(Accounts::Listed)
                .ok_or(format!("{path}: a line is no token with an account id"));
        }
        let ids = self.text("account-ids").unwrap_or("110000000000000000+1000003");
        let wrong = || format!("--account-ids {ids}: not like 1000+7");
        let (base, step) = ids.split_once('+').ok_or_else(wrong)?;
        Ok(Accounts::Template {
            token: self.text("tokens").unwrap_or("tok-{n}").to_owned(),
            base: base.trim().parse().map_err(|_| wrong())?,
            step: step.trim().parse().map_err(|_| wrong())?,
            count: self.number("accounts", 20_000)?,
        })
    }

    /// For the report: everything that was given, but no addresses with passwords.
    pub fn shown(&self) -> Vec<(String, String)> {
        let secret = ["redis", "tokens", "json", "plot", "name", "pid", "database-seen"];
        let shown = self.given.iter().filter(|(name, _)| !secret.contains(&name.as_str()));
        shown.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = Options::parse(&["--clients", "7", "--bare", "--json=a b", "word"]).unwrap();
        assert_eq!(options.number("clients", 1), Ok(7));
        assert_eq!(options.number("secs", 20), Ok(20));
        assert_eq!((options.has("bare"), options.text("json")), (true, Some("a b")));
        assert_eq!(options.words, ["word"]);
        assert!(Options::parse(&["--cleints", "7"]).is_err());
        assert!(Options::parse(&["--clients"]).is_err());
        assert!(options.number::<u32>("json", 1).is_err());
    }

    #[test]
    fn the_usage_tells_every_option_and_every_scenario() {
        for name in NAMES.iter().chain(FLAGS) {
            assert!(USAGE.contains(&format!("\n  --{name} ")), "{name}");
        }
        for scenario in crate::load::scenario::NAMES {
            assert!(USAGE.contains(&format!("\n  {scenario} ")), "{scenario}");
        }
    }

    #[test]
    fn redis_may_want_a_login() {
        let redis = |url| Options::parse(&["--redis", url]).unwrap().redis().unwrap();
        assert_eq!(redis("redis://h").place, "h:6379");
        let secured = redis("redis://:p@127.0.0.1:7/0");
        assert_eq!(secured.place, "127.0.0.1:7");
        assert_eq!(secured.login, Some((String::new(), "p".to_owned())));
        assert_eq!(redis("unix:/a/b").place, "/a/b");
    }
}
