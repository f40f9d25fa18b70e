//! `trunkline demo`: the real server between an embedded broker and embedded accounts, so that live
//! timelines can be watched on a machine with neither Redis nor Postgres. Nothing here is reachable
//! from `serve`.
//!
//! ```text
//!   story ─► publisher ──RESP──► broker ──RESP──► the server ──► the page, curl, any client
//!   (what happens)               ▲                    ▲
//!                                └─ redis-cli         └─ accounts (in place of Postgres)
//! ```

pub mod accounts;
pub mod broker;
pub mod cast;
mod page;
pub mod publisher;
pub mod story;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use self::accounts::{Accounts, Tokens, username};
use self::broker::Broker;
use self::cast::READERS;
use self::publisher::Publisher;
use crate::config::redis::{HostPort, RedisTarget};
use crate::config::{Config, Listen, RedisConfig};

/// What the command line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Average number of events a second (`--rate`).
    pub rate: f64,
    /// Where to listen instead of what the configuration says (`--port`).
    pub port: Option<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Options { rate: 3.0, port: None }
    }
}

impl Options {
    /// Reads the arguments behind `demo`: `--rate NUMBER` and `--port NUMBER`, or with `=` in
    /// between.
    ///
    /// # Errors
    ///
    /// A sentence for the person who typed them.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let mut options = Options::default();
        let mut arguments = arguments.iter().copied();
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, value),
                None => (argument, arguments.next().unwrap_or_default()),
            };
            match name {
                "--rate" => options.rate = Options::rate(value)?,
                "--port" => options.port = Some(Options::port(value)?),
                _ => return Err(format!("{name:?} is unknown; known are --rate and --port")),
            }
        }
        Ok(options)
    }

    fn rate(value: &str) -> Result<f64, String> {
        let rate = value.parse().ok().filter(|rate| *rate > 0.0 && *rate <= publisher::RATE_MAX);
        rate.ok_or_else(|| format!("--rate wants events a second, up to 1000, not {value:?}"))
    }

    fn port(value: &str) -> Result<u16, String> {
        value.parse().map_err(|_| format!("--port wants a number up to 65535, not {value:?}"))
    }
}

/// Everything that differs from a real server.
pub struct Demo {
    /// The configuration that was given, with Redis replaced by the embedded broker.
    pub config: Config,
    /// In place of Postgres.
    pub accounts: Accounts,
    /// The page at `/`: UTF-8 HTML.
    pub page: Arc<[u8]>,
    /// What to tell the person at the terminal, once the server listens: not for the log, as it
    /// holds tokens.
    pub banner: String,
    /// To be kept while the server runs; dropping it ends the broker and the publisher.
    pub running: Running,
}

/// The threads of the demonstration.
pub struct Running {
    // Dropped in this order: the publisher first, so that it does not see its broker vanish.
    _publisher: Publisher,
    _broker: Broker,
}

/// Starts the broker and the publisher and draws new tokens. Where to listen, threads and limits
/// stay as `config` says.
///
/// # Errors
///
/// The kernel refuses a socket, a pipe, a thread or random bytes.
pub fn prepare(options: Options, mut config: Config) -> io::Result<Demo> {
    let tokens = Tokens::draw()?;
    let broker = Broker::start()?;
    let publisher = Publisher::start(broker.address(), options.rate)?;
    let address = broker.address();
    if let Some(port) = options.port {
        let ip = match config.listen {
            Listen::Tcp(address) => address.ip(),
            Listen::Unix(_) => Ipv4Addr::LOCALHOST.into(),
        };
        config.listen = Listen::Tcp(SocketAddr::new(ip, port));
    }
    config.redis = RedisConfig {
        target: RedisTarget::Tcp(HostPort { host: address.ip().to_string(), port: address.port() }),
        user: None,
        password: None,
        database: 0,
        tls: None,
        namespace: None,
    };
    Ok(Demo {
        banner: banner(&config.listen, &tokens, address.port()),
        page: page::page(&tokens, address.port(), options.rate),
        accounts: Accounts::new(tokens),
        config,
        running: Running { _publisher: publisher, _broker: broker },
    })
}

fn banner(listen: &Listen, tokens: &Tokens, broker_port: u16) -> String {
    let (url, curl) = match listen {
        Listen::Tcp(address) => {
            let url = match address.ip() {
                IpAddr::V4(ip) if !ip.is_unspecified() => format!("http://{address}"),
                IpAddr::V6(ip) if !ip.is_unspecified() => format!("http://{address}"),
                _ => format!("http://localhost:{}", address.port()),
            };
            (url.clone(), format!("curl -N {url}"))
        }
        Listen::Unix(path) => (
            "http://localhost".to_owned(),
            format!("curl -N --unix-socket {} http://localhost", path.display()),
        ),
    };
    let token = tokens.iter().next().map_or("", |(_, token)| token.reveal());
    let mut text = String::from(FRAME);
    let _ =
        write!(text, "\n  Watch it live:  {url}/\n\n  Who reads, and their tokens for this run:\n");
    for (reader, token) in tokens.iter() {
        let about = READERS.get(reader).map_or("", |reader| reader.about);
        let (name, token) = (username(reader), token.reveal());
        let _ = write!(text, "    {name:<6} {token}\n           {about}\n");
    }
    let _ = write!(
        text,
        "\n  Server-sent events:\n    \
         {curl}/api/v1/streaming/public -H 'Authorization: Bearer {token}'\n\
         \n  WebSocket (with websocat, or `npx wscat -c`):\n    \
         websocat '{}/api/v1/streaming?stream=user&access_token={token}'\n\
         \n  Publish something yourself, or end every connection of {}:\n    \
         redis-cli -p {broker_port} PUBLISH timeline:public '{HELLO}'\n    \
         redis-cli -p {broker_port} PUBLISH timeline:access_token:{} '{{\"event\":\"kill\"}}'\n\
         \n  Metrics:\n    {curl}/metrics\n\n",
        url.replacen("http", "ws", 1),
        username(0),
        Tokens::id(0),
    );
    text
}

const FRAME: &str = "
  ╔═════════════════════════════════════════════════════════════════════════╗
  ║   D E M O N S T R A T I O N                                             ║
  ║   A real Trunkline server, but the broker, the accounts and everything  ║
  ║   they say are invented, and gone when it stops. Not for real users.    ║
  ╚═════════════════════════════════════════════════════════════════════════╝
";

/// The smallest status that every check can be made on.
const HELLO: &str = concat!(
    r#"{"event":"update","payload":{"id":"1","language":"en","#,
    r#""content":"<p>Hello from redis-cli!</p>","#,
    r#""account":{"id":"1","username":"you","acct":"you","display_name":"You"}}}"#,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn rate_and_port_are_read_and_nothing_else_is_known() {
        let options = |rate, port| Ok(Options { rate, port });
        assert_eq!(Options::parse(&[]), options(3.0, None));
        assert_eq!(Options::parse(&["--rate", "0.5"]), options(0.5, None));
        assert_eq!(Options::parse(&["--port=80", "--rate=20"]), options(20.0, Some(80)));
        for wrong in ["--rate", "--rate=x", "--rate=0", "--rate=NaN", "--rates=1", "--port=65536"] {
            assert!(Options::parse(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_redis_and_the_accounts_are_replaced() {
        let environment: BTreeMap<String, String> =
            [("PORT", "4999"), ("REDIS_URL", "rediss://:secret@redis.example:1/5")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let (config, _) =
            config::load(&environment, &config::surroundings::RealSurroundings).unwrap();
        let options = Options { port: Some(4998), ..Options::default() };
        let demo = prepare(options, config.clone()).unwrap();
        assert_eq!(demo.config.listen, Listen::Tcp(([127, 0, 0, 1], 4998).into()));
        assert_eq!(demo.config.limits, config.limits);
        let RedisConfig { target, password, database, tls, .. } = &demo.config.redis;
        assert!(password.is_none() && tls.is_none() && *database == 0);
        let RedisTarget::Tcp(HostPort { host, port }) = target else { panic!("{target:?}") };
        let mut broker = TcpStream::connect((host.as_str(), *port)).unwrap();
        broker.write_all(b"PING\r\n").unwrap();
        let mut answer = [0; 7];
        broker.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");

        assert!(demo.banner.contains("D E M O N S T R A T I O N"));
        assert!(demo.banner.contains("http://127.0.0.1:4998/"));
        assert!(demo.banner.contains(&format!("redis-cli -p {port} PUBLISH")));
        assert!(serde_json::from_str::<serde_json::Value>(HELLO).is_ok());
        drop(demo.running);
        assert_eq!(broker.read(&mut answer).unwrap_or(0), 0, "the broker ended");
    }
}
