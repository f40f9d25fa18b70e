//! From a configuration to running cores: a list of calls.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::config::{self, Config};
use crate::hub::shard::{Settings, Shard};
use crate::io::clock::Clock;
use crate::io::control::{ControlCore, MakeDatabase, Parts};
use crate::io::cores::{self, Plan};
use crate::io::driver::{Core, Driver};
use crate::io::listener::Listeners;
use crate::io::mesh::mesh;
use crate::io::service_manager::ServiceManager;
use crate::io::shard::ShardCore;
use crate::io::shared::SharedCore;
use crate::io::signals::Signals;
use crate::log;

/// Why the server could not start, or ended otherwise than by being told to.
#[derive(Debug)]
pub enum BootError {
    /// What was asked for cannot be had on this machine.
    Unfit(String),
    /// The address cannot be listened on.
    Listen(String, io::Error),
    /// The kernel refused something else.
    System(&'static str, io::Error),
    /// A core ended by itself: a defect of ours.
    Core(String),
}

impl fmt::Display for BootError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Unfit(reason) => formatter.write_str(reason),
            BootError::Listen(address, error) => write!(formatter, "listen on {address}: {error}"),
            BootError::System(what, error) => write!(formatter, "{what}: {error}"),
            BootError::Core(what) => formatter.write_str(what),
        }
    }
}

/// What the server is made of beside its configuration.
pub struct Surroundings {
    /// Makes the database on the control core's thread.
    pub database: MakeDatabase,
    /// The demonstration's page.
    pub front_page: Option<Arc<[u8]>>,
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// See [`BootError`].
pub fn run(config: Config, surroundings: Surroundings) -> Result<(), BootError> {
    log::set_level(config.log_level);
    let clock = Clock::start();
    let signals = Signals::catch().map_err(|error| BootError::System("signals", error))?;
    let plan = Plan::make(&config.cores).map_err(BootError::Unfit)?;
    let driver = choose_driver(&config, plan.shard_cpus.len() + 1)?;
    let descriptors = cores::raise_descriptor_limit();
    let shards = plan.shard_cpus.len();
    let for_clients =
        cores::descriptors_for_clients(descriptors, shards + 1, config.postgres.pool_size);
    let limits = config.limits.of_shard(shards, for_clients);
    let clients_max = limits.connections_max * shards;
    let listeners = listen(&config, plan.shard_cpus.len())?;
    let (links, bell, control_links) = mesh(plan.shard_cpus.len(), &config.limits)
        .map_err(|error| BootError::System("mesh", error))?;

    let settings = Arc::new(Settings {
        limits,
        trusted_proxies: config.trusted_proxies,
        front_page: surroundings.front_page,
    });
    let make_shard = |(index, (listener, link))| {
        let settings = Arc::clone(&settings);
        move || {
            let shard = Shard::new(index, settings, fastrand::u64(..), clock.now());
            ShardCore::new(shard, listener, link, clock)
        }
    };
    let shards = listeners.sockets.into_iter().zip(control_links).enumerate().map(make_shard);
    let parts = Parts {
        limits: config.limits,
        redis: config.redis,
        drain_window: config.drain_window,
        service_manager: service_manager(&config.service_manager),
        links,
        bell,
        signals,
        clock,
        database: surroundings.database,
        driver: driver.name(),
    };
    let endings = start(&plan, driver, clock, shards, move || ControlCore::new(parts))?;

    log::info(
        &format!("Streaming API now listening on {}", listeners.address),
        &[
            ("shards", plan.shard_cpus.len().into()),
            ("driver", driver.name().into()),
            ("descriptors", descriptors.unwrap_or(u64::MAX).into()),
            ("clientsMax", clients_max.into()),
        ],
    );
    let outcome = wait(&endings);
    if let Some(path) = &listeners.unix_path {
        remove_socket(path);
    }
    outcome
}

/// The control core's name; it is the one whose end ends the server.
const CONTROL: &str = "control";

/// Starts a thread for each core, or one for two that share a processor.
fn start<MakeShard: FnOnce() -> io::Result<ShardCore> + Send + 'static>(
    plan: &Plan,
    driver: Driver,
    clock: Clock,
    shards: impl Iterator<Item = MakeShard>,
    make_control: impl FnOnce() -> io::Result<ControlCore> + Send + 'static,
) -> Result<Receiver<Ending>, BootError> {
    let (ended, endings) = unbounded();
    let mut companion = None;
    for (index, (make_shard, cpu)) in shards.zip(&plan.shard_cpus).enumerate() {
        if plan.control_shard == Some(index) {
            companion = Some(make_shard);
        } else {
            let name = format!("shard-{index}");
            spawn(name, *cpu, driver, clock, ended.clone(), make_shard)?;
        }
    }
    let (name, cpu) = (CONTROL.to_owned(), plan.control_cpu);
    match companion {
        None => spawn(name, cpu, driver, clock, ended, make_control)?,
        Some(make_shard) => {
            let make = move || SharedCore::new(make_control()?, make_shard()?, clock);
            spawn(name, cpu, driver, clock, ended, make)?;
        }
    }
    Ok(endings)
}

fn service_manager(config: &config::service_manager::ServiceManager) -> ServiceManager {
    ServiceManager::connect(config).unwrap_or_else(|error| {
        log::warn("Cannot tell the service manager", &[("error", log::Value::Shown(&error))]);
        ServiceManager::nobody()
    })
}

fn choose_driver(config: &Config, cores: usize) -> Result<Driver, BootError> {
    let (driver, warning) = Driver::choose(config.driver, cores).map_err(|reason| {
        BootError::Unfit(format!("TRUNKLINE_IO=glommio: {reason}; see tuning/io_uring.md"))
    })?;
    if let Some(reason) = warning {
        log::warn(
            "Running on epoll instead of io_uring; see tuning/io_uring.md",
            &[("reason", (&reason).into())],
        );
    }
    Ok(driver)
}

fn listen(config: &Config, shards: usize) -> Result<Listeners, BootError> {
    let address = match &config.listen {
        crate::config::Listen::Tcp(address) => address.to_string(),
        crate::config::Listen::Unix(path) => path.display().to_string(),
    };
    let unacknowledged_max = config.limits.unacknowledged_secs_max;
    Listeners::bind(&config.listen, config.port_sharing, shards, unacknowledged_max)
        .map_err(|error| BootError::Listen(address, error))
}

/// How a core ended.
struct Ending {
    name: String,
    outcome: Result<(), String>,
}

/// Starts a thread that makes a core and turns it until it ends.
fn spawn<C: Core + 'static>(
    name: String,
    cpu: Option<usize>,
    driver: Driver,
    clock: Clock,
    ended: Sender<Ending>,
    make: impl FnOnce() -> io::Result<C> + Send + 'static,
) -> Result<(), BootError> {
    let turn = move || {
        if let Some(cpu) = cpu
            && let Err(error) = cores::pin(cpu)
        {
            let fields = [("cpu", cpu.into()), ("error", log::Value::Shown(&error))];
            log::warn("Cannot pin a core to its processor", &fields);
        }
        make().and_then(|mut core| driver.drive(&mut core, clock))
    };
    let thread = thread::Builder::new().name(name.clone());
    let body = move || {
        let outcome = match catch_unwind(AssertUnwindSafe(turn)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("core {name} failed: {error}")),
            Err(_) => Err(format!("core {name} panicked")),
        };
        // Nobody listens any more when the process is on its way out.
        let _ = ended.send(Ending { name, outcome });
    };
    thread.spawn(body).map(drop).map_err(|error| BootError::System("thread", error))
}

/// Waits until the control core has ended, or any core has failed.
fn wait(endings: &Receiver<Ending>) -> Result<(), BootError> {
    loop {
        match endings.recv() {
            Ok(Ending { outcome: Err(what), .. }) => return Err(BootError::Core(what)),
            Ok(Ending { name, outcome: Ok(()) }) if name == CONTROL => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(BootError::Core(error.to_string())),
        }
    }
}

fn remove_socket(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log::warn("Cannot remove the socket", &[("error", log::Value::Shown(&error))]);
    }
}
