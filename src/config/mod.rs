//! What we were told: the environment that an existing Mastodon installation already has, read
//! whole, checked whole, before anything is bound. [`mod@env`] has every name, the README what they
//! do.

pub mod cores;
pub mod dotenv;
pub mod env;
pub mod limits;
pub mod listen;
pub mod postgres;
mod postgres_given;
pub mod problem;
pub mod reader;
pub mod redis;
pub mod secret;
pub mod service_manager;
pub mod surroundings;
pub mod tls;
mod typed;
mod url;
mod user;

use std::path::Path;
use std::time::Duration;

use crate::log::Level;
pub use cores::{CoresConfig, DriverChoice, Pin};
use env::{Origin, ProcessEnvironment, Strings, WithFile};
pub use limits::Limits;
pub use listen::{Listen, PortSharing, TrustedProxies};
pub use postgres::PostgresConfig;
pub use problem::{ConfigError, ConfigErrors, Warning};
use reader::Reader;
pub use reader::Setting;
pub use redis::RedisConfig;
pub use secret::Secret;
use service_manager::ServiceManager;
use surroundings::{RealSurroundings, Surroundings};

/// The whole configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect (`PORT`, `BIND`, `SOCKET`).
    pub listen: Listen,
    /// Whether others may listen there, too (`TRUNKLINE_SHARE_PORT`).
    pub port_sharing: PortSharing,
    /// Whose `X-Forwarded-For` is believed (`TRUSTED_PROXY_IP`).
    pub trusted_proxies: TrustedProxies,
    /// The least severe level that is logged (`LOG_LEVEL`).
    pub log_level: Level,
    /// Redis (`REDIS_*`).
    pub redis: RedisConfig,
    /// Postgres (`DATABASE_URL`, `DB_*`).
    pub postgres: PostgresConfig,
    /// Threads and processors (`TRUNKLINE_SHARDS`, `TRUNKLINE_CPUS`, `TRUNKLINE_CONTROL_CPU`,
    /// `TRUNKLINE_PIN`).
    pub cores: CoresConfig,
    /// What turns the cores (`TRUNKLINE_IO`).
    pub driver: DriverChoice,
    /// How long SIGTERM spreads the closes over (`TRUNKLINE_DRAIN_SECS`, default 10).
    pub drain_window: Duration,
    /// The service manager (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).
    pub service_manager: ServiceManager,
    /// Every bound.
    pub limits: Limits,
    /// What was read, in order and without secrets: for [`Config::effective`].
    pub settings: Vec<Setting>,
}

/// Reads the configuration of this process: its environment, and the environment file in the
/// working directory.
///
/// # Errors
///
/// Every variable that cannot be used, at once.
pub fn load_from_process() -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load(&ProcessEnvironment, &RealSurroundings)
}

/// As [`load_from_process`], of any environment.
///
/// # Errors
///
/// Every variable that cannot be used, at once.
pub fn load(
    environment: &dyn Strings,
    surroundings: &dyn Surroundings,
) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    // A wrong mode is reported by `Config::read`.
    let file_name = Mode::find(environment).unwrap_or_default().file_name();
    let (text, warning) = match surroundings.read(Path::new(file_name)) {
        Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (String::new(), None),
        // systemd may have read it for us, as root (`EnvironmentFile=`): Node goes on without a
        // word.
        Err(error) => {
            let text = format!("cannot be read and is ignored: {error}");
            (String::new(), Some(Warning { name: file_name.to_owned(), text }))
        }
    };
    let (config, mut warnings) =
        Config::read(&WithFile::new(environment, file_name, &text), surroundings)?;
    warnings.splice(0..0, warning);
    Ok((config, warnings))
}

/// Which defaults hold (`NODE_ENV`, else `RAILS_ENV`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// A server for people.
    Production,
    /// A developer's machine.
    #[default]
    Development,
}

impl Mode {
    const WORDS: [(&str, Self); 2] =
        [("production", Self::Production), ("development", Self::Development)];

    /// The mode, or `None` if a word is set that names none.
    fn find(environment: &dyn Strings) -> Option<Self> {
        for name in [env::NODE_ENV, env::RAILS_ENV] {
            if let Some((text, _)) =
                environment.get(name).ok()?.filter(|(text, _)| !text.is_empty())
            {
                return typed::word(&text, &Self::WORDS).ok();
            }
        }
        Some(Self::default())
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::Production => ".env.production",
            Self::Development => ".env",
        }
    }

    fn read(reader: &mut Reader) -> Self {
        let node = reader.text(env::NODE_ENV);
        let rails = reader.text(env::RAILS_ENV);
        let (name, told) = match (node, rails) {
            (None, Some(told)) => (env::RAILS_ENV, Some(told)),
            (told, _) => (env::NODE_ENV, told),
        };
        let origin = told.as_ref().map_or(Origin::Default, |told| told.origin);
        let text = told.map_or_else(|| "development".to_owned(), |told| told.text);
        let mode = typed::word(&text, &Self::WORDS).unwrap_or_else(|problem| {
            reader.error(name, &text, problem);
            Self::default()
        });
        reader.record(name, typed::show_word(mode, &Self::WORDS), origin);
        mode
    }
}

impl Config {
    /// Reads every variable.
    ///
    /// # Errors
    ///
    /// Every variable that cannot be used, at once.
    pub fn read(
        strings: &dyn Strings,
        surroundings: &dyn Surroundings,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let mut reader = Reader::new(strings, surroundings);
        let mode = Mode::read(&mut reader);
        let listen = Listen::read(&mut reader);
        let port_sharing = PortSharing::read(&mut reader);
        let trusted_proxies = TrustedProxies::read(&mut reader);
        let log_level = read_log_level(&mut reader, mode);
        let extra_roots = tls::read_extra_roots(&mut reader);
        let postgres = PostgresConfig::read(&mut reader, mode, &extra_roots);
        let redis = RedisConfig::read(&mut reader, &extra_roots);
        let cores = CoresConfig::read(&mut reader);
        let driver = DriverChoice::read(&mut reader);
        let drain_window = read_drain_window(&mut reader);
        let service_manager = ServiceManager::read(&mut reader);
        let limits = Limits::read(&mut reader);
        warn_of_misspelt(&mut reader);

        let Reader { settings, errors, warnings, .. } = reader;
        match (listen, redis, postgres) {
            (Some(listen), Some(redis), Some(postgres)) if errors.is_empty() => {
                let config = Self {
                    listen,
                    port_sharing,
                    trusted_proxies,
                    log_level,
                    redis,
                    postgres,
                    cores,
                    driver,
                    drain_window,
                    service_manager,
                    limits,
                    settings,
                };
                Ok((config, warnings))
            }
            _ => Err(ConfigErrors(errors)),
        }
    }

    /// The configuration that holds, for `trunkline check-config`: a line `NAME = value  # origin`
    /// each, in the order in which they are read, secrets as `[set]`.
    pub fn effective(&self) -> String {
        let lines = self.settings.iter().map(|setting| {
            let Setting { name, value, origin } = setting;
            // A value may have come out of quotes with line breaks: one line stays one line.
            let value = value.replace(char::is_control, "\u{fffd}");
            format!("{name} = {value}  # {origin}\n")
        });
        lines.collect()
    }
}

fn read_log_level(reader: &mut Reader, mode: Mode) -> Level {
    const WORDS: [(&str, Level); 7] = [
        ("trace", Level::Trace),
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("error", Level::Error),
        ("fatal", Level::Fatal),
        ("silent", Level::Silent),
    ];
    let default = match mode {
        Mode::Production => Level::Info,
        Mode::Development => Level::Debug,
    };
    let parse = |text: &str| typed::word(text, &WORDS);
    reader.value(env::LOG_LEVEL, default, parse, |level| typed::show_word(*level, &WORDS))
}

/// Ends before the 15 s of the stock unit's `TimeoutSec` by default.
fn read_drain_window(reader: &mut Reader) -> Duration {
    let range = Duration::ZERO..=Duration::from_secs(3600);
    let parse = |text: &str| typed::seconds(text, &range);
    let default = Duration::from_secs(10);
    reader.value(env::TRUNKLINE_DRAIN_SECS, default, parse, typed::show_seconds)
}

fn warn_of_misspelt(reader: &mut Reader) {
    reader.warn_of_unknown(env::TRUNKLINE_PREFIX, |name| {
        let is_limit = || Limits::NAMES.iter().any(|field| limits::variable(field) == name);
        env::OWN_NAMES.contains(&name) || is_limit()
    });
}
