//! The command line: `trunkline [serve | demo | load | check-config | doctor]`.

use std::process::ExitCode;

use trunkline::boot::{self, BootError, Surroundings};
use trunkline::config::{self, Config};
use trunkline::demo::{self, Demo};
use trunkline::io::database::Database;
use trunkline::io::postgres::PostgresDatabase;
use trunkline::{doctor, load, log};

/// The command line or the configuration is wrong (`EX_USAGE` of sysexits.h).
const WRONG_USAGE: u8 = 64;
/// The server could not start, or failed.
const FAILED: u8 = 1;

const USAGE: &str = "\
Usage: trunkline [COMMAND]

Commands:
  serve         stream, configured by the environment and .env.production (default)
  demo          show live timelines on a machine without Redis and Postgres
                  --rate N    events a second (default 3)
                  --port N    port of the page and the API (default 4000)
  load          put a server under load and measure it; `trunkline load help` says how
  check-config  print the configuration that holds, without secrets, or every error in it
  doctor        look at the kernel, limits, Redis and Postgres; say what to change, why and how
                  --clients N clients that the host is to hold (default 10000)
                  --json      for scripts; exit code 0 fine, 1 to change, 2 broken
                  --pid N     the server that is looked at (default: the one that runs)
  version       print the version
  help          print this
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["serve"] => serve(),
        ["check-config"] => check_config(),
        ["demo", options @ ..] => demo(options),
        ["load", words @ ..] => load(words),
        ["doctor", options @ ..] => doctor(options),
        ["version" | "--version" | "-V"] => {
            println!("trunkline {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Reads the configuration, or reports every error in it.
fn configured() -> Result<Config, ExitCode> {
    match config::load_from_process() {
        Ok((config, warnings)) => {
            log::set_level(config.log_level);
            for warning in warnings {
                log::warn(&warning.to_string(), &[]);
            }
            Ok(config)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Err(ExitCode::from(WRONG_USAGE))
        }
    }
}

fn serve() -> ExitCode {
    let config = match configured() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (postgres, limits) = (config.postgres.clone(), config.limits.clone());
    let database = Box::new(move |resolver| {
        let database =
            PostgresDatabase::new(&postgres, &limits, resolver).map_err(std::io::Error::other)?;
        Ok(Box::new(database) as Box<dyn Database>)
    });
    finish(boot::run(config, Surroundings { database, front_page: None }))
}

fn demo(arguments: &[&str]) -> ExitCode {
    let options = match demo::Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprint!("{error}\n\n{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let config = match configured() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Demo { config, accounts, page, banner, running } = match demo::prepare(options, config) {
        Ok(demo) => demo,
        Err(error) => {
            eprintln!("the demonstration cannot start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    eprint!("{banner}");
    let database = Box::new(move |_| Ok(Box::new(accounts) as Box<dyn Database>));
    let outcome = boot::run(config, Surroundings { database, front_page: Some(page) });
    drop(running);
    finish(outcome)
}

fn load(words: &[&str]) -> ExitCode {
    match load::run(words) {
        load::Outcome::Fine => ExitCode::SUCCESS,
        load::Outcome::Wrong | load::Outcome::Failed => ExitCode::from(FAILED),
        load::Outcome::Usage => ExitCode::from(WRONG_USAGE),
    }
}

fn check_config() -> ExitCode {
    match configured() {
        Ok(config) => {
            print!("{}", config.effective());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn doctor(arguments: &[&str]) -> ExitCode {
    let options = match doctor::Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprint!("{error}\n\n{USAGE}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let report = doctor::run(options);
    print!("{}", if options.json { report.json() } else { report.to_string() });
    ExitCode::from(report.exit_code())
}

fn finish(outcome: Result<(), BootError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal(&error.to_string(), &[]);
            match error {
                BootError::Unfit(_) => ExitCode::from(WRONG_USAGE),
                _ => ExitCode::from(FAILED),
            }
        }
    }
}
