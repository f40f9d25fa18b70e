//! A machine that exists in a test only: its variables, files, host names and user.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use trunkline::config::surroundings::Surroundings;
use trunkline::config::{Config, ConfigErrors, load};

/// The machine. Its user is `streamer`, number 1234, at home in `/home/streamer`; the process has
/// number 4321.
pub struct Machine {
    pub variables: BTreeMap<String, String>,
    /// `None`: may not be read.
    files: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Machine {
    pub fn new(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let passwd = "root:x:0:0::/root:/bin/sh\nstreamer:x:1234:1234::/home/streamer:/bin/sh\n";
        Self { variables: variables.collect(), files: BTreeMap::new() }.file("/etc/passwd", passwd)
    }

    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), Some(content.as_ref().to_vec()));
        self
    }

    pub fn unreadable(mut self, path: &str) -> Self {
        self.files.insert(path.into(), None);
        self
    }
}

impl Surroundings for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.files.get(path) {
            Some(Some(content)) => Ok(content.clone()),
            Some(None) => Err(io::ErrorKind::PermissionDenied.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn resolve(&self, host: &str) -> io::Result<IpAddr> {
        match host {
            "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
            "streaming.internal" => Ok(IpAddr::from([10, 1, 2, 3])),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn user_id(&self) -> u32 {
        1234
    }

    fn process_id(&self) -> u32 {
        4321
    }
}

/// The configuration of a production machine with this environment file.
pub fn good(file: &str) -> Config {
    let machine = production(file);
    match load(&machine.variables, &machine) {
        Ok((config, _)) => config,
        Err(errors) => panic!("{file}\n{errors}"),
    }
}

/// The errors of a production machine with this environment file.
pub fn bad(file: &str) -> ConfigErrors {
    let machine = production(file);
    load(&machine.variables, &machine).expect_err(file)
}

fn production(file: &str) -> Machine {
    Machine::new(&[("NODE_ENV", "production")]).file(".env.production", file)
}
